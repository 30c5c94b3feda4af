# SPDX-License-Identifier: Apache-2.0
"""Boot logs of machines that nobody has seen: any banks in any order, any starts, silences and paddings.

Each log is made beside the values that its machine's TPM would hold; the arithmetic shares nothing with the reader.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lab import event_logs as write
from measure.bootlog import parse_boot_log, replay
from measure.replay import replay_log

NUMBERS = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
STRANGERS = {0x0012: 32, 0x0027: 32, 0x0028: 48, 0x0029: 64, 0x7FFF: 7}
"""SM3, SHA-3, and an algorithm of tomorrow: identifier and digest size."""


@dataclass
class Made:
    """A log, and what the TPM holds."""

    log: bytes = b""
    events: int = 0
    held: dict[str, dict[int, bytes]] = field(default_factory=dict)
    quirks: set[str] = field(default_factory=set)


@st.composite
def machines(draw: st.DrawFn) -> Made:
    known = draw(st.lists(st.sampled_from(list(NUMBERS)), min_size=1, unique=True))
    strange = draw(st.lists(st.sampled_from(list(STRANGERS)), max_size=2, unique=True))
    banks = draw(st.permutations([*known, *strange]))
    made = Made(held={NUMBERS[number]: {} for number in known})
    vendor = draw(st.binary(max_size=255))
    sizes = [(number, STRANGERS.get(number) or write.SIZE[NUMBERS[number]]) for number in banks]
    made.log = write.sha1_event(0, write.NO_ACTION, bytes(20), write.spec_id_of(sizes, vendor=vendor))
    made.events = 1
    if strange:
        made.quirks.add("unknown-bank")
    locality = draw(st.sampled_from([None, 0, 3, 4]))
    hardware = draw(st.booleans()) if locality in (None, 4) else False
    start = 4 if hardware else locality
    if locality is not None:
        silent(made, sizes, 0, write.startup_locality(locality))
    if start:
        made.quirks.add({3: "startup-locality", 4: "h-crtm"}[start])
    for alg, values in made.held.items():
        if start is not None:
            values[0] = bytes([start]).rjust(write.SIZE[alg], b"\0")
    if hardware:
        extend(draw, made, sizes, 0, write.HCRTM, b"HCRTM")
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            kind = draw(st.sampled_from([1, 4, 6, 8, 13, 0x80000001, 0x80000007, 0x800000E0, 0xFFFFFFFF]))
            extend(draw, made, sizes, draw(st.integers(0, 23)), kind, draw(st.binary(max_size=40)))
        else:
            told = draw(st.sampled_from([b"", b"anything", *(write.manifest(number) for number in (1, 2, 3))]))
            pcr = draw(st.sampled_from([0, 6, 0xFFFFFFFF]))
            silent(made, sizes, pcr, told)
            made.quirks |= {"silent-register"} if pcr > 23 else set()
            made.quirks |= {"sp800-155"} if told.startswith(b"SP") else set()
    # Something must end the log that does not look like padding.
    extend(draw, made, sizes, 5, 0x80000007, b"Exit Boot Services Returned with Success")
    padding = draw(st.sampled_from([b"", b"\0", b"\xff", bytes(5_000), b"\xff" * 5_000]))
    made.log += padding
    made.quirks |= {"padding"} if padding else set()
    return made


def written(made: Made, pcr: int, kind: int, digests: list[tuple[int, bytes]], data: bytes) -> None:
    each = b"".join(struct.pack("<H", number) + digest for number, digest in digests)
    made.log += struct.pack("<III", pcr, kind, len(digests)) + each + struct.pack("<I", len(data)) + data
    made.events += 1


def silent(made: Made, sizes: list[tuple[int, int]], pcr: int, data: bytes) -> None:
    written(made, pcr, write.NO_ACTION, [(number, bytes(size)) for number, size in sizes], data)


def extend(draw: st.DrawFn, made: Made, sizes: list[tuple[int, int]], pcr: int, kind: int, data: bytes) -> None:
    content = draw(st.sampled_from([data, b"something else than the data"]))
    digests = [
        (number, hashlib.new(NUMBERS[number], content).digest() if number in NUMBERS else b"\x55" * size)
        for number, size in sizes
    ]
    if draw(st.integers(0, 4)) == 0 and len(digests) > 1:
        digests = digests[1:] + digests[:1]
        made.quirks.add("digest-order")
    written(made, pcr, kind, digests, data)
    for alg, values in made.held.items():
        before = values.get(pcr, bytes(write.SIZE[alg]))
        values[pcr] = hashlib.new(alg, before + hashlib.new(alg, content).digest()).digest()


@given(machines())
def test_any_log_replays_to_what_the_tpm_holds(made: Made) -> None:
    log = parse_boot_log(made.log)
    assert replay(log) == made.held
    assert len(log.events) == made.events
    assert set(log.quirks) == made.quirks
    found = replay_log(made.log)
    assert (found.pcrs, found.events, found.quirks) == (made.held, made.events, log.quirks)


@given(
    st.lists(
        st.tuples(st.integers(0, 23), st.sampled_from([1, 4, 13, 0x80000008]), st.binary(max_size=30)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([None, 0, 3, 4]),
)
def test_any_log_of_the_older_form_does(events: list[tuple[int, int, bytes]], locality: int | None) -> None:
    """A single event is a log too, and events may have no data."""
    held: dict[int, bytes] = {}
    log = b""
    if locality is not None:
        log += write.sha1_event(0, write.NO_ACTION, bytes(20), write.startup_locality(locality))
        held[0] = bytes([locality]).rjust(20, b"\0")
    for pcr, kind, data in events:
        digest = hashlib.sha1(data).digest()
        log += write.sha1_event(pcr, kind, digest, data)
        held[pcr] = hashlib.sha1(held.get(pcr, bytes(20)) + digest).digest()
    assert replay_log(log + b"\xff" * 100).pcrs == {"sha1": held}
