# SPDX-License-Identifier: Apache-2.0
"""A large file that is put together from spans: cut or refused anywhere, what verifies is kept and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from content import assembly
from content.fsverity import SPAN, HashedSpan, digest_bytes
from content.store import ContentStore
from lab import images
from lab.crash import crash_points
from lab.faults import fault_points

IMAGE = b"".join(images.blocks(2 * SPAN // 4096 + 3, 5))
DIGEST = digest_bytes(IMAGE)
SPANS = [HashedSpan(IMAGE[start : start + SPAN]) for start in range(0, len(IMAGE), SPAN)]
HASHES = b"".join(span.hash for span in SPANS)


def put_together(root: Path) -> list[int]:
    """Put the file together; the spans that had to be brought."""
    store = ContentStore(root / "store")
    with store.assemble(DIGEST, len(IMAGE), HASHES) as incoming:
        brought = list(incoming.missing())
        for number in brought:
            assert incoming.take(number, SPANS[number])
        incoming.commit()
    return brought


def prepare(root: Path) -> None:
    """An earlier transfer left the last span, and rubbish where the first one goes."""
    store = ContentStore(root / "store")
    with store.assemble(DIGEST, len(IMAGE), HASHES) as incoming:
        assert incoming.take(2, SPANS[2])
    with (root / "store" / "partial" / DIGEST).open("r+b") as file:
        file.write(b"rubbish")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synchronise after each span, so that there are more states to lose."""
    monkeypatch.setattr(assembly, "SYNC", 1)


def require_whole_or_absent(root: Path) -> None:
    store = ContentStore(root / "store")
    store.sweep()
    if store.contains(DIGEST, len(IMAGE)):
        store.verify(DIGEST, len(IMAGE))
    put_together(root)
    store.verify(DIGEST, len(IMAGE))


def test_a_cut_anywhere_leaves_the_file_whole_or_absent(tmp_path: Path) -> None:
    count = 0
    for point in crash_points(tmp_path, prepare, put_together):
        if point.finished:
            ContentStore(point.root / "store").verify(DIGEST, len(IMAGE))
        require_whole_or_absent(point.root)
        count += 1
    assert count > 20


def test_a_refused_effect_leaves_the_file_whole_or_absent(tmp_path: Path) -> None:
    count = 0
    for point in fault_points(tmp_path, prepare, put_together):
        # What could not be synchronised is never taken up again, whatever it reads like; a dead disk may keep it.
        assert not point.distrusted or point.fault.lasting, point.label
        require_whole_or_absent(point.root)
        count += 1
    assert count > 20
