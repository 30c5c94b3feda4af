# SPDX-License-Identifier: Apache-2.0
"""Opens a file so that what was opened, and what may change it, are known together.

Every name on the way is looked up once, from the folder that holds it; symbolic links on the way are followed by hand,
so that the folders they lead through are seen as well. The last name is never a link. A place is *root's alone* when
the file is a regular one with a single name, it and all folders above it belong to root and nobody else may write to
them (a group entry of an access control list shows in the group's bits), and all of it lies on file systems of this
machine. Root may do anything, here and elsewhere.

This module does not measure, and does not decide what follows.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from content.mounts import Mount, Mounts

LOCAL = frozenset({"btrfs", "erofs", "ext4", "f2fs", "squashfs", "tmpfs", "xfs"})
"""File systems that nobody but this kernel serves. Not FUSE and not the network's; not overlayfs either: who may
write to its layers is not seen in it."""

MOST_LINKS = 40
"""Symbolic links on one way, as in the kernel (path_resolution(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What counts as the machine's own. Only tests have another one.

    Attributes:
        top: the folder where all names begin; what is above it is not looked at.
        owner: the only user who may change anything.
        filesystems: types that are trusted.
    """

    top: Path = Path("/")
    owner: int = 0
    filesystems: frozenset[str] = LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file that was opened.

    Attributes:
        descriptor: for reading.
        status: of the file when it was opened.
        mount: through which it was opened; None where that is not known.
        settled: only the owner can exchange it for another one: so it is with all folders above it.
        private: only the owner can change it, too.
    """

    descriptor: int
    status: os.stat_result
    mount: Mount | None
    settled: bool
    private: bool

    def kept(self, *, verity: bool) -> str:
        """What keeps its digest true, one of ``documents.verdict.KEPT``; ``verity``: its file system checks it."""
        if not self.settled:
            return "nothing"
        if verity:
            return "fs-verity"
        if self.mount is not None and self.mount.verity:
            return "dm-verity"
        return "root-only store" if self.private else "nothing"


class _Way:
    """How far we are: an open folder, and whether the owner alone could have made it lead here."""

    def __init__(self, ground: Ground, mounts: Mounts, names: tuple[str, ...]) -> None:
        self.names = list(reversed(names)) or ["."]
        """What is left of the way, the next name last."""
        self.settled = True
        self.folder = -1
        self._ground = ground
        self._mounts = mounts
        self._links = 0

    def restart(self) -> None:
        """Begin at the top."""
        self._enter(os.open(self._ground.top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def _enter(self, folder: int) -> None:
        self.close()
        self.folder = folder

    def close(self) -> None:
        """Let go of the folder."""
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1

    def look(self) -> None:
        """Judge the folder in which the next name is looked up."""
        status = os.fstat(self.folder)
        self.settled = self.settled and owned(status, self._ground.owner) and self.local(self.folder) is not None

    def local(self, descriptor: int) -> Mount | None:
        """The mount of something open, if its file system is trusted."""
        mount = self._mounts.of(descriptor)
        return mount if mount is not None and mount.filesystem in self._ground.filesystems else None

    def step(self, name: str) -> None:
        """Go into a folder, or along a link to one."""
        inner = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
        if stat.S_ISLNK(os.fstat(inner).st_mode):
            try:
                self._follow(PurePath(os.readlink("", dir_fd=inner)))
            finally:
                os.close(inner)
        else:
            self._enter(inner)

    def _follow(self, target: PurePath) -> None:
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        parts = target.parts
        if target.is_absolute():
            self.restart()
            parts = parts[1:]
        self.names.extend(reversed(parts))


def owned(status: os.stat_result, owner: int) -> bool:
    """Whether only the owner may write to a file, or make and remove names in a folder."""
    return status.st_uid == owner and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@contextmanager
def opened(path: Path, mounts: Mounts, ground: Ground) -> Iterator[Opened]:
    """A file, open for reading during a block.

    Args:
        path: absolute, or from the current folder.
        mounts: of this process, as they are now.
        ground: what counts as the machine's own.

    Raises:
        OSError: it cannot be opened, or its last name is a symbolic link.
    """
    way = _Way(ground, mounts, (Path.cwd() / path).relative_to(ground.top).parts)
    try:
        descriptor = _walk(way)
    finally:
        way.close()
    try:
        status = os.fstat(descriptor)
        mount = way.local(descriptor)
        settled = way.settled and mount is not None
        alone = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and owned(status, ground.owner)
        yield Opened(descriptor=descriptor, status=status, mount=mount, settled=settled, private=settled and alone)
    finally:
        os.close(descriptor)


def _walk(way: _Way) -> int:
    # Without O_NONBLOCK the opening of a pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    way.restart()
    # Links on the way only put names before those that are left, so the last name of the path stays the last.
    while len(way.names) > 1:
        way.look()
        way.step(way.names.pop())
    way.look()
    return os.open(way.names.pop(), flags, dir_fd=way.folder)
