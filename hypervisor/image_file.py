# SPDX-License-Identifier: Apache-2.0
"""A disk image that is opened once and read by its descriptor. Links, devices and pipes are not followed or waited for.

This module reads the beginning of a file and does not judge it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypervisor.errors import ImageUnreadable
from hypervisor.image_formats import require_raw
from hypervisor.qcow2 import MAX_HEADER


class ImageFile:
    """See ``hypervisor.qcow2_chain.OpenImage``; ``open_image`` makes one.

    Args:
        descriptor: of a regular file, open for reading; it stays the caller's.
        path: for errors.

    Attributes:
        descriptor: as given.
        identity: device and inode.
        length: bytes of the file.
        owner: user id of its owner.

    Raises:
        ImageUnreadable: it is no regular file.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self._path = path
        try:
            status = os.fstat(descriptor)
        except OSError as error:
            raise _unreadable(path, str(error)) from error
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(path, "it is no regular file")
        self.identity = (status.st_dev, status.st_ino)
        self.length = status.st_size
        self.owner = status.st_uid

    def head(self, length: int) -> bytes:
        """The first bytes, so many or as many as there are.

        Raises:
            ImageUnreadable: they cannot be read.
        """
        return self.read(0, length)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from anywhere, fewer only at the file's end.

        Raises:
            ImageUnreadable: they cannot be read.
        """
        found = b""
        try:
            while len(found) < length:
                part = os.pread(self.descriptor, length - len(found), offset + len(found))
                if not part:
                    break
                found += part
        except OSError as error:
            raise _unreadable(self._path, str(error)) from error
        return found


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile]:
    """Open an image; its last part must not be a link.

    Raises:
        ImageUnreadable: there is none, or it is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(path, str(error)) from error
    try:
        yield ImageFile(descriptor, path)
    finally:
        os.close(descriptor)


def require_raw_file(path: Path, what: str) -> None:
    """Refuse a file that is declared a raw image and begins like something else.

    Raises:
        ImageNotRaw: it does.
        ImageUnreadable: nobody can tell.
    """
    with open_image(path) as image:
        require_raw(image.head(MAX_HEADER), what)


def _unreadable(path: Path, cause: str) -> ImageUnreadable:
    return ImageUnreadable("the image was not read", cause=f"{path}: {cause}", remedy="check the path and its owner")
