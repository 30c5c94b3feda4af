# SPDX-License-Identifier: Apache-2.0
"""The fleet as witness of its hosts' audit trails: what follows is taken in, what does not raises an alarm.

Checks, by number:
 1. each record follows the one before it, by sequence and hash; those that the fleet has already must be the same;
 2. the newest signed head is the host's own: signed by the audit key that its attestation key certified;
 3. that head lies on the chain: not beyond the last record, and with the hash of the record there;
 4. it is no older than the newest one that the fleet has.

Whatever fails, no record of that upload is kept, and the alarm is, in one transaction with the nonce. Later records do
not make it good: the trail stays where it broke. That a host sends nothing shows by its last contact. This module does
not fetch anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from documents.audit import AuditHead, AuditRecord, SignedHead
from documents.errors import DocumentError
from documents.fleet_answers import AuditReceipt, AuditUpload
from documents.host_state import PurposeKey
from fleet.attestations import spend
from fleet.errors import AuditRefused
from fleet.hosts import require_active
from fleet.minting import Answered
from fleet.tables import alarms, host_audit, hosts
from fleet.trail import Trail, clean
from measure.errors import QuoteRefused
from measure.signed_heads import verify_head

GAP, FORK, TRUNCATED, UNSIGNED, MALFORMED = "gap", "fork", "truncated", "not-signed", "malformed"
KINDS = (GAP, FORK, TRUNCATED, UNSIGNED, MALFORMED)
"""What an alarm can be about."""


class _Broken(Exception):
    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an upload.

    Attributes:
        receipt: how far the fleet has the trail now.
        refusal: why nothing of the upload was kept; None where it was.
    """

    receipt: AuditReceipt
    refusal: AuditRefused | None


def take_in(
    connection: Connection, host: str, upload: AuditUpload, answered: Answered, trail: Trail, now: int
) -> Outcome:
    """Take in an upload, or keep an alarm.

    Args:
        connection: writing.
        host: id.
        upload: untrusted.
        answered: the nonce, which is spent either way.
        trail: the fleet's own.
        now: seconds since 1970 UTC.

    Raises:
        NonceRefused: the nonce was answered before.
        HostRefused: the host is not active.
    """
    spend(connection, answered)
    row = require_active(connection, host)
    had = AuditHead(sequence=row.audit_sequence, hash=row.audit_hash)
    try:
        # Known to be wrong before anything is written.
        end, new = _follow(connection, host, had, upload.records)
        signed = max(row.audit_signed, _signed(connection, row, upload, end, dict(new)))
    except _Broken as broken:
        _alarm(connection, row, broken, trail, now)
        receipt = AuditReceipt(sequence=had.sequence, hash=had.hash, signed=row.audit_signed)
        return Outcome(receipt=receipt, refusal=_refused(broken.text))
    values = [
        {"host": host, "sequence": record.sequence, "time": record.time, "event": record.event, "hash": record.hash(),
         "record": record.encode()}
        for record in dict(new).values()
    ]  # fmt: skip
    if values:
        connection.execute(insert(host_audit), values)
    change = {"audit_sequence": end.sequence, "audit_hash": end.hash, "audit_signed": signed, "contact": now}
    connection.execute(update(hosts).where(hosts.c.id == host).values(change))
    return Outcome(receipt=AuditReceipt(sequence=end.sequence, hash=end.hash, signed=signed), refusal=None)


def _follow(
    connection: Connection, host: str, had: AuditHead, untrusted_records: tuple[bytes, ...]
) -> tuple[AuditHead, list[tuple[int, AuditRecord]]]:
    """1. The end of the trail with these records, and those of them that are new, by sequence."""
    end, new = had, []
    for untrusted_record in untrusted_records:
        try:
            record = AuditRecord.parse(untrusted_record)
        except DocumentError as error:
            raise _Broken(MALFORMED, f"a record after {end.sequence} is none: {error.cause}") from error
        if record.sequence <= had.sequence:
            if _hash_at(connection, host, record.sequence) != record.hash():
                raise _Broken(FORK, f"record {record.sequence} is another than the fleet has")
            continue
        if record.sequence != end.sequence + 1:
            raise _Broken(GAP, f"record {record.sequence} came after record {end.sequence}")
        if record.previous != end.hash:
            raise _Broken(
                FORK, f"record {record.sequence} does not follow the record {end.sequence} that the fleet has"
            )
        end = AuditHead(sequence=record.sequence, hash=record.hash())
        new.append((record.sequence, record))
    return end, new


def _signed(connection: Connection, row: Any, upload: AuditUpload, end: AuditHead, new: dict[int, AuditRecord]) -> int:
    """The sequence of the upload's signed head; 0 where it has none."""
    if not upload.head:
        return 0
    # 2.
    try:
        head = verify_head(SignedHead.parse(upload.head), PurposeKey.parse(upload.key), row.ak)
    except (DocumentError, QuoteRefused) as error:
        raise _Broken(UNSIGNED, f"the signed head is not the host's: {error.cause}") from error
    # 3.
    if head.sequence > end.sequence:
        raise _Broken(TRUNCATED, f"the host signed {head.sequence} records and shows {end.sequence}")
    found = new[head.sequence].hash() if head.sequence in new else _hash_at(connection, row.id, head.sequence)
    if found != head.hash:
        raise _Broken(FORK, f"the host signed another record {head.sequence} than it shows")
    # 4.
    if head.sequence < row.audit_signed:
        raise _Broken(TRUNCATED, f"the host's newest signed head is {head.sequence}, and was {row.audit_signed}")
    return head.sequence


def _hash_at(connection: Connection, host: str, sequence: int) -> str:
    query = select(host_audit.c.hash).where(host_audit.c.host == host, host_audit.c.sequence == sequence)
    return connection.execute(query).scalar_one_or_none() or ""


def _alarm(connection: Connection, row: Any, broken: _Broken, trail: Trail, now: int) -> None:
    """Keep an alarm, once as long as it is the same one."""
    text = clean(broken.text, 600)
    newest = select(alarms.c.kind, alarms.c.text).where(alarms.c.host == row.id).order_by(alarms.c.number.desc())
    if connection.execute(newest.limit(1)).one_or_none() == (broken.kind, text):
        return
    connection.execute(insert(alarms).values(host=row.id, time=now, kind=broken.kind, text=text))
    trail.write(
        connection, now, "audit-alarm", "failed", subject=row.name, actor=f"host {row.id}", kind=broken.kind, cause=text
    )


def alarms_of(connection: Connection, host: str = "", most: int = 100) -> list[dict[str, Any]]:
    """The newest alarms, of one host or of all."""
    query = select(alarms).order_by(alarms.c.number.desc()).limit(most)
    if host:
        query = query.where(alarms.c.host == host)
    names = ("host", "time", "kind", "text")
    return [{name: getattr(row, name) for name in names} for row in connection.execute(query)]


def _refused(cause: str) -> AuditRefused:
    return AuditRefused(
        "the audit records were not taken in", cause=cause, remedy="compare the host's trail with the fleet's"
    )
