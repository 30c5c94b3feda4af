# SPDX-License-Identifier: Apache-2.0
"""A file system image mounted read-only from a file, and whether what is mounted somewhere is still that.

Mounts do not outlive a boot, so nothing here is durable. Whoever asks for ``flaw`` has measured the image's file: then
what is read below the folder comes from the measured bytes, as long as nobody with root's power writes to the file or
mounts again; ``content.measuring`` says what keeps others from the file. Reads of blocks that the kernel has in memory
are not made again: bytes that root changed and put back meanwhile go unseen, but for files with fs-verity.

This module decides nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from content.errors import storage
from content.loop_device import attached, backing_of
from content.mounts import Mounts

FILESYSTEM = "erofs"
_READ_ONLY, _NO_SUID, _NO_DEV = 1, 2, 4
"""MS_RDONLY, MS_NOSUID, MS_NODEV (mount(2))."""
_NO_FOLLOW = 8
"""UMOUNT_NOFOLLOW."""
_libc = ctypes.CDLL(None, use_errno=True)


def mount(image: Path, folder: Path) -> None:
    """Mount an EROFS image on an existing folder: read-only, without devices and set-user-id programs.

    Raises:
        ContentError: the kernel refused.
    """
    with storage("the image was not mounted", folder), attached(image) as device:
        flags = _READ_ONLY | _NO_SUID | _NO_DEV
        _check(_libc.mount(os.fsencode(device), os.fsencode(folder), FILESYSTEM.encode(), flags, None))


def unmount(folder: Path) -> bool:
    """Unmount what is mounted on a folder; returns whether it went. What is in use stays, whole.

    Raises:
        ContentError: the kernel refused for another reason than that it is in use.
    """
    with storage("the image was not unmounted", folder):
        try:
            _check(_libc.umount2(os.fsencode(folder), _NO_FOLLOW))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
    return True


def is_mounted(folder: Path) -> bool:
    """Whether anything is mounted on a folder."""
    return any(mount.point == str(folder) for mount in Mounts().below(str(folder)))


def flaw(image: Path, folder: Path) -> str:
    """Why a folder is not all of an image, mounted read-only and with nothing laid over it; empty where it is.

    Args:
        image: the file. It is not read.
        folder: absolute, without links.
    """
    try:
        with _opened(image) as file, _opened(folder) as place:
            return _flaw(os.fstat(file), place, str(folder))
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror or error}"


def _flaw(image: os.stat_result, place: int, folder: str) -> str:
    mounts = Mounts()
    mount, here = mounts.of(place), mounts.below(folder)
    if mount is None or mount.point != folder:
        return "nothing is mounted"
    if len(here) != 1:
        return f"something else is mounted at {max(here, key=lambda one: len(one.point)).point}"
    if mount.filesystem != FILESYSTEM or mount.root != "/":
        return f"{mount.filesystem} from {mount.root} is mounted"
    if "ro" not in mount.options:
        return "it is mounted to be written to"
    backing = backing_of(mount.device)
    if backing is None:
        return "it is mounted from no file"
    if (backing.device, backing.inode) != (image.st_dev, image.st_ino) or not backing.whole:
        return "it is mounted from another file"
    return "" if backing.read_only else "its device can be written to"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
