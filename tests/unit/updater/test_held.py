# SPDX-License-Identifier: Apache-2.0
"""Blocks that a host has are found wherever they moved, also where a part of what it has cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from content.fsverity import BLOCK, SPAN, Measured, digest_bytes, hash_blocks
from content.store import ContentStore
from lab import images
from updater.client.held import HeldArtifact
from updater.pack import WEAK

IMAGE = images.first()


@pytest.fixture
def held(tmp_path: Path):
    store = ContentStore(tmp_path / "store")
    store.add_bytes(IMAGE)
    with HeldArtifact(store, Measured(fsverity=digest_bytes(IMAGE), length=len(IMAGE))) as opened:
        yield opened


def _weak(*numbers: int) -> bytes:
    return b"".join(hash_blocks(IMAGE[n * BLOCK : (n + 1) * BLOCK])[:WEAK] for n in numbers)


def test_blocks_are_found_where_they_lie(held: HeldArtifact) -> None:
    seen = {}
    held.index(lambda number, span: seen.setdefault(number, span.data))
    assert b"".join(data for _, data in sorted(seen.items())) == IMAGE
    last = len(IMAGE) // BLOCK
    assert list(held.find(_weak(700, 5, 6, last) + b"none")) == [700, 5, 6, last, -1]


def test_a_part_that_cannot_be_read_moves_nothing(held: HeldArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread

    def failing(descriptor: int, length: int, offset: int) -> bytes:
        if offset == SPAN:
            raise OSError(5, "Input/output error")
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", failing)
    held.index(lambda *_: None)
    monkeypatch.setattr(os, "pread", real)
    in_it = SPAN // BLOCK + 3
    assert list(held.find(_weak(700, in_it, 5))) == [700, -1, 5]


def test_blocks_that_follow_each_other_settle_chance_matches(held: HeldArtifact) -> None:
    held.index(lambda *_: None)
    # As if block 900 had, by chance, the weak hash of block 11.
    held._weak[800] = held._weak[11]
    assert list(held.find(_weak(10, 11, 12))) == [10, 11, 12]
