# SPDX-License-Identifier: Apache-2.0
"""A limit on bytes per second that several transfers share: a token bucket. It reads and sends nothing itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST = 0.25
"""Seconds of unused rate that may be made up for."""
LEAST_PIECE = 4096


class Bandwidth:
    """See the module.

    Args:
        rate: bytes per second, at least 1.
        clock: seconds, never going back.
        sleep: waits for that many seconds.
    """

    def __init__(
        self, rate: int, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if rate < 1:
            raise ValueError("a rate is at least one byte a second")
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until = clock()

    @property
    def piece(self) -> int:
        """How many bytes to read at a time, so that they flow evenly."""
        return max(LEAST_PIECE, int(self._rate * BURST))

    def take(self, count: int) -> None:
        """Account for bytes that came, and wait until more may."""
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - BURST) + count / self._rate
            wait = self._paid_until - now
        if wait > 0:
            self._sleep(wait)
