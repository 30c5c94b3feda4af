# SPDX-License-Identifier: Apache-2.0
"""vmgate's own measurement log in CBOR: the same records as in JSON (``measure.cel``), for programs and short wires.

Source: TCG Canonical Event Log Format 1.1, clauses 4.2.2 and 5.2, and RFC 8949, clause 4.2.1 (one encoding for one
value). A log is an array of maps {0: recnum, 1: pcr, 3: [{0: hashAlg, 1: digest}, ...], 9: content_type, 10: content};
hashAlg is the TPM's number. ``recnum`` counts the records of each PCR from 0, as the specification has it, where the
log in JSON counts all; the order of the array is that of the log. The content is the event's canonical bytes, whose
hashes the digests are. Only that is read, and only in its one encoding. This module does no I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

from documents.errors import DocumentError
from documents.event import MeasuredEvent
from measure.cel import LOG_LIMIT, LOGGED, CelRecord, record, require_sequence
from measure.errors import LogRefused
from measure.formats.plain_cbor import first_item
from measure.pcr import ALGORITHMS, digest_size

CONTENT_TYPE = 0x766D
"""Of an event of vmgate's, among the numbers that the specification leaves to others: "vm" in ASCII."""

RECNUM, PCR, DIGESTS, TYPE, CONTENT = 0, 1, 3, 9, 10
HASH_ALG, DIGEST = 0, 1
ARRAY = 0x80
"""The three highest bits of an array's first byte (RFC 8949, clause 3.1): what a log in this form begins with."""

RECORD_LIMIT = 2_000
"""Bytes of one record: a content of at most 1,000 and four digests."""

_NAMES = {number: name for name, number in ALGORITHMS.items()}
_MAX_RECORDS = LOG_LIMIT // 100


def is_cbor(untrusted_log: bytes) -> bool:
    """Whether a log's first byte is that of a CBOR array."""
    return bool(untrusted_log) and untrusted_log[0] & 0xE0 == ARRAY


def encode_log(records: Iterable[CelRecord]) -> bytes:
    """The whole log."""
    counted = Counter[int]()
    encoded = []
    for entry in records:
        encoded.append(_encode(_item(entry, counted[entry.pcr])))
        counted[entry.pcr] += 1
    return _array(len(encoded)) + b"".join(encoded)


def parse_log(untrusted_log: bytes) -> tuple[CelRecord, ...]:
    """Read a log as strictly as ``measure.cel.parse_log``, and in its one encoding.

    Raises:
        LogRefused: anything else, or a log over ``LOG_LIMIT``.
    """
    if len(untrusted_log) > LOG_LIMIT:
        raise _refused(f"it has more than {LOG_LIMIT} bytes")
    count, at = _read_array(untrusted_log)
    records: list[CelRecord] = []
    counted = Counter[int]()
    for number in range(count):
        # No record is larger, so that nothing larger is decoded.
        untrusted_rest = untrusted_log[at : at + RECORD_LIMIT]
        try:
            entry = _read_record(_decode(untrusted_rest), number, counted)
        except (DocumentError, _Malformed) as error:
            cause = error.cause if isinstance(error, DocumentError) else str(error)
            raise _refused(f"record {number}: {cause}") from error
        require_sequence(records, entry)
        encoded = _encode(_item(entry, counted[entry.pcr]))
        if not untrusted_rest.startswith(encoded):
            # A longer integer, another order of members, a tag that means nothing.
            raise _refused(f"record {number}: it is not in the deterministic encoding")
        records.append(entry)
        counted[entry.pcr] += 1
        at += len(encoded)
    if at != len(untrusted_log):
        raise _refused("something follows its last record")
    return tuple(records)


class _Malformed(Exception):
    """A record is not in its form; says which part."""


def _item(entry: CelRecord, recnum: int) -> dict[int, Any]:
    return {
        RECNUM: recnum,
        PCR: entry.pcr,
        DIGESTS: [{HASH_ALG: ALGORITHMS[alg], DIGEST: entry.digests[alg]} for alg in sorted(entry.digests)],
        TYPE: CONTENT_TYPE,
        CONTENT: entry.content.encode(),
    }


