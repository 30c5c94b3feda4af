# SPDX-License-Identifier: Apache-2.0
"""A level of a large file's tree, hashed by processes on all cores.

The starter works as well, so the others only make it quicker: where they cannot be started, or one of them fails, all
of it is done here, and what is wrong with the file is found here. This module does not judge a digest.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from content import hash_worker
from content.hash_worker import NUMBER, hash_named, hash_units, numbers_from, place_of

WORTH = 128
"""Units (64 MiB) below which starting another process takes longer than it saves."""

MOST = 8
"""Processes at most, the starter included: more only wait for the memory, and each needs 10 MB of it."""

_PIPE = 16 * 1024
"""Bytes of unit numbers that wait in the pipe: work of at most two seconds if the starter dies."""

_PROGRAM = Path(hash_worker.__file__)


def hash_level(descriptor: int, numbers: list[int], level: bytearray, length: int, name: str) -> None:
    """Put the hashes of some units of an open file into the level above its leaves.

    Args:
        descriptor: of the file.
        numbers: of the units.
        level: room for the whole level; what stands for other units stays.
        length: of the file, in bytes.
        name: of the hash in ``hashlib``.

    Raises:
        EOFError: the file is shorter.
        OSError: it cannot be read.
    """
    if len(numbers) < WORTH or not _shared(descriptor, numbers, level, length, name):
        for number, hashes in hash_units(descriptor, numbers, length, hash_named(name)):
            place = place_of(number, name)
            level[place : place + len(hashes)] = hashes


def _shared(descriptor: int, numbers: list[int], level: bytearray, length: int, name: str) -> bool:
    """The same with others; returns whether there were any and all of them did their part."""
    others = min(len(os.sched_getaffinity(0)), MOST) - 1
    if others < 1:
        return False
    with ExitStack() as stack:
        results = os.memfd_create("vmgate-level", os.MFD_CLOEXEC)
        stack.callback(os.close, results)
        os.pwrite(results, level, 0)
        tasks, feed = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, tasks)
        feeder = _Feeder(feed, numbers)
        stack.callback(feeder.close)
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, workers)
        words = [str(word) for word in (descriptor, tasks, results, length, name)]
        try:
            # One by one into the list: those that were started before one could not be must end as well.
            workers.extend(_start(words, (descriptor, tasks, results)) for _ in range(others))
        except OSError:
            return False
        for number, hashes in hash_units(descriptor, feeder.taken(tasks), length, hash_named(name)):
            os.pwrite(results, hashes, place_of(number, name))
        if any(worker.wait() for worker in workers):
            return False
        level[:] = os.pread(results, len(level), 0)
        return True


def _start(words: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    # Isolated and without site: nothing but the standard library and this one file is loaded.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_PROGRAM), *words],
        pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={},
    )  # fmt: skip


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


class _Feeder:
    """Fills the pipe with numbers without ever waiting for room in it."""

    def __init__(self, feed: int, numbers: Iterable[int]) -> None:
        self._feed: int | None = feed
        self._numbers = iter(numbers)
        self._next = next(self._numbers, None)
        os.set_blocking(feed, False)
        # How much waits there is only a matter of taste: where it cannot be set, more does.
        with suppress(OSError):
            fcntl.fcntl(feed, fcntl.F_SETPIPE_SZ, _PIPE)
        self.fill()

    def fill(self) -> None:
        """Write numbers until there is no room; after the last one, close: that tells everybody."""
        if self._feed is None:
            return
        try:
            while self._next is not None:
                os.write(self._feed, self._next.to_bytes(NUMBER, "little"))
                self._next = next(self._numbers, None)
        except BlockingIOError:
            return
        self.close()

    def taken(self, tasks: int) -> Iterator[int]:
        """Numbers for the starter itself, which fills the pipe between them.

        It reads the pipe only when that is closed: an empty one would make it wait for itself.
        """
        self.fill()
        while self._next is not None:
            own, self._next = self._next, next(self._numbers, None)
            yield own
            self.fill()
        self.fill()
        yield from numbers_from(tasks)

    def close(self) -> None:
        """Close the pipe's end."""
        if self._feed is not None:
            os.close(self._feed)
            self._feed = None
