# SPDX-License-Identifier: Apache-2.0
"""Every effect on the file system: the one place where vmgate writes, links, renames and removes.

Each operation returns when its effect survives a power cut. A cut before that leaves the old state or the new one; what
``append`` leaves is told there. Temporary names start with ``TEMPORARY``; ``sweep`` removes those that a cut left.
Operations may be repeated after a cut, and after an error: a file whose synchronisation failed is never taken up again.

This module does not lock (``content.locks`` does): two writers of one path are the caller's mistake.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from content import effects
from content.errors import StorageFailed, StorageFull, TooLarge, storage
from content.holes import data_ranges

TEMPORARY = ".vmgate-new-"
"""What the name of everything unfinished starts with."""

CHUNK = 1024 * 1024
"""Bytes that are copied at a time."""


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Create or replace a file as a whole.

    Raises:
        StorageFull: no room; the old file is unchanged.
        ContentError: any other failure; the old file is unchanged.
    """
    with Writer(temporary(path.parent)) as writer:
        writer.write(data)
        writer.commit(path, mode)


def copy_file(source: Path, target: Path, mode: int = 0o600) -> None:
    """Copy a regular file as a whole; holes stay holes.

    Raises:
        StorageFull: no room; the old target is unchanged.
        ContentError: any other failure; the old target is unchanged.
    """
    with Writer(temporary(target.parent)) as writer:
        writer.copy(source)
        writer.commit(target, mode)


def append(path: Path, data: bytes) -> None:
    """Add bytes at the end of a file; a missing file is created with mode 0600.

    A cut may leave any beginning of ``data``, or zeros in its place, at the end: the reader must be able to tell.

    Raises:
        StorageFull: no room; the file is as it was.
        ContentError: any other failure.
    """
    flags = os.O_WRONLY | os.O_CREAT
    with storage("nothing was added to the file", path, len(data)), effects.opened(path, flags) as descriptor:
        length = os.fstat(descriptor).st_size
        # The name before the first byte: a file with bytes has a durable name, whenever an earlier call was cut.
        if length == 0:
            _sync_directory(path.parent)
        try:
            _write_all(descriptor, data, length)
            effects.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                effects.truncate(descriptor, length)
            raise


def truncate(path: Path, size: int) -> None:
    """Cut a file to ``size`` bytes.

    Raises:
        ContentError: missing, or it failed.
    """
    with storage("the file was not cut", path), effects.opened(path, os.O_WRONLY) as descriptor:
        effects.truncate(descriptor, size)
        effects.fsync(descriptor)


def replace_link(path: Path, target: str | Path) -> None:
    """Let the symbolic link ``path`` point to ``target``; readers see the old or the new one, never none.

    Raises:
        ContentError: it failed; the old link is unchanged, unless only the last synchronisation failed.
    """
    new = temporary(path.parent)
    with storage("the link was not switched", path):
        try:
            effects.symlink(os.fspath(target), new)
            effects.rename(new, path)
        except OSError:
            with suppress(OSError):
                effects.unlink(new)
            raise
        _sync_directory(path.parent)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory and its missing parents, each with exactly ``mode``; one that is there stays as it is.

    Raises:
        StorageFailed: something else has that name, or it failed.
    """
    with storage("the directory was not made", path):
        missing = [place for place in (path, *path.parents) if not place.is_dir()]
        there = missing[-1].parent if missing else path
        # An earlier call may have been cut before this. Where we may not read, that was not a call of ours.
        with suppress(PermissionError):
            _sync_directory(there.parent)
        for place in reversed(missing):
            _make_aside(place, mode)
            _sync_directory(place.parent)


def rename(source: Path, target: Path) -> None:
    """Give a file or directory another name on the same file system; a file at ``target`` is replaced.

    Raises:
        ContentError: it failed; both names are as they were.
    """
    with storage("the name was not changed", source):
        effects.rename(source, target)
        _sync_directory(target.parent)
        if source.parent != target.parent:
            _sync_directory(source.parent)


def remove(path: Path) -> None:
    """Remove a file or link. One that is not there is as good as removed.

    Raises:
        ContentError: it failed.
    """
    with storage("the file was not removed", path):
        with suppress(FileNotFoundError):
            effects.unlink(path)
        with suppress(FileNotFoundError):
            _sync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it; nobody sees half of it. Links in it are not followed.

    Raises:
        ContentError: it failed; what is left, if anything, is for ``sweep``.
    """
    with storage("the directory was not removed", path):
        old = temporary(path.parent)
        try:
            effects.rename(path, old)
        except FileNotFoundError:
            return
        _sync_directory(path.parent)
        _remove_all(old)


