# SPDX-License-Identifier: Apache-2.0
"""What goes round at a signing: metadata that waits for signatures, and those that it has.

It carries no trust: whoever signs reads what the metadata says, and whoever publishes checks every signature against
the repository. The metadata itself is opaque here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import HEX_SHA256, Fields, encode_bytes
from documents.release import Release

ROLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
FILE = re.compile(r"targets/releases/[a-z0-9][a-z0-9._-]{0,62}/[0-9a-f]{64}\.[a-z0-9]{1,10}\.json")
MAX_METADATA = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Keys of which so many must sign."""

    threshold: int
    keys: tuple[str, ...]

    @classmethod
    def read(cls, untrusted: Json) -> Wanted:
        """Read one."""
        fields = Fields(untrusted, "wanted signature")
        wanted = cls(
            threshold=fields.take_int("threshold", 1, 100), keys=fields.take_texts("keys", HEX_SHA256, 100, 64)
        )
        fields.finish()
        if wanted.threshold > len(wanted.keys):
            raise fields.wrong("threshold", "is more than there are keys")
        return wanted

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"threshold": self.threshold, "keys": list(self.keys)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningPart:
    """The metadata of one role.

    Attributes:
        role: whose; ``root`` may come twice, one version after the other.
        previous: SHA-256 of the signed part of the metadata that it follows.
        metadata: a TUF metadata file with the signatures that it has so far.
        wanted: each of these must be met; a new root needs its predecessor's keys and its own.
    """

    role: str
    previous: str
    metadata: bytes
    wanted: tuple[Wanted, ...]

    @classmethod
    def read(cls, untrusted: Json) -> SigningPart:
        """Read one."""
        fields = Fields(untrusted, "part")
        part = cls(
            role=fields.take_text("role", ROLE, 80),
            previous=fields.take_digest("previous"),
            metadata=fields.take_bytes("metadata", MAX_METADATA),
            wanted=fields.take_list("wanted", Wanted.read, 2),
        )
        fields.finish()
        if not part.wanted:
            raise fields.wrong("wanted", "is empty")
        return part

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {
            "role": self.role,
            "previous": self.previous,
            "metadata": encode_bytes(self.metadata),
            "wanted": [wanted.members() for wanted in self.wanted],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRequest(Document):
    """A change of a repository that waits for signatures.

    Attributes:
        purpose: what its maker says that it is for; nobody vouches for it.
        parts: in the order in which they are published.
        files: (name in the repository, bytes) of release documents that the metadata names for the first time.
    """

    TYPE: ClassVar[str] = "vmgate.signing-request"
    LIMIT: ClassVar[int] = 16_000_000

    purpose: str
    parts: tuple[SigningPart, ...]
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        request = cls(
            purpose=fields.take_text("purpose", limit=200),
            parts=fields.take_list("parts", SigningPart.read, 8),
            files=fields.take_list("files", _read_file, 4),
        )
        if not request.parts:
            raise fields.wrong("parts", "is empty")
        fields.require_distinct("files", [name for name, _ in request.files])
        fields.require_distinct("parts", [part.role for part in request.parts if part.role != "root"])
        return request

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "purpose": self.purpose,
            "parts": [part.members() for part in self.parts],
            "files": [{"name": name, "bytes": encode_bytes(data)} for name, data in self.files],
        }


def _read_file(untrusted: Json) -> tuple[str, bytes]:
    fields = Fields(untrusted, "file")
    pair = (fields.take_text("name", FILE, 200), fields.take_bytes("bytes", Release.LIMIT))
    fields.finish()
    return pair
