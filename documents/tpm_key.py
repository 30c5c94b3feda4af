# SPDX-License-Identifier: Apache-2.0
"""A publisher's signing key that a TPM made: what the TPM needs to load it again. Without that TPM it is worth nothing.

This module does no I/O and does not read what the TPM wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields, encode_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmKey(Document):
    """A key below a TPM's storage key.

    Attributes:
        name: what the key was called when it was made, such as ``timestamp-1``; shown where its PIN is asked for.
        public: TPM2B_PUBLIC.
        private: TPM2B_PRIVATE, encrypted by the TPM.
    """

    TYPE: ClassVar[str] = "vmgate.tpm-key"
    LIMIT: ClassVar[int] = 10_000

    name: str
    public: bytes
    private: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            name=fields.take_name("name"),
            public=fields.take_bytes("public", 1_000),
            private=fields.take_bytes("private", 2_000),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"name": self.name, "public": encode_bytes(self.public), "private": encode_bytes(self.private)}
