# SPDX-License-Identifier: Apache-2.0
"""Lets a large file reach the disk while more of it is written, so that not all of it waits for the end.

What it does not do: say that anything is durable. ``durable.Writer.commit`` does.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from content import durable


class Syncing:
    """Synchronises a writer's file now and then; use it in a ``with`` block, at the end of which nothing is under way.

    Args:
        writer: of the file.
        every: bytes after which it is due.
        apart: in a thread of its own; one at a time, and what is written meanwhile waits for the next.

    Raises:
        ContentError: see ``durable.Writer.sync``; from ``written``, or at the end of the block.
    """

    def __init__(self, writer: durable.Writer, every: int, *, apart: bool) -> None:
        self._writer = writer
        self._every = every
        self._unsynced = 0
        self._thread = ThreadPoolExecutor(1) if apart else None
        self._running: Future[None] | None = None

    def written(self, length: int) -> None:
        """So many more bytes were written."""
        self._unsynced += length
        if self._unsynced < self._every:
            return
        if self._thread is None:
            self._writer.sync()
        elif self._running is None or self._running.done():
            self._wait()
            self._running = self._thread.submit(self._writer.sync)
        else:
            return
        self._unsynced = 0

    def _wait(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        if error is None:
            self._wait()
