# SPDX-License-Identifier: Apache-2.0
"""Whether a block device is one that dm-verity checks at each read.

Source: Linux include/uapi/linux/dm-ioctl.h, DM_TABLE_STATUS. The table is asked from the kernel: a device's name and
UUID are free text. The kernel answers CAP_SYS_ADMIN alone; a process that gave that up asks one of root's that has it
and does nothing else. This module changes no device, and does not say whose root hash it is.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
from pathlib import Path

_CONTROL = "/dev/mapper/control"
_TABLE_STATUS = 0xC138FD0C
"""_IOWR(0xfd, 12, struct dm_ioctl)."""

_STATUS_TABLE = 1 << 4
HELPER = Path("/run/vmgate/mapper.sock")
"""Where the process with the privilege listens: a number of a device and a newline in, ``YES`` or ``NO`` out."""

YES, NO = b"yes\n", b"no\n"
MAX_QUESTION = 32
SECONDS = 10.0
"""For the answer of that process, which systemd may have to start first."""

_DEVICE = re.compile(r"[0-9]{1,6}:[0-9]{1,8}", re.ASCII)
_DEVICES = Path("/sys/dev/block")
_HEAD = struct.Struct("=3I3Ii3IQ128s129s7x")
_TARGET = struct.Struct("=QQiI16s")
_PEER = struct.Struct("3i")
"""struct ucred (unix(7))."""

_ROOM = 16 * 1024


def is_verity(device: str) -> bool:
    """Whether a device is one dm-verity target and nothing else; what cannot be told is not.

    Args:
        device: ``major:minor``, as ``content.mounts`` gives it.
    """
    if not _DEVICE.fullmatch(device):
        return False
    told = by_kernel(device)
    return by_helper(device) if told is None else told


def by_kernel(device: str) -> bool | None:
    """The kernel's answer; None where it does not answer this process.

    Args:
        device: ``major:minor``.
    """
    major, minor = map(int, device.split(":"))
    question = _question(major, minor)
    try:
        descriptor = os.open(_CONTROL, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.ioctl(descriptor, _TABLE_STATUS, question)
    except PermissionError:
        return None
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return names_verity(bytes(question))


def by_helper(device: str, helper: Path = HELPER, devices: Path = _DEVICES) -> bool:
    """The answer of the process that may ask the kernel. Only root's is believed, and only about a mapped device.

    Args:
        device: ``major:minor``.
        helper: where it listens.
        devices: the kernel's folder of block devices; who is no mapped device there is not asked about.
    """
    if not (devices / device / "dm").is_dir():
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(SECONDS)
            line.connect(str(helper))
            peer = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            if _PEER.unpack(peer)[1] not in {0, os.geteuid()}:
                return False
            line.sendall(device.encode() + b"\n")
            with line.makefile("rb") as stream:
                return stream.readline(MAX_QUESTION) == YES
    except OSError:
        return False


def reply(untrusted_question: bytes) -> bytes:
    """What that process says; anything but the number of a device that is checked is a no."""
    device = untrusted_question.removesuffix(b"\n").decode("ascii", "replace")
    return YES if _DEVICE.fullmatch(device) and by_kernel(device) else NO


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
