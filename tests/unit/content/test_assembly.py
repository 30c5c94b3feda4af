# SPDX-License-Identifier: Apache-2.0
"""A large file is put together in any order, keeps what verifies of an earlier try, and takes nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from content.assembly import Assembly
from content.errors import DigestMismatch, StorageFull
from content.fsverity import SPAN, HashedSpan, digest_bytes
from content.store import ContentStore
from lab import images

IMAGE = images.first()
DIGEST = digest_bytes(IMAGE)
SPANS = [HashedSpan(IMAGE[start : start + SPAN]) for start in range(0, len(IMAGE), SPAN)]
HASHES = b"".join(span.hash for span in SPANS)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


def _fill(assembly: Assembly, numbers: list[int]) -> None:
    for number in numbers:
        assert assembly.take(number, SPANS[number])


def test_spans_come_in_any_order_and_zeros_not_at_all(store: ContentStore) -> None:
    with store.assemble(DIGEST, len(IMAGE), HASHES) as assembly:
        assert list(assembly.missing()) == [0, 1, 3, 4, 5, 6]
        _fill(assembly, [6, 0, 4, 3, 1, 5])
        assert assembly.absent == 0
        assembly.commit()
    store.verify(DIGEST, len(IMAGE))
    assert store.path(DIGEST).read_bytes() == IMAGE
    assert store.path(DIGEST).stat().st_blocks * 512 < len(IMAGE) - SPAN + 64 * 1024


def test_a_span_that_is_not_the_right_one_is_not_written(store: ContentStore) -> None:
    with store.assemble(DIGEST, len(IMAGE), HASHES) as assembly:
        wrong = bytearray(SPANS[1].data)
        wrong[70_000] ^= 1
        assert not assembly.take(1, HashedSpan(bytes(wrong)))
        assert not assembly.take(1, SPANS[0])
        # Zeros beyond the end hash alike; the length tells.
        assert not assembly.take(6, HashedSpan(SPANS[6].data + b"\0"))
        assert list(assembly.missing()) == [0, 1, 3, 4, 5, 6]
        with pytest.raises(ValueError, match="are missing"):
            assembly.commit()
    assert not store.contains(DIGEST, len(IMAGE))


def test_hashes_of_another_file_are_refused(store: ContentStore) -> None:
    other = b"".join(reversed([HASHES[i : i + 32] for i in range(0, len(HASHES), 32)]))
    with pytest.raises(DigestMismatch), store.assemble(DIGEST, len(IMAGE), other):
        pass


def test_the_next_try_keeps_what_verifies(store: ContentStore) -> None:
    with store.assemble(DIGEST, len(IMAGE), HASHES) as assembly:
        _fill(assembly, [0, 3, 6])
    with store.assemble(DIGEST, len(IMAGE), HASHES) as assembly:
        assert list(assembly.missing()) == [1, 4, 5]
        _fill(assembly, [1, 4, 5])
        assembly.commit()
    store.verify(DIGEST, len(IMAGE))


def test_what_a_plain_transfer_left_is_of_use(store: ContentStore) -> None:
    with store.receive(DIGEST, len(IMAGE)) as incoming:
        incoming.write(IMAGE[: 2 * SPAN + 5])
    with store.assemble(DIGEST, len(IMAGE), HASHES) as assembly:
        assert list(assembly.missing()) == [2, 3, 4, 5, 6]
        assert assembly.take(2, SPANS[2])
        _fill(assembly, [3, 4, 5, 6])
        assembly.commit()
    store.verify(DIGEST, len(IMAGE))


@given(
    st.lists(st.tuples(st.integers(0, len(IMAGE) + SPAN), st.binary(min_size=1, max_size=100)), max_size=12),
    st.sets(st.sampled_from([0, 1, 3, 4, 5, 6])),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_rubbish_in_an_unfinished_file_survives(
    tmp_path: Path, rubbish: list[tuple[int, bytes]], done: set[int]
) -> None:
    store = ContentStore(tmp_path / "store")
    partial = store.root / "partial" / DIGEST
    with store.assemble(DIGEST, len(IMAGE), HASHES) as assembly:
        _fill(assembly, sorted(done))
    with partial.open("r+b") as file:
        for offset, data in rubbish:
            file.seek(offset)
            file.write(data)
    with store.assemble(DIGEST, len(IMAGE), HASHES) as assembly:
        _fill(assembly, list(assembly.missing()))
        assembly.commit()
    assert store.path(DIGEST).read_bytes() == IMAGE
    store.path(DIGEST).unlink()


def test_room_is_asked_for_before_the_first_byte(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(store.root.parent)
    values = list(real)
    values[4] = 2 * SPAN // real.f_frsize
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    needed = len(IMAGE) - SPAN
    with pytest.raises(StorageFull, match=f"make room for {needed} bytes"), store.assemble(DIGEST, len(IMAGE), HASHES):
        pass
