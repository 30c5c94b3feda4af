# SPDX-License-Identifier: Apache-2.0
"""Boot event logs of firmware: read, and replayed to the PCR values that they claim.

Source: TCG PC Client Platform Firmware Profile 1.06, section 10: the SHA-1 format (TCG_PCR_EVENT) and the crypto-agile
format (TCG_PCR_EVENT2 after a "Spec ID Event03"). The log area of confidential guests (CCEL) has the same form.

A replay says what the log claims, not what the machine measured: compare it with a verified quote before any event is
shown or judged. This module does not do that, does not decode event data, and does no I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from measure.formats.cursor import Bounds, Cursor, refused
from measure.pcr import ALGORITHMS, PCRS, digest_size
from measure.quirks import (
    DIGEST_ORDER,
    HCRTM,
    LOCALITY,
    MANIFEST,
    PADDING,
    QUIRKS,
    SHA1_ONLY,
    SILENT_REGISTER,
    UNKNOWN_BANK,
    Quirk,
)

BOUNDS: Final = Bounds(octets=16 * 1024 * 1024, events=100_000)
"""Firmware reserves 64 KiB to 1 MiB for its log."""

EV_NO_ACTION: Final = 0x00000003
"""An event that informs and is never extended."""

EV_EFI_HCRTM_EVENT: Final = 0x80000010
"""What hardware measured before TPM2_Startup."""

_BANKS: Final = MappingProxyType({number: alg for alg, number in ALGORITHMS.items()})
_SHA1: Final = MappingProxyType({ALGORITHMS["sha1"]: ("sha1", 20)})
_WHAT: Final = "boot log"
_MOST_BANKS: Final = 16
_LARGEST_DIGEST: Final = 64
_SPEC_ID: Final = b"Spec ID Event03\0"
_STARTUP_LOCALITY: Final = b"StartupLocality\0"
_MANIFEST: Final = b"SP800-155 Event"
_HCRTM_START: Final = 4
_STARTS: Final = frozenset({0, 3, _HCRTM_START})


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEvent:
    """One record of the log.

    Only ``pcr`` and ``digests`` take part in a replay. Even when a quote matches, ``type`` and ``data`` are what the
    log's writer chose: trust data only after its hash was compared with the digest, and a type never.

    Attributes:
        pcr: index of the register; any number where ``type`` is EV_NO_ACTION.
        type: TCG event type. Untrusted: covered by no digest.
        digests: one digest for each bank of the log. The first event of a crypto-agile log has ``sha1`` alone.
        data: event data. Untrusted: the digest may be of something else.
    """

    pcr: int
    type: int
    digests: Mapping[str, bytes]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BootLog:
    """A log that is well-formed; nothing more is known of it.

    Attributes:
        crypto_agile: whether it has the form of TCG_PCR_EVENT2.
        banks: names of the banks in the log's order; one that is not replayed is named by its TPM_ALG_ID, such as
            ``0x0012``.
        pcr0_start: last byte of PCR 0 before the first extend, or None where the log says nothing: 0 or 3 is the
            locality of TPM2_Startup, 4 tells that hardware measured first.
        events: all records in order, those that are never extended too.
        quirks: names of what in it is accepted although not every log has it, in the order of ``measure.quirks``.
    """

    crypto_agile: bool
    banks: tuple[str, ...]
    pcr0_start: int | None
    events: tuple[BootEvent, ...]
    quirks: tuple[str, ...] = field(default=(), compare=False)  # two logs that say the same are equal


def parse_boot_log(untrusted: bytes, accepted: Collection[str] = QUIRKS.keys()) -> BootLog:
    """Read a boot log of either form.

    Args:
        untrusted: the log.
        accepted: names of the quirks that it may have.

    Raises:
        LogRefused: empty, over ``BOUNDS``, cut off, malformed, contradicting itself, without a bank that can be
            replayed, or with a quirk that is not accepted.
    """
    cursor = Cursor(untrusted, _WHAT, BOUNDS)
    end = min(len(untrusted.rstrip(b"\0")), len(untrusted.rstrip(b"\xff")))
    if not end:
        raise cursor.refused("it is all padding")
    first = _read_sha1_event(cursor)
    crypto_agile = first.type == EV_NO_ACTION and first.data.startswith(_SPEC_ID)
    banks = _read_spec_id(first.data) if crypto_agile else _SHA1
    events = [first]
    while cursor.offset < end:
        if len(events) == BOUNDS.events:
            raise cursor.refused(f"it has more than {BOUNDS.events} events")
        events.append(_read_event(cursor, banks) if crypto_agile else _read_sha1_event(cursor))
    log = BootLog(
        crypto_agile=crypto_agile,
        banks=tuple(name for name, _ in banks.values()),
        pcr0_start=_pcr0_start(cursor, events),
        events=tuple(events),
    )
    found = {quirk.name for quirk in _quirks(log, padded=cursor.left() > 0)}
    for quirk in QUIRKS.values():
        if quirk.name in found and quirk.name not in accepted:
            raise refused(_WHAT, f"it has what is not accepted here ({quirk.name}): {quirk.accepted}")
    return replace(log, quirks=tuple(name for name in QUIRKS if name in found))


def replay(log: BootLog, algs: Collection[str] = tuple(ALGORITHMS)) -> dict[str, dict[int, bytes]]:
    """The PCR values after all events, by bank and index: the PCRs that were extended, and PCR 0 if its start is told.

    Only the banks of ``algs`` that the log has. PCRs start at zero. That holds for 17 to 22 too, as the dynamic launch
    that precedes their first extend clears them.
    """
    pcrs: dict[str, dict[int, bytes]] = {}
    for alg in log.banks:
        if alg not in ALGORITHMS or alg not in algs:
            continue
        hashed = getattr(hashlib, alg)  # looked up once, not for each event: a verifier does this for a whole fleet
        zero = bytes(digest_size(alg))
        values = pcrs[alg] = {}
        if log.pcr0_start is not None:
            values[0] = log.pcr0_start.to_bytes(len(zero), "big")
        for event in log.events:
            if event.type != EV_NO_ACTION:
                values[event.pcr] = hashed(values.get(event.pcr, zero) + event.digests[alg]).digest()
    return pcrs


def _read_sha1_event(cursor: Cursor) -> BootEvent:
    """TCG_PCR_EVENT (PFP 10.2.1)."""
    pcr, kind = _read_index_and_type(cursor)
    digest = cursor.take(20)
    return BootEvent(pcr=pcr, type=kind, digests={"sha1": digest}, data=cursor.block())


def _read_event(cursor: Cursor, banks: Mapping[int, tuple[str, int]]) -> BootEvent:
    """TCG_PCR_EVENT2 (PFP 10.2.2). A digest for each bank, no more and no fewer, or a bank could be left out unseen."""
    pcr, kind = _read_index_and_type(cursor)
    count = cursor.u32()
    if count != len(banks):
        raise cursor.refused(f"an event has {count} digests and the log has {len(banks)} banks")
    digests: dict[str, bytes] = {}
    for _ in range(count):
        algorithm = cursor.u16()
        if algorithm not in banks:
            raise cursor.refused(
                f"an event has a digest of algorithm {algorithm:#06x}, which the log does not announce"
            )
        name, size = banks[algorithm]
        if name in digests:
            raise cursor.refused(f"an event has two digests for {name}")
        digests[name] = cursor.take(size)
    return BootEvent(pcr=pcr, type=kind, digests=digests, data=cursor.block())


def _read_index_and_type(cursor: Cursor) -> tuple[int, int]:
    pcr, kind = cursor.u32(), cursor.u32()
    if pcr >= PCRS and kind != EV_NO_ACTION:
        raise cursor.refused(f"an event extends PCR {pcr}, which no TPM has")
    return pcr, kind


def _read_spec_id(untrusted_data: bytes) -> dict[int, tuple[str, int]]:
    """The banks of a crypto-agile log: TCG_EfiSpecIdEvent (PFP 10.4.5.1)."""
    cursor = Cursor(untrusted_data, f"{_WHAT}'s first event", BOUNDS)
    # Signature, platform class, version, errata and the size of a pointer: nothing here changes how the log is read.
    cursor.take(len(_SPEC_ID) + 8)
    count = cursor.u32()
    if not 1 <= count <= _MOST_BANKS:
        raise cursor.refused(f"it announces {count} banks")
    banks: dict[int, tuple[str, int]] = {}
    for _ in range(count):
        algorithm, size = cursor.u16(), cursor.u16()
        if algorithm in banks:
            raise cursor.refused(f"it announces algorithm {algorithm:#06x} twice")
        alg = _BANKS.get(algorithm)
        if size != (digest_size(alg) if alg else size) or not 1 <= size <= _LARGEST_DIGEST:
            raise cursor.refused(f"it announces digests of {size} bytes for algorithm {algorithm:#06x}")
        banks[algorithm] = (alg or f"{algorithm:#06x}", size)
    cursor.take(cursor.u8())
    if cursor.left():
        raise cursor.refused(f"{cursor.left()} bytes follow its last field")
    if banks.keys().isdisjoint(_BANKS):
        raise cursor.refused("it announces no bank that can be replayed")
    return banks


def _pcr0_start(cursor: Cursor, events: list[BootEvent]) -> int | None:
    """Where PCR 0 starts (PFP 10.4.5.3; TPM 2.0 Library part 1, "H-CRTM")."""
    told: set[int] = set()
    for event in events:
        if event.type == EV_NO_ACTION and event.pcr == 0 and event.data.startswith(_STARTUP_LOCALITY):
            if len(event.data) != len(_STARTUP_LOCALITY) + 1 or event.data[-1] not in _STARTS:
                raise cursor.refused("a StartupLocality event is malformed")
            told.add(event.data[-1])
    if len(told) > 1:
        raise cursor.refused("two StartupLocality events contradict each other")
    first = next((e.type for e in events if e.pcr == 0 and e.type != EV_NO_ACTION), None)
    # A TPM that was extended by hardware keeps that start, whatever locality TPM2_Startup came from.
    if first == EV_EFI_HCRTM_EVENT:
        return _HCRTM_START
    return told.pop() if told else None


def _quirks(log: BootLog, *, padded: bool) -> Iterator[Quirk]:
    """What is in a log that not every log has; some come more than once."""
    if padded:
        yield PADDING
    if log.pcr0_start:
        yield HCRTM if log.pcr0_start == _HCRTM_START else LOCALITY
    if not log.crypto_agile:
        yield SHA1_ONLY
    if any(bank not in ALGORITHMS for bank in log.banks):
        yield UNKNOWN_BANK
    for event in log.events:
        if event.type == EV_NO_ACTION:
            if event.pcr >= PCRS:
                yield SILENT_REGISTER
            if event.data.startswith(_MANIFEST):
                yield MANIFEST
        elif tuple(event.digests) != log.banks:
            yield DIGEST_ORDER
