# SPDX-License-Identifier: Apache-2.0
"""A pack's head is believed only when it leads to the signed digest; decompression never gives more than was said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from content.fsverity import SPAN, HashedSpan, digest_bytes
from lab import images
from updater.compression import BEST, LEVEL, compressed, decompressed
from updater.errors import PackMalformed
from updater.pack import (
    BLOCKS_IN_SPAN,
    FRAMES_IN_SPAN,
    MOST_DELTAS,
    MOST_OF_FRAME,
    RECORD,
    WEAK,
    Head,
    Offer,
    SpanRecord,
    head_limit,
    span_length,
)

IMAGE = images.first()
DIGEST = digest_bytes(IMAGE)
HASHES = b"".join(HashedSpan(IMAGE[start : start + SPAN]).hash for start in range(0, len(IMAGE), SPAN))
OFFERS = st.builds(
    Offer,
    base=st.binary(min_size=32, max_size=32).map(bytes.hex),
    head=st.integers(1, 1000),
    length=st.integers(1000, 2**31),
)


@given(st.lists(OFFERS, max_size=MOST_DELTAS))
def test_a_head_says_the_same_when_read(offers: list[Offer]) -> None:
    head = Head(length=len(IMAGE), offers=tuple(offers), hashes=HASHES)
    encoded = head.encode()
    assert len(encoded) <= head_limit(len(IMAGE))
    assert Head.parse(encoded, DIGEST, len(IMAGE)) == head
    assert head.spans == 7
    assert [span_length(n, len(IMAGE)) for n in (0, 6)] == [SPAN, len(IMAGE) - 6 * SPAN]


@given(st.data())
@settings(max_examples=200)
def test_a_changed_head_never_gives_other_hashes(data: st.DataObject) -> None:
    offer = Offer(base="ab" * 32, head=10, length=100)
    untrusted = bytearray(Head(length=len(IMAGE), offers=(offer,), hashes=HASHES).encode())
    untrusted[data.draw(st.integers(0, len(untrusted) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(untrusted)))
    for untrusted_head in (bytes(untrusted), bytes(untrusted[:cut])):
        try:
            assert Head.parse(untrusted_head, DIGEST, len(IMAGE)).hashes == HASHES
        except PackMalformed:
            continue


def test_the_head_of_another_artifact_is_refused() -> None:
    head = Head(length=len(IMAGE), offers=(), hashes=HASHES).encode()
    with pytest.raises(PackMalformed, match="another artifact"):
        Head.parse(head, digest_bytes(IMAGE + b"x"), len(IMAGE))
    with pytest.raises(PackMalformed):
        Head.parse(head, DIGEST, len(IMAGE) + SPAN)


@given(
    st.integers(0, 2**40),
    st.lists(st.integers(0, MOST_OF_FRAME), min_size=FRAMES_IN_SPAN, max_size=FRAMES_IN_SPAN),
    st.binary(min_size=WEAK * BLOCKS_IN_SPAN, max_size=WEAK * BLOCKS_IN_SPAN),
)
def test_a_record_says_the_same_when_read(offset: int, frames: list[int], weak: bytes) -> None:
    record = SpanRecord(offset=offset, frames=tuple(frames), weak=weak)
    assert SpanRecord.parse(record.encode()) == record
    assert record.range(2) == (offset + frames[0] + frames[1], frames[2])


@given(st.binary(max_size=RECORD + 8))
def test_any_other_bytes_are_a_record_or_one_error(untrusted: bytes) -> None:
    try:
        assert SpanRecord.parse(untrusted).encode() == untrusted
    except PackMalformed:
        return


@given(st.binary(max_size=5000), st.just(b"") | st.binary(min_size=8, max_size=5000), st.sampled_from([LEVEL, BEST]))
def test_what_was_compressed_comes_back(data: bytes, prefix: bytes, level: int) -> None:
    packed = compressed(data, level, prefix=prefix, window_log=20)
    assert decompressed(packed, len(data), prefix=prefix, window_log=20) == data


def test_a_bomb_gives_no_more_than_was_said() -> None:
    bomb = compressed(bytes(64 * 1024 * 1024), BEST)
    assert len(bomb) < 10_000
    with pytest.raises(PackMalformed, match="65537 bytes came out"):
        decompressed(bomb, 65536)


def test_less_than_nothing_is_no_way_around_the_bound() -> None:
    with pytest.raises(PackMalformed, match="-5 bytes"):
        decompressed(compressed(bytes(1024 * 1024), BEST), -5)


def test_a_window_larger_than_agreed_is_refused() -> None:
    packed = compressed(images.first() * 2, BEST, window_log=27)
    with pytest.raises(PackMalformed, match="requires too much memory"):
        decompressed(packed, len(IMAGE) * 2, window_log=20)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_frame_are_refused(untrusted: bytes) -> None:
    with pytest.raises(PackMalformed):
        decompressed(untrusted, 65536)
