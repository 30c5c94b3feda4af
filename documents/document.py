# SPDX-License-Identifier: Apache-2.0
"""What all documents share: a type, a version, a bound, strict ``parse`` and canonical ``encode``.

A document's dataclass says only which members it has (``members``) and how they are read (``read``). This module does
no I/O and trusts nothing: a parsed document is well formed, not authentic.
"""

from __future__ import annotations

from typing import ClassVar, Self

from documents.canonical import Json, encode
from documents.fields import Fields, open_document, open_object


class Document:
    """One format. Subclasses are frozen dataclasses."""

    __slots__ = ()

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    LIMIT: ClassVar[int]
    """The most bytes that are parsed."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the members; ``parse`` has checked type and version and refuses what is left over."""
        raise TypeError(f"{cls.__name__} does not say how it is read")

    def members(self) -> dict[str, Json]:
        """The members besides type and version."""
        raise TypeError(f"{type(self).__name__} does not say what it holds")

    @classmethod
    def parse(cls, untrusted_bytes: bytes) -> Self:
        """Read canonical bytes.

        Raises:
            DocumentError: malformed, of another type, or with unknown or missing members.
            DocumentTooLarge: more than ``LIMIT`` bytes; nothing was parsed.
            DocumentNewer: written by a newer vmgate.
        """
        return cls._read_whole(open_document(untrusted_bytes, cls.TYPE, cls.VERSION, cls.LIMIT))

    @classmethod
    def take(cls, untrusted: Json) -> Self:
        """Read one that stands as an object in a larger document, which was decoded and bounded.

        Raises:
            DocumentError: see ``parse``.
        """
        return cls._read_whole(open_object(untrusted, cls.TYPE, cls.VERSION))

    @classmethod
    def _read_whole(cls, fields: Fields) -> Self:
        document = cls.read(fields)
        fields.finish()
        return document

    def encode(self) -> bytes:
        """The canonical bytes; ``parse`` of them gives an equal document."""
        return encode({"type": self.TYPE, "version": self.VERSION, **self.members()})
