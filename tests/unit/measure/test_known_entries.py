# SPDX-License-Identifier: Apache-2.0
"""A list taken apart by what an image says is the list that the parser reads, and refused where that refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.host_image import ImageFile
from lab import event_logs as write
from lab.boot_logs import extended, ima_file
from measure import ima
from measure.errors import LogRefused
from measure.formats.cursor import Bounds
from measure.known_entries import MOST_PARSED, KnownEntries
from measure.pcr import ALGORITHMS

FILES = tuple(
    ImageFile(path=f"/usr/bin/p{n}", sha256=hashlib.sha256(b"%d" % n).hexdigest(), fsverity="00" * 32)
    for n in range(20)
)
KNOWN = KnownEntries(FILES)
Read = tuple[tuple[ima.ImaEntry, ...], list[bytes]] | str


def entry(file: ImageFile, template: bytes = b"ima-sig") -> bytes:
    return write.ima_binary(10, template, ima_file(file.path, bytes.fromhex(file.sha256), template))


def signed(file: ImageFile) -> bytes:
    data = write.ima_data(b"sha256:\0" + bytes.fromhex(file.sha256), file.path.encode() + b"\0", b"a signature")
    return write.ima_binary(10, b"ima-sig", data)


def violation(file: ImageFile) -> bytes:
    return write.ima_binary(10, b"ima-ng", ima_file(file.path, bytes(32), b"ima-ng"), digest=bytes(20))


AGGREGATE = write.ima_binary(10, b"ima-sig", ima_file("boot_aggregate", bytes(32)))
OTHER_PCR = write.ima_binary(11, b"ima-ng", ima_file("/x", bytes(32), b"ima-ng"))
PIECES = [
    AGGREGATE, OTHER_PCR,
    *(make(file) for file in FILES[:3] for make in (entry, signed, violation)),
    *(entry(file, b"ima-ng") for file in FILES[:3]),
]  # fmt: skip


def outcome(known: KnownEntries, data: bytes) -> Read:
    try:
        return known.read(data)
    except LogRefused as error:
        return error.line()


def plain(data: bytes) -> Read:
    """By the parser, and the replay of each part of the list."""
    try:
        log = ima.parse_ima(data)
    except LogRefused as error:
        return error.line()
    value, values = bytes(32), [bytes(32)]
    for read in log.entries:
        value = extended(value, b"\xff" * 32 if read.violation else hashlib.sha256(read.data).digest())
        values.append(value)
    return log.entries, values


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=30))
def test_a_list_of_known_and_other_entries(pieces: Sequence[bytes]) -> None:
    data = b"".join(pieces)
    assert outcome(KNOWN, data) == plain(data)
    assert not isinstance(plain(data), str)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8), st.data())
def test_a_list_that_was_damaged(pieces: Sequence[bytes], draw: st.DataObject) -> None:
    data = b"".join(pieces)
    at = draw.draw(st.integers(0, len(data) - 1))
    for damaged in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data + data[:at], b"10 " + data):
        if damaged:
            assert outcome(KNOWN, damaged) == plain(damaged)


@given(st.binary(min_size=1, max_size=200))
def test_other_bytes(data: bytes) -> None:
    assert outcome(KNOWN, data) == plain(data)


@pytest.mark.parametrize("alg", [alg for alg in ALGORITHMS if alg != "sha1"])
def test_a_list_of_another_bank_is_left_to_the_parser(alg: str) -> None:
    data = b"".join(
        write.ima_binary(10, b"ima-ng", ima_file(file.path, bytes.fromhex(file.sha256), b"ima-ng"), alg=alg)
        for file in FILES
    )
    assert outcome(KNOWN, data) == plain(data)
    assert not isinstance(plain(data), str)


def test_lists_in_ascii_and_of_the_first_template() -> None:
    data = ima_file(FILES[0].path, bytes.fromhex(FILES[0].sha256), b"ima-ng")
    digest = f"sha256:{FILES[0].sha256}".encode()
    text = write.ima_ascii(10, b"ima-ng", data, digest, FILES[0].path.encode())
    assert outcome(KNOWN, text) == plain(text)
    assert not isinstance(plain(text), str)


def test_no_list_and_nothing_known() -> None:
    assert KNOWN.read(b"") == ((), [bytes(32)])
    assert KnownEntries().read(b"") == ((), [bytes(32)])
    data = b"".join(PIECES)
    assert outcome(KnownEntries(), data) == plain(data)


def test_a_list_of_very_many_unknown_entries() -> None:
    more = [
        write.ima_binary(10, b"ima-sig", ima_file(f"/home/{number}", bytes(32))) for number in range(MOST_PARSED + 5)
    ]
    for count in (MOST_PARSED - 1, MOST_PARSED, MOST_PARSED + 5):
        data = b"".join([AGGREGATE, *more[:count], entry(FILES[0])])
        assert outcome(KNOWN, data) == plain(data)


@pytest.mark.parametrize("bounds", [Bounds(octets=1_000, events=1_000), Bounds(octets=100_000, events=3)])
def test_the_parsers_bounds_stand(monkeypatch: pytest.MonkeyPatch, bounds: Bounds) -> None:
    data = b"".join(map(entry, FILES))
    assert not isinstance(outcome(KNOWN, data), str)
    for module in ("ima", "known_entries"):
        monkeypatch.setattr(f"measure.{module}.BOUNDS", bounds)
    assert isinstance(plain(data), str)
    assert outcome(KNOWN, data) == plain(data)


def test_most_entries_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what it is for: the parser sees what is not the image's, and no more."""
    seen: list[bytes] = []

    def counted(untrusted: bytes) -> ima.ImaList:
        seen.append(untrusted)
        return ima.parse_ima(untrusted)

    monkeypatch.setattr("measure.known_entries.parse_ima", counted)
    KNOWN.read(b"".join([AGGREGATE, *map(entry, FILES), signed(FILES[0])]))
    assert seen == [AGGREGATE, signed(FILES[0])]
