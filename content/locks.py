# SPDX-License-Identifier: Apache-2.0
"""One process at a time: an exclusive lock on a file, kept by the kernel and gone with its holder.

The file's text only names the holder for messages. Nothing is decided by it, and the file is never removed:
removing it would let two processes hold two files of one name. This module does not break locks.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from content import effects
from content.errors import Busy, storage

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HOLDER = re.compile(rb"process [0-9]{1,10} of boot [0-9a-f-]{1,36}")


@contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock ``path`` during a block. Its folder must exist. Not reentrant, and it excludes threads as well.

    Args:
        path: the lock file.
        wait: wait until the lock is free; else refuse at once.

    Raises:
        Busy: another holds it and ``wait`` is false.
        ContentError: the file cannot be opened.
    """
    with storage("the lock was not taken", path):
        descriptor = effects.open_file(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _take(descriptor, path, wait=wait)
        yield
        # The name goes before the lock does, so that it never names one who has left.
        with suppress(OSError):
            effects.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, *, wait: bool) -> None:
    with storage("the lock was not taken", path):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise Busy(f"the lock {path} was not taken", holder=_holder(descriptor)) from error
        # A full disk must not keep anybody from what makes room: the lock holds without the name.
        with suppress(OSError):
            boot = BOOT_ID.read_text("ascii").strip() if BOOT_ID.exists() else "0"
            effects.truncate(descriptor, 0)
            effects.write(descriptor, memoryview(f"process {os.getpid()} of boot {boot}".encode("ascii")), 0)


def _holder(descriptor: int) -> str:
    untrusted_text = os.pread(descriptor, 128, 0)
    return untrusted_text.decode("ascii") if _HOLDER.fullmatch(untrusted_text) else "another process"
