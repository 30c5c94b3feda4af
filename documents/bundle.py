# SPDX-License-Identifier: Apache-2.0
"""The table of contents of an offline bundle.

A bundle carries no trust: it is a transport for the same files that a web server would give. Names are looked up,
never used as paths on the host. This module does not read bundles (``updater.bundle`` does).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields
from documents.release import MAX_LENGTH

ENTRY = re.compile(r"(metadata|targets|blobs|packs)(/(?!\.)[A-Za-z0-9._-]{1,120}){1,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleEntry:
    """One file: its name below the repository, and where its bytes lie after the index (bytes)."""

    name: str
    offset: int
    length: int

    @classmethod
    def read(cls, untrusted: Json) -> BundleEntry:
        """Read one entry."""
        fields = Fields(untrusted, "bundle entry")
        entry = cls(
            name=fields.take_text("name", ENTRY, 300),
            offset=fields.take_int("offset", 0, MAX_LENGTH),
            length=fields.take_int("length", 0, MAX_LENGTH),
        )
        fields.finish()
        return entry

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"name": self.name, "offset": self.offset, "length": self.length}


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleIndex(Document):
    """All entries, sorted by name and laid out without gaps in that order."""

    TYPE: ClassVar[str] = "vmgate.bundle"
    LIMIT: ClassVar[int] = 16_000_000

    entries: tuple[BundleEntry, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        index = cls(entries=fields.take_list("entries", BundleEntry.read, 100_000))
        names = [entry.name for entry in index.entries]
        if not names or names != sorted(set(names)):
            raise fields.wrong("entries", "is empty or not sorted by name")
        end = 0
        for entry in index.entries:
            if entry.offset != end:
                raise fields.wrong("entries", "leaves a gap or overlaps")
            end += entry.length
        return index

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"entries": [entry.members() for entry in self.entries]}

    @property
    def size(self) -> int:
        """Bytes of all entries together."""
        return sum(entry.length for entry in self.entries)
