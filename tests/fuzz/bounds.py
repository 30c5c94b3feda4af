# SPDX-License-Identifier: Apache-2.0
"""What a case may cost: guards against hanging and bombs, not measurements. Knows no parser."""

from __future__ import annotations

import resource
import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SECONDS = 10
"""Of the processor, for one case; the slowest that is right takes a hundredth of that."""

MEMORY = 512 * 1024 * 1024
"""Bytes of address space that all cases together may add to the process; beyond, Python raises MemoryError."""


class TooLong(BaseException):
    """A case took more than its time. No ``except Exception`` of a library must catch it."""


@contextmanager
def bounded() -> Iterator[None]:
    """Bound the memory of the process, and make ``timed`` work."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {SECONDS} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def timed() -> Iterator[None]:
    """Interrupt what runs too long. By the processor's time, so that a busy machine finds nothing."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@contextmanager
def sized(most: int) -> Iterator[None]:
    """Require that what runs takes no more than ``most`` bytes of Python's memory at any time. Slow: for samples."""
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= most, f"{peak} bytes of memory, and {most} were allowed"
