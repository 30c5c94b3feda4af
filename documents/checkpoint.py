# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of a VM: what its disks and its TPM were at one moment when it was off, as one signed list.

"Signed" is an HMAC under a key that follows from the VM's key, as of state records. This module computes no HMAC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import UUID, Fields, encode_bytes
from documents.release import MAX_NUMBER
from documents.state_record import MAC_SIZE
from documents.vm_set import IMAGE, MAX_PARTS, VTPM, VmPart

_CONTEXT = b"vmgate checkpoint\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Document):
    """One checkpoint of one VM.

    Attributes:
        vm: UUID of the VM.
        number: from 1; no two checkpoints of a VM on a host have one.
        time: seconds since 1970 UTC.
        definition: fs-verity digest of the definition that it had.
        endorsement: which TPM is the VM's (``VmTpm``).
        parts: as of a set, sorted by name; no images.
        mac: HMAC-SHA-256 over all of it but itself (``message``).
    """

    TYPE: ClassVar[str] = "vmgate.checkpoint"
    LIMIT: ClassVar[int] = 20_000

    vm: str
    number: int
    time: int
    definition: str
    endorsement: str
    parts: tuple[VmPart, ...]
    mac: bytes = bytes(MAC_SIZE)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        found = cls(
            vm=fields.take_text("vm", UUID, 36),
            number=fields.take_int("number", 1, MAX_NUMBER),
            time=fields.take_int("time", 0, 2**40),
            definition=fields.take_digest("definition"),
            endorsement=fields.take_digest("endorsement"),
            parts=fields.take_list("parts", VmPart.read, MAX_PARTS),
            mac=fields.take_bytes("mac", MAC_SIZE),
        )
        names = [part.name for part in found.parts]
        if names != sorted(set(names)):
            raise fields.wrong("parts", "is not sorted by name")
        if VTPM not in names or any(name.startswith(IMAGE) for name in names):
            raise fields.wrong("parts", "has no vtpm, or an image")
        if len(found.mac) != MAC_SIZE:
            raise fields.wrong("mac", f"has not {MAC_SIZE} bytes")
        return found

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "vm": self.vm,
            "number": self.number,
            "time": self.time,
            "definition": self.definition,
            "endorsement": self.endorsement,
            "parts": [part.members() for part in self.parts],
            "mac": encode_bytes(self.mac),
        }

    def message(self) -> bytes:
        """What the signature is over: all of it but itself."""
        return _CONTEXT + replace(self, mac=bytes(MAC_SIZE)).encode()
