# SPDX-License-Identifier: Apache-2.0
"""The measurement log in CBOR: the same records as in JSON, in one encoding, and nothing else is read."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.event import MeasuredEvent
from lab.documents import EVENT_DOCUMENTS, damaged
from lab.measuring import BANKS, booted, logged, platform, started
from measure import cel
from measure.cel import LOG_LIMIT, LOGGED, encode_record, record, replay
from measure.cel_cbor import CONTENT_TYPE, encode_log, parse_log
from measure.errors import LogRefused
from measure.replay import replay_log

ALGS = st.sets(st.sampled_from(BANKS), min_size=1)
EVENTS = st.lists(st.tuples(st.sampled_from(LOGGED), EVENT_DOCUMENTS), max_size=30)
RECORDS = logged([*booted(platform(1)), started("desk", 1)])
WHOLE = encode_log(RECORDS)


def refuses(log: bytes, cause: str = "") -> None:
    with pytest.raises(LogRefused) as refused:
        parse_log(log)
    assert cause in refused.value.cause


@given(EVENTS, ALGS)
def test_what_is_written_is_read(events: list[tuple[int, MeasuredEvent]], algs: set[str]) -> None:
    records = tuple(record(number, pcr, event, algs) for number, (pcr, event) in enumerate(events))
    assert parse_log(encode_log(records)) == records


@given(EVENTS)
def test_both_forms_say_the_same_and_lead_to_the_same_values(events: list[tuple[int, MeasuredEvent]]) -> None:
    records = tuple(record(number, pcr, event, ["sha256"]) for number, (pcr, event) in enumerate(events))
    json_log = b"".join(map(encode_record, records))
    assert parse_log(encode_log(records)) == cel.parse_log(json_log)
    one = replay_log(encode_log(records))
    assert (one.format, one.events) == ("cel-cbor", len(records))
    if records:
        assert one.pcrs == replay_log(json_log).pcrs


def test_a_program_that_knows_cbor_alone_reads_it() -> None:
    items = cbor2.loads(WHOLE)
    for pcr in LOGGED:
        numbers = [item[0] for item in items if item[1] == pcr]
        assert numbers == list(range(len(numbers))), "each register's records are counted"
    assert {item[9] for item in items} == {CONTENT_TYPE} == {0x766D}
    assert [item[10] for item in items] == [entry.content.encode() for entry in RECORDS]
    assert [digest[0] for digest in items[0][3]] == [0x0004, 0x000B, 0x000C, 0x000D]
    # The library that wrote the records would write the whole the same way.
    assert cbor2.dumps(items, canonical=True) == WHOLE


def test_a_known_log_has_a_known_encoding() -> None:
    event = MeasuredEvent(event="component", subject="repository", fsverity="ab" * 32)
    entry = record(0, 13, event, ["sha256"])
    content = event.encode()
    assert encode_log([entry]) == (
        bytes.fromhex("81 a5 00 00 01 0d 03 81 a2 00 0b 01 58 20")
        + entry.digests["sha256"]
        + bytes.fromhex("09 19 76 6d 0a 58")
        + bytes([len(content)])
        + content
    )


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(data: bytes) -> None:
    if data != b"\x80":
        refuses(data)


def test_damage_anywhere_is_refused_or_replays_to_something_else() -> None:
    """The PCR's number is not in the content; the TPM tells the two apart."""
    for data in damaged(WHOLE):
        try:
            found = parse_log(data)
        except LogRefused:
            continue
        assert replay(found, "sha256") != replay(RECORDS, "sha256")


def test_every_truncation_is_refused() -> None:
    for end in range(len(WHOLE)):
        refuses(WHOLE[:end])


def edited(number: int, **changes: Any) -> bytes:
    keys = {"recnum": 0, "pcr": 1, "digests": 3, "content_type": 9, "content": 10, "more": 11}
    items = cbor2.loads(WHOLE)
    items[number] |= {keys[name]: value for name, value in changes.items()}
    return cbor2.dumps(items, canonical=True)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"recnum": 7}, "not the next"),
        ({"recnum": True}, "no place in it"),
        ({"recnum": -1}, "not the next"),
        ({"pcr": 14}, "PCR is none of 12, 13"),
        ({"pcr": 13.0}, "no place in it"),
        ({"content_type": 7}, "not vmgate's"),
        ({"content_type": "vmgate"}, "not vmgate's"),
        ({"digests": []}, "none, or too many"),
        ({"digests": [{0: 11, 1: bytes(32)}]}, "not the hashes"),
        ({"digests": [{0: 11, 1: bytes(20)}]}, "not of its length"),
        ({"digests": [{0: 0x12, 1: bytes(32)}]}, "no known algorithm"),
        ({"digests": [{0: 11, 1: bytes(32)}] * 2}, "there twice"),
        ({"digests": [{0: 11, 1: bytes(32), 2: 0}]}, "other members"),
        ({"content": {}}, "not a byte string"),
        ({"content": b"{}"}, "missing"),
        ({"content": bytes(1_001)}, "bytes"),
        ({"more": 1}, "other members"),
    ],
)
def test_a_record_that_does_not_fit_is_named(changes: dict[str, Any], cause: str) -> None:
    refuses(edited(1, **changes), cause)


def test_another_encoding_of_the_same_log_is_refused() -> None:
    first = cbor2.dumps([cbor2.loads(WHOLE)[0]], canonical=True)
    assert len(parse_log(first)) == 1
    for other in (
        # An array and a map without a length, a number and a length longer than they need be, another order.
        b"\x9f" + first[1:] + b"\xff",
        b"\x98\x01" + first[1:],
        first[:1] + b"\xbf" + first[2:] + b"\xff",
        first[:1] + b"\xa5\x18\x00\x00" + first[4:],
        first[:1] + b"\xa5\x01\x0d\x00\x00" + first[6:],
        # A tag that says that CBOR follows.
        b"\xd9\xd9\xf7" + first,
        first[:1] + b"\xd9\xd9\xf7" + first[1:],
        first + b"\x00",
    ):
        assert other != first
        refuses(other)


def test_a_record_with_fewer_banks_is_refused() -> None:
    """Else a bank could be left out where nobody looks."""
    first, second = booted(platform(1))[:2]
    refuses(encode_log([record(0, *first, BANKS), record(1, *second, ["sha256"])]), "other banks")


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x81" * 100_000,
        b"\x9a\xff\xff\xff\xff",
        b"\x9b" + b"\xff" * 8,
        b"\x81\xba\xff\xff\xff\xff",
        b"\x81\x5a\xff\xff\xff\xff",
        b"\x81\xd8\x1e\x82\x01\x00",
        b"\x81\xc4\x82\x1b" + b"\xff" * 8 + b"\x01",
        b"\x9a\x00\x01\x38\x80" + b"\x80" * 80_000,
        b"\x80" * (LOG_LIMIT + 1),
    ],
)
def test_a_bomb_does_not_go_off(bomb: bytes) -> None:
    refuses(bomb)
