# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with stored bytes. No other exception of the operating system leaves this package.

This module does not decide what happens next.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from documents.errors import Exit, VmgateError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_BLOCK = 4096
"""Bytes that the smallest thing takes: a name needs room as well."""


class ContentError(VmgateError):
    """The root of this package's errors."""

    code = "CN000"
    explanation = "Stored bytes could not be used."


class DigestMismatch(ContentError):
    """Bytes are not the ones that were named.

    Attributes:
        expected: the digest in hexadecimal, or a length such as ``4096 bytes`` where the length alone tells.
        found: the same of what is there.
    """

    code = "CN001"
    exit = Exit.REFUSED
    explanation = (
        "The bytes of a file have another fs-verity digest or length than the signed one. "
        "They were damaged on the way, or changed. They were not used."
    )

    def __init__(self, what: str, *, expected: str, found: str) -> None:
        super().__init__(what, cause=f"expected {expected} and found {found}", remedy="get it again from its publisher")
        self.expected = expected
        self.found = found


class StorageFull(ContentError):
    """No room for the bytes. What was there before is unchanged.

    Attributes:
        needed: bytes that were still to be written.
    """

    code = "CN002"
    explanation = "The file system, quota or size limit leaves no room. What was there before is unchanged."

    def __init__(self, what: str, *, needed: int, cause: str) -> None:
        super().__init__(what, cause=cause, remedy=f"make room for {needed} bytes and try again")
        self.needed = needed


class StorageFailed(ContentError):
    """The operating system refused to read or write, for any reason without a class of its own."""

    code = "CN003"
    explanation = "A file could not be read or written. The system's own reason is in the message."


class StorageDenied(StorageFailed):
    """The process may not read or write there."""

    code = "CN004"
    exit = Exit.NOT_PERMITTED
    explanation = "A file or folder may not be read or written by this user, or its file system is read-only."


class Missing(ContentError):
    """A file or folder is not there."""

    code = "CN005"
    exit = Exit.NOT_FOUND
    explanation = "A file or folder that was asked for does not exist."


class NotInStore(Missing):
    """The content store does not hold this digest."""

    code = "CN006"
    explanation = "The content store does not hold the bytes with this digest. `vmgate update apply` fetches them."


class TooLarge(ContentError):
    """A file has more bytes than its reader accepts; nothing was parsed."""

    code = "CN007"
    exit = Exit.REFUSED
    explanation = "A file is larger than vmgate accepts for its kind. It was refused before it was parsed."


class Busy(ContentError):
    """Another process holds the lock.

    Attributes:
        holder: what the lock file says about it, for people: it may be out of date.
    """

    code = "CN008"
    exit = Exit.NOT_READY
    explanation = "Another vmgate process is changing the same state. Only one may do so at a time."

    def __init__(self, what: str, *, holder: str) -> None:
        super().__init__(what, cause=f"the lock is held by {holder}", remedy="try again when it has finished")
        self.holder = holder


@contextmanager
def storage(what: str, path: Path, needed: int = 0) -> Iterator[None]:
    """Turn every ``OSError`` inside into one of this module's errors.

    Args:
        what: what will not have happened.
        path: the file or folder it was about.
        needed: bytes to write, told when there is no room; at least a block.
    """
    try:
        yield
    except OSError as error:
        cause = f"{path}: {error.strerror or error}"
        if error.errno in _FULL:
            raise StorageFull(what, needed=max(needed, _BLOCK), cause=cause) from error
        if error.errno == errno.ENOENT:
            raise Missing(what, cause=cause, remedy="check the path") from error
        if error.errno in _DENIED:
            raise StorageDenied(what, cause=cause, remedy="run as root, or check the owner and mode") from error
        raise StorageFailed(what, cause=cause, remedy="check the path and the health of the disk") from error
