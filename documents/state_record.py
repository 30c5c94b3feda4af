# SPDX-License-Identifier: Apache-2.0
"""What a host knows of a disk that a guest writes and keeps: which file it is, and how it was left.

The host signs a record with a key that follows from the VM's own, which its TPM opens in states that the publisher
signed; nobody else has to believe it. This module computes and checks no signature (``agent.disk_records`` does).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import UUID, Fields, encode_bytes
from documents.release import MAX_NUMBER

BOUND_CLASSES = ("persistent", "sealed")
"""Classes of disks that have a record."""

STATES = ("new", "open", "closed")
"""``new``: no guest has seen the disk, and it may be made again. ``open``: a VM has it, or the host was cut off while
one had it. ``closed``: it is as the record says."""

MARK_SIZE = 16
MAC_SIZE = 32
_CONTEXT = b"vmgate state record\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord(Document):
    """The record of one disk of one VM.

    Attributes:
        vm: UUID of the VM.
        disk: name of the disk in its definition.
        disk_class: one of ``BOUND_CLASSES``.
        state: one of ``STATES``.
        number: from 1; grows by one with each clean stop.
        base: fs-verity digest of the image below a sealed disk; absent for a persistent one, which has none.
        image: sealed: fs-verity digest of the overlay at the last clean stop; absent until the first. Persistent:
            SHA-256 of the key area (the LUKS header), which makes it this disk; absent while it is new.
        mark: of a persistent disk, 16 bytes that its header has as well; absent for a sealed one.
        next_mark: what the next clean stop writes there; only while a persistent disk is open.
        mac: HMAC-SHA-256 over the record (``message``).
    """

    TYPE: ClassVar[str] = "vmgate.state-record"
    LIMIT: ClassVar[int] = 2_000

    vm: str
    disk: str
    disk_class: str
    state: str
    number: int
    base: str = ""
    image: str = ""
    mark: bytes = b""
    next_mark: bytes = b""
    mac: bytes = bytes(MAC_SIZE)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        record = cls(
            vm=fields.take_text("vm", UUID, 36),
            disk=fields.take_name("disk"),
            disk_class=fields.take_choice("class", BOUND_CLASSES),
            state=fields.take_choice("state", STATES),
            number=fields.take_int("number", 1, MAX_NUMBER),
            base=fields.take_digest("base") if fields.has("base") else "",
            image=fields.take_digest("image") if fields.has("image") else "",
            mark=fields.take_bytes("mark", MARK_SIZE) if fields.has("mark") else b"",
            next_mark=fields.take_bytes("next_mark", MARK_SIZE) if fields.has("next_mark") else b"",
            mac=fields.take_bytes("mac", MAC_SIZE),
        )
        record._require_consistent(fields)
        return record

    def _require_consistent(self, fields: Fields) -> None:
        sealed = self.disk_class == "sealed"
        wanted = {
            "base": sealed,
            "mark": not sealed,
            "next_mark": not sealed and self.state == "open",
            "image": self.image != "" if sealed and self.state == "open" else self.state != "new",
        }
        found = {"base": self.base, "mark": self.mark, "next_mark": self.next_mark, "image": self.image}
        for name, there in wanted.items():
            if bool(found[name]) != there:
                raise fields.wrong(name, "is missing, or has no meaning for this class and state")
        for name, size in (("mark", MARK_SIZE), ("next_mark", MARK_SIZE), ("mac", MAC_SIZE)):
            value = {"mark": self.mark, "next_mark": self.next_mark, "mac": self.mac}[name]
            if value and len(value) != size:
                raise fields.wrong(name, f"has not {size} bytes")
        if not self.mac:
            raise fields.wrong("mac", "is empty")

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "vm": self.vm,
            "disk": self.disk,
            "class": self.disk_class,
            "state": self.state,
            "number": self.number,
            **({"base": self.base} if self.base else {}),
            **({"image": self.image} if self.image else {}),
            **({"mark": encode_bytes(self.mark)} if self.mark else {}),
            **({"next_mark": encode_bytes(self.next_mark)} if self.next_mark else {}),
            "mac": encode_bytes(self.mac),
        }

    def message(self) -> bytes:
        """What the signature is over: all of the record but itself."""
        return _CONTEXT + replace(self, mac=bytes(MAC_SIZE)).encode()
