# SPDX-License-Identifier: Apache-2.0
"""vmgate's own measurement log: TCG Canonical Event Log (CEL) 1.0 in JSON, one record a line.

A record's digests are the hashes of its content's canonical bytes, so the log explains itself: nothing in it is left
uncovered by the PCRs but the numbering, which is checked too, and the order between the two PCRs. The same log in CBOR
is ``measure.cel_cbor``'s. This module does no I/O; ``measure.log`` keeps the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from documents.canonical import Json, decode, encode
from documents.errors import DocumentError
from documents.event import MeasuredEvent
from documents.fields import Fields
from measure.errors import LogRefused
from measure.pcr import ALGORITHMS, LAUNCH_PCR, VMM_PCR, digest_size, extend, measure, reset_value

LOG_LIMIT = 8_000_000
"""Bytes of a whole log."""

LINE_LIMIT = 2_500
"""Bytes of one record: a content of at most 1,000 and four digests."""

CONTENT_TYPE = "vmgate"
LOGGED = (LAUNCH_PCR, VMM_PCR)


@dataclass(frozen=True, slots=True, kw_only=True)
class CelRecord:
    """One record.

    Attributes:
        number: position in the log, from 0.
        pcr: the PCR that was extended, one of ``LOGGED``.
        digests: what each active bank was extended with, by algorithm.
        content: the event.
    """

    number: int
    pcr: int
    digests: Mapping[str, bytes]
    content: MeasuredEvent


def record(number: int, pcr: int, event: MeasuredEvent, algs: Iterable[str]) -> CelRecord:
    """Make the record of an event for the active banks.

    Raises:
        ValueError: a PCR that is not logged or no bank: a bug.
    """
    content = event.encode()
    digests = {alg: measure(alg, content) for alg in sorted(algs)}
    if pcr not in LOGGED or not digests:
        raise ValueError("a record needs PCR 12 or 13 and a bank")
    return CelRecord(number=number, pcr=pcr, digests=digests, content=event)


def encode_record(entry: CelRecord) -> bytes:
    """The record's line with its line end."""
    content: Json = {"type": MeasuredEvent.TYPE, "version": MeasuredEvent.VERSION, **entry.content.members()}
    digests: list[Json] = [{"hashAlg": alg, "digest": entry.digests[alg].hex()} for alg in sorted(entry.digests)]
    line: dict[str, Json] = {
        "recnum": entry.number,
        "pcr": entry.pcr,
        "digests": digests,
        "content_type": CONTENT_TYPE,
        "content": content,
    }
    return encode(line) + b"\n"


def parse_log(untrusted_log: bytes) -> tuple[CelRecord, ...]:
    """Read a log strictly.

    Records are numbered from 0 without a gap, all have the same banks, and each digest is the hash of its content.
    An empty log is read as no records; whoever appraises it refuses it.

    Raises:
        LogRefused: anything else, or a log over ``LOG_LIMIT``.
    """
    if len(untrusted_log) > LOG_LIMIT:
        raise _refused(f"it has more than {LOG_LIMIT} bytes")
    untrusted_lines = untrusted_log.split(b"\n")
    if untrusted_lines.pop():
        raise _refused("its last line has no end")
    records: list[CelRecord] = []
    for number, untrusted_line in enumerate(untrusted_lines):
        try:
            entry = _read_record(untrusted_line)
        except DocumentError as error:
            raise _refused(f"record {number}: {error.cause}") from error
        require_sequence(records, entry)
        records.append(entry)
    return tuple(records)


def require_sequence(records: list[CelRecord], entry: CelRecord) -> None:
    """Require that a record follows these.

    Raises:
        LogRefused: its number is not the next, or its banks are not those of the first.
    """
    number = len(records)
    if entry.number != number:
        raise _refused(f"record {number}: it carries number {entry.number}")
    if records and entry.digests.keys() != records[0].digests.keys():
        raise _refused(f"record {number}: it has other banks than the first record")


def replay(records: Iterable[CelRecord], alg: str) -> dict[int, bytes]:
    """The values that the logged PCRs of one bank have after these records, both from their reset value.

    Raises:
        LogRefused: a record has no digest for the bank.
    """
    values = {pcr: reset_value(alg, pcr) for pcr in LOGGED}
    for entry in records:
        if alg not in entry.digests:
            raise _refused(f"record {entry.number}: it has no {alg} digest")
        values[entry.pcr] = extend(alg, values[entry.pcr], entry.digests[alg])
    return values


def _read_record(untrusted_line: bytes) -> CelRecord:
    fields = Fields(decode(untrusted_line, LINE_LIMIT, "log record"), "log record")
    fields.take_choice("content_type", (CONTENT_TYPE,))
    content = fields.take("content")
    if not isinstance(content, dict):
        raise fields.wrong("content", "is not an object")
    measured = encode(content)
    if len(measured) > MeasuredEvent.LIMIT:
        raise fields.wrong("content", "is too long")
    event = MeasuredEvent.take(content)
    pairs = fields.take_list("digests", _read_digest, len(ALGORITHMS))
    entry = CelRecord(
        number=fields.take_int("recnum", 0, LOG_LIMIT),
        pcr=fields.take_int("pcr", min(LOGGED), max(LOGGED)),
        digests=dict(pairs),
        content=event,
    )
    fields.finish()
    algs = [alg for alg, _ in pairs]
    if not algs or algs != sorted(set(algs)):
        raise fields.wrong("digests", "is empty or not sorted")
    if any(digest != measure(alg, measured) for alg, digest in pairs):
        raise fields.wrong("digests", "is not the hash of the content")
    return entry


def _read_digest(untrusted: Json) -> tuple[str, bytes]:
    fields = Fields(untrusted, "digest")
    alg = fields.take_choice("hashAlg", ALGORITHMS)
    text = fields.take_text("digest", limit=128)
    fields.finish()
    try:
        digest = bytes.fromhex(text)
    except ValueError as error:
        raise fields.wrong("digest", "is not hexadecimal") from error
    if len(digest) != digest_size(alg) or digest.hex() != text:
        raise fields.wrong("digest", f"is not a {alg} digest")
    return alg, digest


def _refused(cause: str) -> LogRefused:
    return LogRefused("the measurement log was refused", cause=cause, remedy="reboot the host to measure all anew")
