# SPDX-License-Identifier: Apache-2.0
"""Loop devices: a file as a block device, read-only, and which file a loop device shows.

Source: Linux include/uapi/linux/loop.h, loop(4). A device that was attached here frees itself with its last user. Its
file is held open by the kernel: whatever becomes of the file's name, its bytes stay, and its number is nobody else's.

This module mounts nothing and does not measure; a device node of ``/dev`` is believed only after the kernel named it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAJOR = 7
"""Of all loop devices (Linux Documentation/admin-guide/devices.txt)."""

_CONTROL = "/dev/loop-control"
_CTL_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
"""LOOP_CONFIGURE: since Linux 5.8."""
_GET_STATUS64 = 0x4C05
_READ_ONLY, _AUTOCLEAR = 1, 4
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
"""struct loop_info64."""
_CONFIG = struct.Struct(f"=2I{_INFO.size}s8Q")
"""struct loop_config: the file, the block size (0: the device's own choice), and the rest."""
_TRIES = 16
"""Somebody else may take a free device between the two questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """The file behind a loop device.

    Attributes:
        device: of the file's file system, as ``os.stat`` tells it.
        inode: of the file.
        whole: all of the file is shown, from its first byte.
        read_only: nobody can write through the device.
    """

    device: int
    inode: int
    whole: bool
    read_only: bool


@contextmanager
def attached(image: Path) -> Iterator[Path]:
    """A read-only loop device over a file, for the time of a block and for as long as somebody has it mounted.

    Raises:
        OSError: no such file, no loop devices, or none is free.
    """
    backing = os.open(image, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        device, path = _configure(backing)
    finally:
        os.close(backing)
    try:
        yield path
    finally:
        os.close(device)


def _configure(backing: int) -> tuple[int, Path]:
    control = os.open(_CONTROL, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            path = Path(f"/dev/loop{fcntl.ioctl(control, _CTL_GET_FREE)}")
            # Opened for reading alone, the device is a read-only one (drivers/block/loop.c, loop_configure).
            device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, _config(backing))
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free")


def _config(backing: int) -> bytes:
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _READ_ONLY | _AUTOCLEAR, b"", b"", b"", 0, 0)
    return _CONFIG.pack(backing, 0, info, *(0,) * 8)


def backing_of(device: str) -> Backing | None:
    """The file behind a loop device; None where it is none, or not attached, or that cannot be told.

    Args:
        device: ``major:minor``, as ``content.mounts`` gives it.
    """
    major, _, minor = device.partition(":")
    if major != str(MAJOR) or not minor.isdecimal():
        return None
    try:
        descriptor = os.open(f"/dev/loop{minor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        # The node's name says nothing: it must be the very device.
        if not stat.S_ISBLK(status.st_mode) or status.st_rdev != os.makedev(MAJOR, int(minor)):
            return None
        answer = bytearray(_INFO.size)
        fcntl.ioctl(descriptor, _GET_STATUS64, answer)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return parse_info(bytes(answer))


def parse_info(answer: bytes) -> Backing | None:
    """The file that a ``struct loop_info64`` names; None where it is not one."""
    if len(answer) != _INFO.size:
        return None
    number, inode, _, offset, limit, _, encryption, _, flags, *_ = _INFO.unpack(answer)
    # The kernel's huge_encode_dev(), include/linux/kdev_t.h.
    major, minor = (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & ~0xFF & 0xFFFFFFFF)
    return Backing(
        device=os.makedev(major, minor),
        inode=inode,
        whole=offset == 0 and limit == 0 and encryption == 0,
        read_only=bool(flags & _READ_ONLY),
    )
