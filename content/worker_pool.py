# SPDX-License-Identifier: Apache-2.0
"""Processes on all cores that share the work of one: ``content.hash_worker``, started as programs.

The starter works as well, so the others only make it quicker: where they cannot be started, or one of them fails, the
caller does the rest. This module does not know what the tasks are.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from content import hash_worker
from content.hash_worker import tasks_from

WORTH = 128
"""Units (64 MiB) below which starting another process takes longer than it saves."""

MOST = 8
"""Processes at most, the starter included: more only wait for the memory, and each needs 10 MB of it."""

_PIPE = 16 * 1024
"""Bytes of tasks that wait in the pipe: work of at most two seconds if the starter dies."""

_PROGRAM = Path(hash_worker.__file__)


def with_others(
    words: Sequence[str], descriptors: Sequence[int], tasks: Sequence[bytes], own: Callable[[Iterator[bytes]], object]
) -> bool:
    """Share tasks with other processes.

    Args:
        words: for the program; the number of its descriptor of the pipe with tasks is put after the first of them.
        descriptors: that it inherits.
        tasks: of one size.
        own: does some of them here.

    Returns:
        Whether there were others and all of them did their part; else any of the tasks may be undone.
    """
    others = min(len(os.sched_getaffinity(0)), MOST) - 1
    if others < 1 or len(tasks) < WORTH:
        return False
    with ExitStack() as stack:
        pipe, feed = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, pipe)
        feeder = _Feeder(feed, tasks)
        stack.callback(feeder.close)
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, workers)
        try:
            # One by one into the list: those that were started before one could not be must end as well.
            workers.extend(_start([words[0], str(pipe), *words[1:]], (pipe, *descriptors)) for _ in range(others))
        except OSError:
            return False
        own(feeder.taken(pipe))
        return not any(worker.wait() for worker in workers)


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
    """Fills the pipe with tasks without ever waiting for room in it."""

    def __init__(self, feed: int, tasks: Sequence[bytes]) -> None:
        self._feed: int | None = feed
        self._size = len(tasks[0])
        self._tasks = iter(tasks)
        self._next = next(self._tasks, None)
        os.set_blocking(feed, False)
        # How much waits there is only a matter of taste: where it cannot be set, more does.
        with suppress(OSError):
            fcntl.fcntl(feed, fcntl.F_SETPIPE_SZ, _PIPE)
        self.fill()

    def fill(self) -> None:
        """Write tasks until there is no room; after the last one, close: that tells everybody."""
        if self._feed is None:
            return
        try:
            while self._next is not None:
                os.write(self._feed, self._next)
                self._next = next(self._tasks, None)
        except BlockingIOError:
            return
        self.close()

    def taken(self, pipe: int) -> Iterator[bytes]:
        """Tasks for the starter itself, which fills the pipe between them.

        It reads the pipe only when that is closed: an empty one would make it wait for itself.
        """
        self.fill()
        while self._next is not None:
            own, self._next = self._next, next(self._tasks, None)
            yield own
            self.fill()
        self.fill()
        yield from tasks_from(pipe, self._size)

    def close(self) -> None:
        """Close the pipe's end."""
        if self._feed is not None:
            os.close(self._feed)
            self._feed = None