def sweep(directory: Path) -> list[str]:
    """Remove what a cut left unfinished directly in ``directory``. Call it when nobody else writes there.

    Returns:
        The names removed, sorted. None if there is no such directory.

    Raises:
        ContentError: it failed.
    """
    with storage("the directory was not cleaned", directory):
        try:
            names = sorted(path.name for path in directory.iterdir() if path.name.startswith(TEMPORARY))
        except FileNotFoundError:
            return []
        for name in names:
            _remove_all(directory / name)
        return names


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, where an earlier process may have been cut before it did.

    Raises:
        ContentError: it failed.
    """
    with storage("the directory was not synchronised", directory):
        _sync_directory(directory)


def temporary(directory: Path) -> Path:
    """A fresh name in ``directory`` that ``sweep`` will recognise."""
    return directory / (TEMPORARY + secrets.token_hex(8))


def require_space(directory: Path, needed: int) -> None:
    """Require room for ``needed`` more bytes, so that a long transfer does not fail near its end.

    Raises:
        StorageFull: there is less. That there is enough is no promise.
    """
    with storage("the free space is not known", directory):
        status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise StorageFull("nothing was written", needed=needed, cause=f"{directory}: {free} bytes are free")


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes; links are followed.

    Raises:
        TooLarge: it has more.
        Missing: no such file.
        StorageFailed: not a regular file, or not readable.
    """
    with storage("the file was not read", path), effects.opened(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        _require_regular(descriptor, path)
        data = b""
        # Until the end, not until st_size: files of the kernel do not tell their size.
        while len(data) <= limit and (part := os.read(descriptor, limit + 1 - len(data))):
            data += part
    if len(data) > limit:
        raise TooLarge("the file was not read", cause=f"{path} has more than {limit} bytes", remedy="check the path")
    return data


class Writer:
    """A file that is written piece by piece and gets its name when it is complete.

    Without ``commit`` the unfinished file is removed at the end of the ``with`` block, or kept if so asked.

    Args:
        partial: the unfinished file, on the file system of the later target.
        resume: go on at the end of an unfinished file; else one that is there is emptied.
        keep: keep it when the block ends without ``commit``.

    Attributes:
        offset: bytes so far.

    Raises:
        ContentError: it cannot be opened.
    """

    def __init__(self, partial: Path, *, resume: bool = False, keep: bool = False) -> None:
        self.partial = partial
        self._keep = keep
        self._done = False
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | (0 if resume else os.O_TRUNC)
        with storage("the file was not written", partial):
            self.descriptor = effects.open_file(partial, flags, 0o600)
            self.offset = os.fstat(self.descriptor).st_size

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes. Raises ``StorageFull`` or another ``ContentError``; then the writer is of no more use."""
        self.write_at(chunk, self.offset)
        self.offset += len(chunk)

    def write_at(self, chunk: bytes | memoryview, offset: int) -> None:
        """Write bytes anywhere, from any thread; ``offset`` does not move. Raises as ``write`` does."""
        with storage("the file was not written", self.partial, len(chunk)):
            _write_all(self.descriptor, chunk, offset)

    def sync(self) -> None:
        """Let what was written survive a power cut. Raises ``ContentError``; then the unfinished file is removed."""
        with storage("the unfinished file was not synchronised", self.partial):
            try:
                effects.fsync(self.descriptor)
            except OSError:
                # The kernel forgets what it could not write: it would read well, synchronise well, and not be there.
                self._done = True
                with suppress(OSError):
                    effects.unlink(self.partial)
                raise

    def copy(self, source: Path) -> None:
        """Add all bytes of a regular file; its holes become holes.

        Raises:
            ContentError: missing, not a regular file, changed meanwhile, or no room.
        """
        with (
            storage("the file was not copied", source),
            effects.opened(source, os.O_RDONLY | os.O_NONBLOCK) as descriptor,
        ):
            length = _require_regular(descriptor, source).st_size
            before = self.offset
            for start, end in data_ranges(descriptor, length):
                self.offset = before + start
                for position in range(start, end, CHUNK):
                    self.write(_read_exactly(descriptor, source, position, min(CHUNK, end - position)))
            self.offset = before + length

    def restart(self) -> None:
        """Empty the unfinished file. Raises ``ContentError``."""
        with storage("the unfinished file was not emptied", self.partial):
            effects.truncate(self.descriptor, 0)
        self.offset = 0

    def finish(self) -> None:
        """Give the unfinished file its full length: a hole at its end had none. Raises ``ContentError``."""
        with storage("the file was not written", self.partial):
            if os.fstat(self.descriptor).st_size < self.offset:
                effects.truncate(self.descriptor, self.offset)

    def commit(self, target: Path, mode: int = 0o600) -> None:
        """Make the bytes durable, then give them their name, replacing a file that has it.

        Raises:
            ContentError: it failed; the old target is unchanged, unless only the last synchronisation failed.
        """
        with storage("the file was not written", target, self.offset):
            self.finish()
            effects.chmod(self.descriptor, mode)
            self.sync()
            effects.rename(self.partial, target)
            self._done = True
            _sync_directory(target.parent)
            if target.parent != self.partial.parent:
                _sync_directory(self.partial.parent)

    def discard(self) -> None:
        """Remove the unfinished file, also where it was to be kept."""
        self._done = True
        with storage("the unfinished file was not removed", self.partial):
            effects.unlink(self.partial)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)
        if not self._done and not self._keep:
            # What cannot be removed now is for ``sweep``; the first error is the one to tell.
            with suppress(OSError):
                effects.unlink(self.partial)


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = effects.write(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _make_aside(place: Path, mode: int) -> None:
    """Make one directory under another name first: a cut between mkdir and chmod would leave a wrong mode."""
    new = temporary(place.parent)
    effects.mkdir(new)
    try:
        with effects.opened(new, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            effects.chmod(descriptor, mode)
            effects.fsync(descriptor)
        effects.rename(new, place)
    except OSError as error:
        with suppress(OSError):
            effects.rmdir(new)
        # Somebody else made it meanwhile: as good as ours.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not place.is_dir():
            raise


def _remove_all(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for inner in sorted(path.iterdir()):
            _remove_all(inner)
        effects.rmdir(path)
    else:
        effects.unlink(path)


def _sync_directory(directory: Path) -> None:
    with effects.opened(directory, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        effects.fsync(descriptor)


def _require_regular(descriptor: int, path: Path) -> os.stat_result:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise StorageFailed("the file was not read", cause=f"{path}: not a regular file", remedy="check the path")
    return status


def _read_exactly(descriptor: int, path: Path, position: int, length: int) -> bytes:
    data = os.pread(descriptor, length, position)
    if len(data) != length:
        raise StorageFailed("the file was not copied", cause=f"{path}: it was shortened meanwhile", remedy="try again")
    return data
