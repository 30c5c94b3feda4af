# SPDX-License-Identifier: Apache-2.0
"""Blocks that a host has are found wherever they moved, also where a part of what it has cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from content.assembly import Assembly
from content.fsverity import BLOCK, SPAN, HashedSpan, Measured, digest_bytes, hash_blocks
from content.store import ContentStore
from lab import images
from updater.client.held import HeldArtifact
from updater.pack import WEAK

IMAGE = images.first()
NEXT = images.edited(IMAGE)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    store = ContentStore(tmp_path / "store")
    store.add_bytes(IMAGE)
    return store


@pytest.fixture
def held(store: ContentStore) -> Iterator[HeldArtifact]:
    with HeldArtifact(store, Measured(fsverity=digest_bytes(IMAGE), length=len(IMAGE))) as opened:
        yield opened


@pytest.fixture
def assembly(store: ContentStore) -> Iterator[Assembly]:
    """Of the next release's image."""
    spans = [HashedSpan(NEXT[start : start + SPAN]) for start in range(0, len(NEXT), SPAN)]
    with store.assemble(digest_bytes(NEXT), len(NEXT), b"".join(span.hash for span in spans)) as assembly:
        yield assembly


def _weak(*numbers: int) -> bytes:
    return b"".join(hash_blocks(IMAGE[n * BLOCK : (n + 1) * BLOCK])[:WEAK] for n in numbers)


def test_blocks_are_found_where_they_lie(held: HeldArtifact, assembly: Assembly) -> None:
    told: list[int] = []
    held.index(assembly, told.append)
    # What stands in the same place was taken on the way; the last span, which is not whole, is not looked for.
    assert list(assembly.missing()) == [0, 5, 6]
    assert sum(told) == 3 * SPAN
    last = len(IMAGE) // BLOCK
    assert list(held.find(_weak(700, 5, 6, last) + b"none")) == [700, 5, 6, last, -1]


def test_a_part_that_cannot_be_read_moves_nothing(
    held: HeldArtifact, assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv

    def failing(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if offset == SPAN:
            raise OSError(5, "Input/output error")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)
    held.index(assembly, lambda _: None)
    monkeypatch.setattr(os, "preadv", real)
    assert list(assembly.missing()) == [0, 1, 5, 6]
    in_it = SPAN // BLOCK + 3
    assert list(held.find(_weak(700, in_it, 5))) == [700, -1, 5]


def test_blocks_that_follow_each_other_settle_chance_matches(held: HeldArtifact, assembly: Assembly) -> None:
    held.index(assembly, lambda _: None)
    # As if block 900 had, by chance, the weak hash of block 11.
    held._weak[800] = held._weak[11]
    assert list(held.find(_weak(10, 11, 12))) == [10, 11, 12]
