# SPDX-License-Identifier: Apache-2.0
"""Which files this process hashed and nobody has touched since, so that one step need not hash what the one before did.

A file is the same while device, inode, length and times are, to the nanosecond; no program sets the time of an inode's
change. Like any reading it says nothing of the disk below afterwards. It is for the steps of one update: what is used
is measured then (``content.measuring``), and nothing here outlives the process.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICK = 20_000_000
"""Nanoseconds within which two changes may bear the same time: the kernel's clock for files is that coarse at most."""

WORTH = 4 * 1024 * 1024
"""Bytes from which on a file is remembered. To hash a smaller one takes no longer than a tick."""

_Key = tuple[int, int, int, int, int]


class ProvenFiles:
    """The files of one process."""

    def __init__(self) -> None:
        self._known: dict[Path, _Key] = {}

    @contextmanager
    def proving(self, path: Path) -> Iterator[None]:
        """Remember a file that is proven in the block, unless somebody touches it meanwhile."""
        before = _key(path)
        yield
        self._note(path, before)

    def note(self, path: Path) -> None:
        """Remember a file that was just proven, and that nobody can have touched since."""
        self._note(path, _key(path))

    def _note(self, path: Path, before: _Key | None) -> None:
        if before is not None and before[-1] >= WORTH:
            _let_pass(before)
            if _key(path) == before:
                self._known[path] = before

    def holds(self, path: Path) -> bool:
        """Whether a file was proven and is as it was."""
        known = self._known.get(path)
        return known is not None and known == _key(path)


def _let_pass(key: _Key) -> None:
    """Wait until a change from now on bears another time than the last one."""
    since = time.time_ns() - max(key[2], key[3])
    if 0 <= since < TICK:
        time.sleep((TICK - since) / 1e9)


def _key(path: Path) -> _Key | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
