# SPDX-License-Identifier: Apache-2.0
"""systemd's log of what it measures after the boot: read, and replayed to the PCR values that it claims.

Source: systemd-pcrphase.service(8), "Files"; docs/TPM2_PCR_MEASUREMENTS.md of systemd; the file is
``/run/log/systemd/tpm2-measure.log``, written since systemd 255. It is a JSON text sequence (RFC 7464) whose records
follow TCG CEL-JSON but for ``recnum``. Only PCR and digests take part in a replay. A text is what the digests are of
in most events, but not in all (a volume key is measured by its HMAC), so ``SystemdRecord.proven`` tells which.

The log begins where firmware and stub have stopped, so values are right only over those that the boot log leads to.
Records of NV indexes and of a guest's RTMRs are read and extend no PCR. systemd marks a log as incomplete by the
file's sticky bit, which its bytes do not show: such a log does not replay to the quoted values. This module does no
I/O and does not judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from measure.formats.cursor import Bounds, Cursor, refused
from measure.pcr import ALGORITHMS, PCRS, digest_size, extend, measure, reset_value

BOUNDS: Final = Bounds(octets=8 * 1024 * 1024, events=20_000)
"""A boot has some ten records of 300 to 700 bytes, and one for each login more where a host measures those."""

SEPARATOR: Final = 0x1E
"""The byte in front of each record."""

_WHAT: Final = "systemd log"
_LARGEST_RECORD: Final = 64 * 1024
_LONGEST_TYPE: Final = 64
_MOST_DIGESTS: Final = 16
_MOST_DIGITS: Final = 20
_REGISTERS: Final = ("pcr", "nv_index", "rtmr")
_CONTENT_TYPE: Final = "systemd"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdRecord:
    """One record. Only ``pcr`` and ``digests`` are borne out by a replay that matches.

    Attributes:
        pcr: index of the register that was extended; None where it was an NV index or an RTMR.
        digests: what it was extended with, by bank; empty where only banks are named that are not known here.
        event: systemd's word for the event, such as ``phase``; empty for none.
        text: what was measured, where it is a text; empty for none.
    """

    pcr: int | None
    digests: Mapping[str, bytes]
    event: str
    text: str

    def proven(self) -> bool:
        """Whether the text is what was measured, in each bank."""
        content = self.text.encode(errors="surrogatepass")
        return bool(self.digests) and all(digest == measure(alg, content) for alg, digest in self.digests.items())


def parse_systemd_log(untrusted: bytes) -> tuple[SystemdRecord, ...]:
    """Read a log. Members that are not known are read over, as systemd gains them.

    Raises:
        LogRefused: empty, over ``BOUNDS``, cut off, malformed, a record that repeats a member or a bank, or one of a
            PCR with other banks than those before.
    """
    cursor = Cursor(untrusted, _WHAT, BOUNDS)
    if cursor.u8() != SEPARATOR:
        raise refused(_WHAT, "its first byte is not 0x1e")
    parts = untrusted[1:].split(bytes([SEPARATOR]), BOUNDS.events)
    if len(parts) > BOUNDS.events:
        raise refused(_WHAT, f"it has more than {BOUNDS.events} records")
    records: list[SystemdRecord] = []
    banks: frozenset[str] | None = None
    for number, untrusted_part in enumerate(parts):
        try:
            record = _read_record(untrusted_part)
            if record.pcr is not None:
                found = frozenset(record.digests)
                if not found or found != (banks or found):
                    raise ValueError("it has no bank that can be replayed, or others than the records before")
                banks = found
        except (ValueError, RecursionError) as error:
            # An error of JSON itself can quote the record.
            raise refused(_WHAT, f"record {number}: {_line(error)}") from error
        records.append(record)
    return tuple(records)


def replay(
    records: Iterable[SystemdRecord], start: Mapping[str, Mapping[int, bytes]] | None = None
) -> dict[str, dict[int, bytes]]:
    """The PCR values after all records, by bank and index: those PCRs that were extended.

    Args:
        records: as read.
        start: the values before, by bank and index, as the boot log leads to them; a PCR that is not told starts at its
            reset value.

    Raises:
        LogRefused: the records have a bank that ``start`` has not: its values would be made up.
    """
    values: dict[str, dict[int, bytes]] = {}
    for record in records:
        if record.pcr is None:
            continue
        for alg, digest in record.digests.items():
            if start is not None and alg not in start:
                raise refused(_WHAT, f"it has bank {alg} and the boot log has not")
            bank = values.setdefault(alg, {})
            before = bank.get(record.pcr) or (start or {}).get(alg, {}).get(record.pcr)
            bank[record.pcr] = extend(alg, before or reset_value(alg, record.pcr), digest)
    return values


def _read_record(untrusted: bytes) -> SystemdRecord:
    """One record.

    Raises:
        ValueError, RecursionError: what is wrong with it.
    """
    if not untrusted.endswith(b"\n") or len(untrusted) > _LARGEST_RECORD:
        raise ValueError(f"its end is missing, or it has more than {_LARGEST_RECORD} bytes")
    fields = _object(
        json.loads(
            untrusted.decode(),
            object_pairs_hook=_members,
            parse_float=_no_number,
            parse_constant=_no_number,
            parse_int=_integer,
        ),
        "the record",
    )
    register = [name for name in _REGISTERS if name in fields]
    if len(register) != 1:
        raise ValueError("it names no register, or two")
    index = fields[register[0]]
    # True is an integer to Python.
    if type(index) is not int or index < 0 or (register == ["pcr"] and index >= PCRS):
        raise ValueError("its register is none that a TPM has")
    content = {}
    if fields.get("content_type") == _CONTENT_TYPE:
        content = _object(fields.get("content"), "content")
    event = _text(content, "eventType")
    if len(event) > _LONGEST_TYPE:
        raise ValueError("its event type is too long")
    return SystemdRecord(
        pcr=index if register == ["pcr"] else None,
        digests=_digests(fields.get("digests")),
        event=event,
        text=_text(content, "string"),
    )


def _digests(untrusted: Any) -> dict[str, bytes]:
    """By bank; algorithms that are not known here are left out, as they are of a boot log."""
    if not isinstance(untrusted, list) or not 1 <= len(untrusted) <= _MOST_DIGESTS:
        raise ValueError("its digests are none, too many or no list")
    digests: dict[str, bytes] = {}
    names: set[str] = set()
    for item in untrusted:
        pair = _object(item, "a digest")
        alg, text = _text(pair, "hashAlg"), _text(pair, "digest")
        if not alg or alg in names:
            raise ValueError("a digest names no bank, or one for the second time")
        names.add(alg)
        digest = bytes.fromhex(text)
        # fromhex() reads over white space.
        if digest.hex() != text.lower() or (alg in ALGORITHMS and len(digest) != digest_size(alg)):
            raise ValueError("a digest is not hexadecimal, or not of its bank's size")
        if alg in ALGORITHMS:
            digests[alg] = digest
    return digests


def _object(untrusted: Any, what: str) -> dict[str, Any]:
    if not isinstance(untrusted, dict):
        raise ValueError(f"{what} is not an object")
    return untrusted


def _text(fields: Mapping[str, Any], name: str) -> str:
    """A member that is a text; empty where there is none."""
    text = fields.get(name, "")
    if not isinstance(text, str):
        raise ValueError(f"member {name} is not a text")
    return text


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _integer(text: str) -> int:
    """Python's own limit for numbers is 4,300 digits."""
    if len(text) > _MOST_DIGITS:
        raise ValueError("a number is too long")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no integer")


def _line(error: Exception) -> str:
    """An error of a library in a few printable words."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "it is not JSON in UTF-8"
    return str(error)
