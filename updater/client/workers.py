# SPDX-License-Identifier: Apache-2.0
"""Work on many things in a few threads, with few of them in memory at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_threads(work: Callable[[T], object], items: Iterable[T], workers: int) -> None:
    """Call ``work`` with each item.

    Args:
        work: called from several threads.
        items: taken one by one from this thread, at most two for each worker ahead.
        workers: how many threads.

    Raises:
        Exception: the first one that ``work`` or ``items`` raised; what was not begun by then is not begun.
    """
    waiting: deque[Future[object]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                if len(waiting) >= 2 * workers:
                    waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
