# SPDX-License-Identifier: Apache-2.0
"""Audit records and their hash chain: each record holds the hash of the one before it.

Changing, removing, adding or reordering a record breaks the chain; cutting off the end shows against a head that was
kept elsewhere. The chain alone does not stop somebody who can rewrite all of it: signed heads do. This module does no
I/O (``agent.audit`` does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json, encode
from documents.document import Document
from documents.errors import DocumentError, Exit, VmgateError
from documents.fields import SLASHED, UUID, Fields, encode_bytes

GENESIS = "0" * 64
"""What the first record holds in place of a predecessor's hash."""

OUTCOMES = ("done", "failed", "refused", "started")


class AuditBroken(VmgateError):
    """The audit trail is not what was written."""

    code = "DC020"
    exit = Exit.REFUSED
    explanation = (
        "A record of the audit trail was changed, removed, added or cut off since it was written. "
        "Keep the files as they are and compare them with what was off-loaded."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord(Document):
    """One thing that happened (FAU_GEN.1: what, when, who, outcome).

    Attributes:
        sequence: 1 for the first record, then one more each.
        time: seconds since 1970 UTC.
        boot: the kernel's boot id.
        event: such as ``vm-start``.
        outcome: one of ``OUTCOMES``; ``started`` is written before an act, the others after it.
        subject: such as a VM's name.
        actor: who asked, such as ``uid 0`` or ``libvirt hook``.
        details: short texts by name.
        previous: hash of the record before, ``GENESIS`` for the first.
    """

    TYPE: ClassVar[str] = "vmgate.audit"
    LIMIT: ClassVar[int] = 150_000

    sequence: int
    time: int
    boot: str
    event: str
    outcome: str
    subject: str
    actor: str
    details: tuple[tuple[str, str], ...]
    previous: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        record = cls(
            sequence=fields.take_int("sequence", 1, 2**60),
            time=fields.take_int("time", 0, 2**40),
            boot=fields.take_text("boot", UUID, 36),
            event=fields.take_text("event", SLASHED, 120),
            outcome=fields.take_choice("outcome", OUTCOMES),
            subject=fields.take_text("subject", limit=300, empty=True),
            actor=fields.take_text("actor", limit=120),
            details=fields.take_list("details", _read_detail, 32),
            previous=fields.take_digest("previous"),
        )
        names = [name for name, _ in record.details]
        if names != sorted(set(names)):
            raise fields.wrong("details", "is not sorted by name")
        return record

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "sequence": self.sequence,
            "time": self.time,
            "boot": self.boot,
            "event": self.event,
            "outcome": self.outcome,
            "subject": self.subject,
            "actor": self.actor,
            "details": [{"name": name, "text": text} for name, text in self.details],
            "previous": self.previous,
        }

    def hash(self) -> str:
        """SHA-256 of the encoded record: what the next record holds."""
        return hashlib.sha256(self.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """The end of a chain: how many records, and the hash of the last."""

    sequence: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead(Document):
    """The end of a chain at one time, signed by the host's audit key, which its TPM uses only in approved states.

    Attributes:
        head: what is signed.
        signature: TPMT_SIGNATURE over ``message``.
    """

    TYPE: ClassVar[str] = "vmgate.audit-head"
    LIMIT: ClassVar[int] = 4_000

    head: AuditHead
    signature: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        head = AuditHead(sequence=fields.take_int("sequence", 1, 2**60), hash=fields.take_digest("hash"))
        return cls(head=head, signature=fields.take_bytes("signature", 1_000))

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "sequence": self.head.sequence,
            "hash": self.head.hash,
            "signature": encode_bytes(self.signature),
        }

    @staticmethod
    def message(head: AuditHead) -> bytes:
        """The bytes that are signed."""
        return encode({"type": "vmgate.audit-head", "sequence": head.sequence, "hash": head.hash})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSent(Document):
    """How far a trail was off-loaded, as far as this host can know.

    Attributes:
        head: the last record that need not be sent again; sequence 0 for none.
        time: when the server was there last, seconds since 1970 UTC.
    """

    TYPE: ClassVar[str] = "vmgate.audit-sent"
    LIMIT: ClassVar[int] = 1_000

    head: AuditHead
    time: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        head = AuditHead(sequence=fields.take_int("sequence", 0, 2**60), hash=fields.take_digest("hash"))
        return cls(head=head, time=fields.take_int("time", 0, 2**40))

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"sequence": self.head.sequence, "hash": self.head.hash, "time": self.time}


def verify_chain(untrusted_lines: Iterable[bytes], head: AuditHead | None = None) -> AuditHead:
    """Check a whole trail from its first record.

    Args:
        untrusted_lines: encoded records without their line ends, oldest first.
        head: an end known from elsewhere; the trail must reach at least to it and pass through it.

    Returns:
        The end of the trail.

    Raises:
        AuditBroken: naming the first record that does not fit.
    """
    end = AuditHead()
    through = head is None or head == end
    for untrusted_line in untrusted_lines:
        try:
            record = AuditRecord.parse(untrusted_line)
        except DocumentError as error:
            raise _broken(end.sequence + 1, error.cause) from error
        if record.sequence != end.sequence + 1 or record.previous != end.hash:
            raise _broken(end.sequence + 1, "it does not follow the record before it")
        end = AuditHead(sequence=record.sequence, hash=record.hash())
        if head is not None and end.sequence == head.sequence:
            if end != head:
                raise _broken(end.sequence, "its hash is not the one that was kept apart")
            through = True
    if head is not None and not through:
        raise _broken(end.sequence + 1, f"the trail ends although it once had {head.sequence} records")
    return end


def _broken(sequence: int, cause: str) -> AuditBroken:
    return AuditBroken(
        f"the audit trail is broken at record {sequence}",
        cause=cause,
        remedy="keep the files and compare them with the off-loaded copy",
    )


def _read_detail(untrusted: Json) -> tuple[str, str]:
    fields = Fields(untrusted, "audit detail")
    pair = (fields.take_text("name", SLASHED, 60), fields.take_text("text", limit=1_000, empty=True))
    fields.finish()
    return pair
