# SPDX-License-Identifier: Apache-2.0
"""Spans of another file are taken over by several processes: only the right ones, wherever one of them fails."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from content import hash_worker, worker_pool
from content.assembly import Assembly
from content.errors import StorageFull
from content.fsverity import BLOCK, SPAN, HashedSpan, digest_bytes
from content.hash_worker import LOOK, PLAIN, TAKEN, TASK, UNTOUCHED, WRONG
from content.store import ContentStore
from content.worker_pool import WORTH
from lab import images

COUNT = WORTH + 2
WORDS = [bytes(SPAN), b"".join(images.blocks(SPAN // BLOCK, 7))]
"""A span of zeros, and one of bytes; what is between them has both."""


def _span(number: int) -> bytes:
    half = WORDS[1][: SPAN // 2]
    return (number.to_bytes(4, "big") * 1024 + half[BLOCK:]) + (half if number % 3 else bytes(SPAN // 2))


IMAGE = b"".join(WORDS[0] if number == 5 else _span(number) for number in range(COUNT)) + b"the end"
DIGEST = digest_bytes(IMAGE)
HASHES = b"".join(HashedSpan(IMAGE[start : start + SPAN]).hash for start in range(0, len(IMAGE), SPAN))


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


@pytest.fixture
def assembly(store: ContentStore) -> Iterator[Assembly]:
    with store.assemble(DIGEST, len(IMAGE), HASHES) as assembly:
        yield assembly


@pytest.fixture
def base(tmp_path: Path) -> Iterator[int]:
    """A file that has the image from its second block on."""
    path = tmp_path / "base"
    path.write_bytes(b"x" * BLOCK + IMAGE)
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)
    path.unlink()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started, although the machine may have one core."""
    processes: list[subprocess.Popen[bytes]] = []
    start = worker_pool._start

    def noting(words: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
        processes.append(start(words, descriptors))
        return processes[-1]

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(worker_pool, "_start", noting)
    return processes


def _places() -> list[tuple[int, int]]:
    return [(number, BLOCK + number * SPAN) for number in range(COUNT + 1)]


def test_several_processes_take_what_is_right(
    store: ContentStore, assembly: Assembly, base: int, started: list[subprocess.Popen[bytes]]
) -> None:
    told: list[int] = []
    assert assembly.copy(base, BLOCK + len(IMAGE), _places(), told.append)
    assert [process.returncode for process in started] == [0, 0]
    # The span of zeros was there before, and the last one is not whole.
    assert sum(told) == (COUNT - 1) * SPAN
    assert list(assembly.missing()) == [COUNT]
    assert assembly.take(COUNT, HashedSpan(b"the end"))
    assembly.commit()
    assert store.path(DIGEST).read_bytes() == IMAGE
    # A third of the spans are zeros from their middle on, which stay holes.
    assert store.path(DIGEST).stat().st_blocks * 512 < len(IMAGE) * 0.9


@pytest.mark.usefixtures("started")
def test_a_span_that_is_not_right_is_not_written(assembly: Assembly, base: int) -> None:
    os.pwrite(base, b"!", BLOCK + 7 * SPAN)
    assert not assembly.copy(base, BLOCK + len(IMAGE), _places(), lambda _: None)
    assert list(assembly.missing()) == [7, COUNT]


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ends_early_spoils_nothing(
    assembly: Assembly, base: int, monkeypatch: pytest.MonkeyPatch, fate: int
) -> None:
    start = worker_pool._start

    def killed(words: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
        process = start(words, descriptors)
        process.send_signal(fate)
        return process

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(worker_pool, "_start", killed)
    assert assembly.copy(base, BLOCK + len(IMAGE), _places(), lambda _: None)


def test_a_full_disk_is_told_and_leaves_no_process(
    assembly: Assembly, base: int, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFull("nothing was written", needed=SPAN, cause="a test")

    monkeypatch.setattr(assembly._writer, "write_at", full)
    with pytest.raises(StorageFull):
        assembly.copy(base, BLOCK + len(IMAGE), _places(), lambda _: None)
    assert all(process.returncode is not None for process in started)


def test_what_stands_in_the_same_place_is_taken_and_all_blocks_are_told(
    assembly: Assembly, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    other = tmp_path / "other"
    other.write_bytes(IMAGE[: 9 * SPAN] + b"!" * BLOCK + IMAGE[9 * SPAN + BLOCK :])
    with other.open("rb") as file:
        weak = assembly.scan(file.fileno(), len(IMAGE), len(IMAGE) // BLOCK, lambda _: None)
    assert list(assembly.missing()) == [9, COUNT]
    assert len(started) == 2
    leaves = HashedSpan(IMAGE[8 * SPAN : 9 * SPAN]).leaves
    place = 8 * SPAN // BLOCK * 4
    assert weak[place : place + 512] == b"".join(leaves[at : at + 4] for at in range(0, len(leaves), 32))
    other.unlink()


def _worker(tmp_path: Path, starter: int, *tasks: tuple[int, int, int]) -> bytes:
    """What becomes of three spans, of which the source has only the first."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(IMAGE[:SPAN] * 3)
    given, states, weak = (os.memfd_create(name) for name in ("given", "states", "weak"))
    os.pwrite(given, HASHES[:96], 0)
    os.ftruncate(states, 3)
    pipe, feed = os.pipe()
    for task in tasks:
        os.write(feed, TASK.pack(*task))
    os.close(feed)
    with source.open("rb") as read, target.open("w+b") as write:
        numbers = (pipe, write.fileno(), starter, read.fileno(), 3 * SPAN, given, states, weak, 0)
        hash_worker.main(["take", *map(str, numbers)])
    found = os.pread(states, 3, 0)
    for descriptor in (given, states, weak, pipe):
        os.close(descriptor)
    return found


def test_the_worker_says_what_became_of_each(tmp_path: Path) -> None:
    found = _worker(tmp_path, os.getppid(), (SPAN, 0, PLAIN), (0, 1, PLAIN), (2 * SPAN, 2, LOOK))
    assert found == bytes((TAKEN, WRONG, WRONG))
    assert (tmp_path / "target").read_bytes() == IMAGE[: SPAN // 2]


def test_a_worker_whose_starter_died_stops(tmp_path: Path) -> None:
    """The next process may be at work on the same file."""
    found = _worker(tmp_path, 1 if os.getppid() != 1 else 2, (0, 0, PLAIN), (0, 1, PLAIN))
    assert found == bytes((TAKEN, UNTOUCHED, UNTOUCHED))
