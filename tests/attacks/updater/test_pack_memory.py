# SPDX-License-Identifier: Apache-2.0
"""Packs that are made to fill the host's memory: what they say of their sizes is seen through before it is read."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from content.fsverity import Measured, digest_bytes
from lab import images
from lab.hostile import Scene, body
from updater.compression import LEVEL, compressed, decompressed
from updater.delta import MOST_OF_HEAD
from updater.errors import PackMalformed
from updater.formats import delta_part, pack_name
from updater.pack import FRAME, FRAMES, HEAD, MOST_OF_FRAME, RECORD, SPANS, Head, Offer, SpanRecord
from updater.repository.packing import read_head
from updater.repository.serve import _Handler

MANY = 256 * 1024 * 1024
FEW = 64 * 1024 * 1024
"""Bytes that an update of these small images never takes."""


def _part(data: bytes) -> Callable[[_Handler], None]:
    """The range of these bytes that is asked for."""

    def rule(handler: _Handler) -> None:
        first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1]
        body(part, 206, Content_Range=f"bytes {first}-{last}/{len(data)}")(handler)

    return rule


@contextmanager
def _little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < FEW
    finally:
        tracemalloc.stop()


def test_a_frame_beyond_the_end_of_the_image_is_not_unpacked(stage: Scene) -> None:
    """The last span is short, is wrong at first, and then has one frame more, which holds a quarter of a gigabyte."""
    image = images.first(seed=9)
    stage.publisher.publish_workload(2, image)
    digest, repository = digest_bytes(image), stage.publisher.repository
    records = (repository / pack_name(digest, SPANS)).read_bytes()
    frames = (repository / pack_name(digest, FRAMES)).read_bytes()
    last = SpanRecord.parse(records[-RECORD:])
    assert last.frames[4] > 0 == last.frames[5]
    wrong, bomb = compressed(bytes(FRAME), LEVEL), compressed(bytes(MANY), LEVEL)
    assert len(bomb) <= MOST_OF_FRAME
    start = last.range(1)[0]
    rest = frames[start : start + sum(last.frames[1:5])]
    record = SpanRecord(offset=len(frames), frames=(len(wrong), *last.frames[1:5], len(bomb), 0, 0), weak=last.weak)
    stage.server.rules[pack_name(digest, SPANS)] = _part(records[:-RECORD] + record.encode())
    stage.server.rules[pack_name(digest, FRAMES)] = _part(frames + wrong + rest + bomb)
    with _little_memory():
        assert stage.host.apply(stage.source, stage.now) is not None
    assert stage.host.store.path(digest).read_bytes() == image


def test_a_delta_whose_head_would_be_as_large_as_the_image_is_not_fetched(stage: Scene) -> None:
    old, new = images.first() * 4, images.edited(images.first() * 4)
    for number, image in ((2, old), (3, new)):
        stage.publisher.publish_workload(number, image)
        if number == 2:
            assert stage.host.apply(stage.source, stage.now) is not None
    path = stage.publisher.repository / pack_name(digest_bytes(new), HEAD)
    head = read_head(stage.publisher.repository, Measured(fsverity=digest_bytes(new), length=len(new)))
    assert len(new) > MOST_OF_HEAD + 1
    offer = Offer(base=digest_bytes(old), head=MOST_OF_HEAD + 1, length=MOST_OF_HEAD + 1)
    path.write_bytes(Head(length=len(new), offers=(offer,), hashes=head.hashes).encode())
    stage.server.requests.clear()
    assert stage.host.apply(stage.source, stage.now) is not None
    assert pack_name(digest_bytes(new), delta_part(digest_bytes(old))) not in stage.asked()


def test_nothing_is_unpacked_without_a_bound() -> None:
    with pytest.raises(PackMalformed, match="-1"):
        decompressed(compressed(b"x", LEVEL), -1)