def _array(count: int) -> bytes:
    """The head of an array (RFC 8949, clause 3), the shortest that there is."""
    for extra, size in ((24, 1), (25, 2), (26, 4)):
        if count < 24:
            return bytes([ARRAY | count])
        if count < 1 << (8 * size):
            return bytes([ARRAY | extra]) + count.to_bytes(size, "big")
    raise ValueError("so many records are never logged")


def _read_array(untrusted_log: bytes) -> tuple[int, int]:
    """How many records follow, and where."""
    if not is_cbor(untrusted_log):
        raise _refused("it is not a CBOR array")
    extra = untrusted_log[0] & 0x1F
    size = {24: 1, 25: 2, 26: 4}.get(extra, 0)
    count = int.from_bytes(untrusted_log[1 : 1 + size], "big") if size else extra
    if count > _MAX_RECORDS or not untrusted_log.startswith(_array(count)):
        raise _refused(f"it is not an array of at most {_MAX_RECORDS} records")
    return count, 1 + size


def _encode(item: object) -> bytes:
    # Loaded here: the command starts without it.
    import cbor2  # noqa: PLC0415

    encoded: bytes = cbor2.dumps(item, canonical=True)
    return encoded


def _decode(untrusted: bytes) -> object:
    """The first value in these bytes."""
    import cbor2  # noqa: PLC0415

    # Looked over first: a few bytes of shared values would be hours of work for a decoder.
    why, _ = first_item(untrusted, ())
    if why:
        raise _Malformed(f"it is not CBOR as it is written here: {why}")
    try:
        value: object = cbor2.load(BytesIO(untrusted))
    # For a tag such as that of a date or a fraction the library makes one, which fails in its own ways.
    except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError, LookupError) as error:
        raise _Malformed("it is not CBOR") from error
    return value


def _read_record(untrusted: object, number: int, counted: Mapping[int, int]) -> CelRecord:
    members = _members(untrusted, (RECNUM, PCR, DIGESTS, TYPE, CONTENT), "the record")
    recnum, pcr, content = members[RECNUM], members[PCR], members[CONTENT]
    if type(pcr) is not int or pcr not in LOGGED:
        raise _Malformed(f"its PCR is none of {', '.join(map(str, LOGGED))}")
    if type(recnum) is not int or recnum != counted[pcr]:
        raise _Malformed("its number is not the next of its PCR")
    if type(members[TYPE]) is not int or members[TYPE] != CONTENT_TYPE:
        raise _Malformed("its content is not vmgate's")
    if not isinstance(content, bytes):
        raise _Malformed("its content is not a byte string")
    digests = _read_digests(members[DIGESTS])
    entry = record(number, pcr, MeasuredEvent.parse(content), digests)
    if entry.digests != digests:
        raise _Malformed("its digests are not the hashes of its content")
    return entry


def _read_digests(untrusted: object) -> dict[str, bytes]:
    if not isinstance(untrusted, list) or not 0 < len(untrusted) <= len(ALGORITHMS):
        raise _Malformed("its digests are none, or too many")
    digests: dict[str, bytes] = {}
    for untrusted_digest in untrusted:
        members = _members(untrusted_digest, (HASH_ALG, DIGEST), "a digest")
        number, value = members[HASH_ALG], members[DIGEST]
        name = _NAMES.get(number) if type(number) is int else None
        if name is None or not isinstance(value, bytes) or len(value) != digest_size(name) or name in digests:
            raise _Malformed("a digest is of no known algorithm, or not of its length, or there twice")
        digests[name] = value
    return digests


def _members(untrusted: object, keys: tuple[int, ...], what: str) -> dict[int, object]:
    if not isinstance(untrusted, dict) or any(type(key) is not int for key in untrusted):
        raise _Malformed(f"{what} is not a map of numbered members")
    if set(untrusted) != set(keys):
        raise _Malformed(f"{what} has other members than {', '.join(map(str, keys))}")
    return untrusted


def _refused(cause: str) -> LogRefused:
    return LogRefused("the measurement log was refused", cause=cause, remedy="reboot the host to measure all anew")
