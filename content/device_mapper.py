# SPDX-License-Identifier: Apache-2.0
"""Whether a block device is one that dm-verity checks at each read.

Source: Linux include/uapi/linux/dm-ioctl.h, DM_TABLE_STATUS. The table is asked from the kernel: a device's name and
UUID are free text. This module changes no device, and does not say whose root hash it is.
"""

from __future__ import annotations

import fcntl
import os
import struct

_CONTROL = "/dev/mapper/control"
_TABLE_STATUS = 0xC138FD0C
"""_IOWR(0xfd, 12, struct dm_ioctl)."""

_STATUS_TABLE = 1 << 4
_HEAD = struct.Struct("=3I3Ii3IQ128s129s7x")
_TARGET = struct.Struct("=QQiI16s")
_ROOM = 16 * 1024


def is_verity(device: str) -> bool:
    """Whether a device is one dm-verity target and nothing else; what cannot be told is not.

    Args:
        device: ``major:minor``, as ``content.mounts`` gives it.
    """
    major, _, minor = device.partition(":")
    if not (major.isdecimal() and minor.isdecimal()):
        return False
    question = _question(int(major), int(minor))
    try:
        descriptor = os.open(_CONTROL, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, _TABLE_STATUS, question)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return names_verity(bytes(question))


def names_verity(answer: bytes) -> bool:
    """Whether the kernel's answer shows one target, of type ``verity``."""
    if len(answer) < _HEAD.size:
        return False
    _, _, _, _, start, targets, *_ = _HEAD.unpack_from(answer)
    if targets != 1 or start + _TARGET.size > len(answer):
        return False
    *_, kind = _TARGET.unpack_from(answer, start)
    return bool(kind.rstrip(b"\0") == b"verity")


def _question(major: int, minor: int) -> bytearray:
    # The kernel's huge_encode_dev(), include/linux/kdev_t.h.
    number = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    head = _HEAD.pack(4, 0, 0, _ROOM, _HEAD.size, 0, 0, _STATUS_TABLE, 0, 0, number, b"", b"")
    return bytearray(head.ljust(_ROOM, b"\0"))
