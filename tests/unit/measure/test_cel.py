# SPDX-License-Identifier: Apache-2.0
"""The measurement log as bytes: what is written is read, and nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.event import MeasuredEvent
from lab.documents import EVENT_DOCUMENTS, damaged
from lab.measuring import BANKS, booted, logged, platform, started
from measure.cel import LOG_LIMIT, LOGGED, CelRecord, encode_record, parse_log, record, replay
from measure.errors import LogRefused
from measure.pcr import LAUNCH_PCR, VMM_PCR, reset_value
from measure.predict import vmm_pcr_fresh

ALGS = st.sets(st.sampled_from(BANKS), min_size=1)
EVENTS = st.lists(st.tuples(st.sampled_from(LOGGED), EVENT_DOCUMENTS), max_size=5)


def encoded(records: tuple[CelRecord, ...]) -> bytes:
    return b"".join(encode_record(entry) for entry in records)


def sample() -> bytes:
    return encoded(logged([*booted(platform(1)), started("desk", 1)]))


@given(EVENTS, ALGS)
def test_what_is_written_is_read(events: list[tuple[int, MeasuredEvent]], algs: set[str]) -> None:
    records = tuple(record(number, pcr, event, algs) for number, (pcr, event) in enumerate(events))
    assert parse_log(encoded(records)) == records


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(data: bytes) -> None:
    if data:
        with pytest.raises(LogRefused):
            parse_log(data)


def test_damage_anywhere_is_refused_or_replays_to_something_else() -> None:
    """The PCR's number is not in the content; the TPM tells the two apart."""
    whole = sample()
    records = parse_log(whole)
    for data in damaged(whole):
        try:
            found = parse_log(data)
        except LogRefused:
            continue
        assert replay(found, "sha256") != replay(records, "sha256")


def test_every_truncation_is_refused_but_those_between_records() -> None:
    whole = sample()
    ends = {0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))}
    for end in range(len(whole)):
        if end in ends:
            parse_log(whole[:end])
        else:
            with pytest.raises(LogRefused):
                parse_log(whole[:end])


def edited(number: int, **changes: object) -> bytes:
    lines = sample().splitlines(keepends=True)
    value = json.loads(lines[number]) | changes
    lines[number] = json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"recnum": 7}, "carries number 7"),
        ({"pcr": 14}, "not between 12 and 13"),
        ({"content_type": "ima"}, "not one of the known"),
        ({"digests": []}, "empty"),
        ({"digests": [{"digest": "00" * 32, "hashAlg": "sha256"}]}, "not the hash"),
        ({"digests": [{"digest": "00" * 20, "hashAlg": "sha256"}]}, "not a sha256 digest"),
        ({"digests": [{"digest": "00" * 16, "hashAlg": "md5"}]}, "not one of the known"),
        ({"content": "component"}, "not an object"),
        ({"more": 1}, "unknown"),
    ],
)
def test_a_record_that_does_not_fit_is_named(changes: dict[str, object], cause: str) -> None:
    with pytest.raises(LogRefused) as refused:
        parse_log(edited(1, **changes))
    assert "record 1" in refused.value.cause
    assert cause in refused.value.cause


def test_a_record_with_fewer_banks_is_refused() -> None:
    """Else a bank could be left out where nobody looks."""
    first, second = booted(platform(1))[:2]
    lines = encode_record(record(0, *first, BANKS)) + encode_record(record(1, *second, ["sha256"]))
    with pytest.raises(LogRefused, match="refused") as refused:
        parse_log(lines)
    assert "other banks" in refused.value.cause


def test_a_log_without_bound_is_not_parsed() -> None:
    with pytest.raises(LogRefused) as refused:
        parse_log(b"\n" * (LOG_LIMIT + 1))
    assert "more than" in refused.value.cause


def test_replay_gives_what_was_predicted() -> None:
    release = platform(1)
    values = replay(logged(booted(release)), "sha256")
    assert values[VMM_PCR].hex() == vmm_pcr_fresh(release.reference)
    assert values[LAUNCH_PCR] == reset_value("sha256", LAUNCH_PCR)


def test_a_bank_that_was_not_logged_cannot_be_replayed() -> None:
    entry = record(0, *booted(platform(1))[0], ["sha384"])
    with pytest.raises(LogRefused):
        replay([entry], "sha256")


def test_a_record_for_another_pcr_is_a_bug() -> None:
    event = booted(platform(1))[0][1]
    with pytest.raises(ValueError, match="12 or 13"):
        record(0, 14, event, BANKS)
    with pytest.raises(ValueError, match="bank"):
        record(0, 13, event, [])
