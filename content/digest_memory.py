# SPDX-License-Identifier: Apache-2.0
"""Digests that were found by reading, kept for as long as nobody can have changed the file unseen.

They live in this process and in one stretch of one boot: a machine that slept was off, and its disk may have been in
other hands. A digest is kept for a file (device, inode) with its times, to the nanosecond, and its length; the inode
change time is the kernel's, and no program sets it. It is kept only if the file was quiet while it was read and nobody
had it open for writing afterwards.

It answers for what the file system shows, not for the disk below: blocks that went bad since, or that root wrote past
the file system, are found by reading, or by fs-verity. This module does not decide whether policy allows it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from content.keeping import Opened
from content.locks import BOOT_ID

QUIET = 2_000_000_000
"""Nanoseconds that a file must have been unchanged before it was read: file systems' clocks are coarse (FAT: 2 s)."""

MOST = 10_000
"""Files that are remembered at most."""

_SLEEP = 0.5
"""Seconds of sleep that count: the two clocks are not read at one moment."""

_Key = tuple[int, int, int, int, int]


def this_boot() -> tuple[str, float]:
    """Which boot this is, and how many seconds of it the machine slept. Raises ``OSError``."""
    slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return Path(BOOT_ID).read_text(encoding="ascii"), slept


class DigestMemory:
    """What was read in this stretch of this boot; threads may share it.

    Args:
        boot: as ``this_boot``.
        clock: nanoseconds since 1970 UTC.
    """

    def __init__(
        self, boot: Callable[[], tuple[str, float]] = this_boot, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._boot = boot
        self._clock = clock
        self._turn = threading.Lock()
        self._stretch: tuple[str, float] | None = None
        self._known: dict[_Key, str] = {}

    def recall(self, file: Opened) -> str | None:
        """The SHA-256 digest of an open file, if it was read before and nobody but root can have changed it."""
        with self._turn:
            if not file.private or not self._awake():
                return None
            return self._known.get(_key(file.status))

    def begin(self) -> int:
        """The time at which a file begins to be read, for ``keep``."""
        return self._clock()

    def keep(self, file: Opened, fsverity: str, begun: int) -> None:
        """Remember the digest of an open file that was read as a whole.

        Args:
            file: as it was opened before it was read.
            fsverity: what was found.
            begun: what ``begin`` gave before it was read.
        """
        quiet = begun - max(file.status.st_mtime_ns, file.status.st_ctime_ns) >= QUIET
        if not file.private or not quiet or _key(os.fstat(file.descriptor)) != _key(file.status):
            return
        if not _nobody_writes(file.descriptor):
            return
        with self._turn:
            if self._awake():
                if len(self._known) >= MOST:
                    self._known.clear()
                self._known[_key(file.status)] = fsverity

    def _awake(self) -> bool:
        """Forget all if the machine slept or booted since; returns whether that is known."""
        try:
            boot, slept = self._boot()
        except OSError:
            self._known.clear()
            return False
        if self._stretch is None or boot != self._stretch[0] or abs(slept - self._stretch[1]) > _SLEEP:
            self._known.clear()
            self._stretch = boot, slept
        return True


def _key(status: os.stat_result) -> _Key:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _nobody_writes(descriptor: int) -> bool:
    """Whether no process has the file open for writing: else the kernel gives no read lease (fcntl(2), F_SETLEASE).

    Who opened it when they still were allowed to could write now without anybody's leave.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True
