# SPDX-License-Identifier: Apache-2.0
"""The primitive effects on a disk, one system call each. A test that replaces all of them owns everything vmgate does.

Only ``content.durable``, ``content.locks``, ``content.owner``, ``content.assembly``, ``content.patching`` and
``content.sealing`` call them; they raise ``OSError``. Nothing here is durable by itself.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FICLONERANGE = 0x4020940D
_ENABLE_VERITY = 0x40806685


def open_file(path: Path, flags: int, mode: int) -> int:
    """Open or create; always close-on-exec."""
    return os.open(path, flags | os.O_CLOEXEC, mode)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """An open file during a block; one that is created is for its owner alone."""
    descriptor = open_file(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write(descriptor: int, data: memoryview, offset: int) -> int:
    """Write some bytes at an offset; returns how many."""
    return os.pwrite(descriptor, data, offset)


def clone(source: int, start: int, length: int, target: int, offset: int) -> None:
    """Let a file share bytes of another one, where the file system can (ioctl_ficlonerange(2)); whole blocks only."""
    fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source, start, length, offset))


def enable_verity(descriptor: int) -> None:
    """Let the kernel check each later read of a file against its tree: SHA-256, blocks of 4 KiB, no salt. For ever.

    Source: Linux Documentation/filesystems/fsverity.rst, section "FS_IOC_ENABLE_VERITY".

    Args:
        descriptor: for reading; nobody may have the file open for writing.
    """
    # struct fsverity_enable_arg: version, hash_algorithm, block_size, salt_size, salt_ptr, sig_size, and more zeros.
    fcntl.ioctl(descriptor, _ENABLE_VERITY, struct.pack("=IIIIQI", 1, 1, 4096, 0, 0, 0).ljust(128, b"\0"))


def truncate(descriptor: int, size: int) -> None:
    """Set a file's length."""
    os.ftruncate(descriptor, size)


def chmod(descriptor: int, mode: int) -> None:
    """Set the mode of an open file or directory."""
    os.fchmod(descriptor, mode)


def chown(descriptor: int, user: int, group: int) -> None:
    """Set the owner of an open file or directory."""
    os.fchown(descriptor, user, group)


def fsync(descriptor: int) -> None:
    """Make a file's bytes, or a directory's names, durable."""
    os.fsync(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give another name, replacing what had it."""
    source.rename(target)


def symlink(target: str, path: Path) -> None:
    """Make a symbolic link."""
    path.symlink_to(target)


def mkdir(path: Path) -> None:
    """Make a directory for the owner alone."""
    path.mkdir(0o700)


def unlink(path: Path) -> None:
    """Remove a file or link."""
    path.unlink()


def rmdir(path: Path) -> None:
    """Remove an empty directory."""
    path.rmdir()
