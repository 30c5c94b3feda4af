# SPDX-License-Identifier: Apache-2.0
"""The recovery key's public half, as a host keeps it, and the VM keys that its private half opened.

The private half is on no host and in no document. This module encrypts nothing (``keys.recovery`` does).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import UUID, Fields, encode_bytes

MAX_VMS = 1_000
"""The most VMs whose keys one recovery hands over."""

VM_KEY_BYTES = 32
SEAL_BYTES = 32
MAX_TIME = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryKey(Document):
    """The public half of a recovery key.

    Attributes:
        id: SHA-256 of ``public``, hexadecimal.
        public: SubjectPublicKeyInfo (RFC 5280) in DER, on P-256.
        created: seconds since 1970 UTC.
        seal: HMAC-SHA256 by which the host that installed it knows it again; empty, and absent, in a file that travels.
    """

    TYPE: ClassVar[str] = "vmgate.recovery-key"
    LIMIT: ClassVar[int] = 2_000

    id: str
    public: bytes
    created: int
    seal: bytes = b""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        says_seal = fields.has("seal")
        key = cls(
            id=fields.take_digest("id"),
            public=fields.take_bytes("public", 200),
            created=fields.take_int("created", 0, MAX_TIME),
            seal=fields.take_bytes("seal", SEAL_BYTES) if says_seal else b"",
        )
        if key.id != hashlib.sha256(key.public).hexdigest():
            raise fields.wrong("id", "is not the digest of the key")
        if says_seal and len(key.seal) != SEAL_BYTES:
            raise fields.wrong("seal", f"is not {SEAL_BYTES} bytes")
        return key

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "id": self.id,
            "public": encode_bytes(self.public),
            "created": self.created,
            **({"seal": encode_bytes(self.seal)} if self.seal else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecoveredKey:
    """The key of one VM in the clear.

    Attributes:
        uuid: the VM.
        copy: SHA-256 of the recovery copy that it came from, hexadecimal.
        key: 32 bytes.
    """

    uuid: str
    copy: str
    key: bytes

    @classmethod
    def read(cls, untrusted: Json) -> RecoveredKey:
        """Read one key."""
        fields = Fields(untrusted, "recovered key")
        item = cls(
            uuid=fields.take_text("uuid", UUID, 36),
            copy=fields.take_digest("copy"),
            key=fields.take_bytes("key", VM_KEY_BYTES),
        )
        if len(item.key) != VM_KEY_BYTES:
            raise fields.wrong("key", f"is not {VM_KEY_BYTES} bytes")
        fields.finish()
        return item

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"uuid": self.uuid, "copy": self.copy, "key": encode_bytes(self.key)}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecoveredKeys(Document):
    """VM keys on their way from the command that opened them to the agent. It is never stored.

    Attributes:
        recovery: id of the recovery key.
        keys: of different VMs, at least one.
    """

    TYPE: ClassVar[str] = "vmgate.recovered-keys"
    LIMIT: ClassVar[int] = 300_000

    recovery: str
    keys: tuple[RecoveredKey, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        found = cls(recovery=fields.take_digest("recovery"), keys=fields.take_list("keys", RecoveredKey.read, MAX_VMS))
        fields.require_distinct("keys", [item.uuid for item in found.keys])
        if not found.keys:
            raise fields.wrong("keys", "is empty")
        return found

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"recovery": self.recovery, "keys": [item.members() for item in self.keys]}
