# SPDX-License-Identifier: Apache-2.0
"""Measures files that are about to be used: what they are, how that is known, and what keeps it true meanwhile.

The file system's own fs-verity is asked first; then, where that is allowed, the memory of this boot; else the file is
read as a whole. All by one descriptor, opened by names of which each is looked up once. The user of the file opens it
again by name later: ``Taken.kept`` says what holds until then. This module does not judge that.

``content.fsverity`` reads in any case: for whoever must know that the bytes on the disk are good, such as an update.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from content.digest_memory import DigestMemory
from content.errors import DigestMismatch, storage
from content.fsverity import Algorithm, Measured, digest_descriptor
from content.keeping import Ground, Opened, opened
from content.mounts import Mounts
from content.verity_ioctl import FILESYSTEMS, kernel_digest

MACHINE = Ground()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A measurement.

    Attributes:
        fsverity: the SHA-256 digest.
        length: bytes.
        kept: what keeps it true, one of ``documents.verdict.KEPT``.
        taken: ``kernel``, ``memory``, or empty where all of the file was read just now.
    """

    fsverity: str
    length: int
    kept: str
    taken: str


class Digester:
    """Measures files.

    Args:
        memory: of earlier readings; None to read each file without fs-verity each time.
        ground: what counts as the machine's own.
    """

    def __init__(self, memory: DigestMemory | None = None, ground: Ground = MACHINE) -> None:
        self._memory = memory
        self._ground = ground
        self._mounts = Mounts()

    def measure(self, path: Path) -> Taken:
        """Measure a regular file; a symbolic link is none.

        Raises:
            Missing: no such file.
            StorageFailed: not a regular file, not readable, or shortened meanwhile.
        """
        with storage("the file was not measured", path), opened(path, self._mounts, self._ground) as file:
            return self._take(file, path)

    def verify(self, path: Path, fsverity: str, length: int) -> Taken:
        """Require that a file is the one that a SHA-256 digest and a length name.

        Raises:
            DigestMismatch: it is another one.
            Missing: no such file.
            StorageFailed: not a regular file, a symbolic link, or not readable.
        """
        with storage("the file was not measured", path), opened(path, self._mounts, self._ground) as file:
            size = file.status.st_size
            # The length first: it costs nothing, and a file that grew is not worth hashing.
            if stat.S_ISREG(file.status.st_mode) and size != length:
                raise DigestMismatch(f"{path} was refused", expected=f"{length} bytes", found=f"{size} bytes")
            taken = self._take(file, path)
        if Measured(fsverity=taken.fsverity, length=taken.length) != Measured(fsverity=fsverity, length=length):
            raise DigestMismatch(f"{path} was refused", expected=fsverity, found=taken.fsverity)
        return taken

    def _take(self, file: Opened, path: Path) -> Taken:
        length = file.status.st_size
        if stat.S_ISREG(file.status.st_mode) and file.mount is not None and file.mount.filesystem in FILESYSTEMS:
            word = kernel_digest(file.descriptor, length, Algorithm.SHA256.value)
            if word is not None:
                return Taken(fsverity=word, length=length, kept=file.kept(verity=True), taken="kernel")
        kept = file.kept(verity=False)
        if self._memory is None:
            measured = digest_descriptor(file.descriptor, path)
            return Taken(fsverity=measured.fsverity, length=measured.length, kept=kept, taken="")
        known = self._memory.recall(file)
        if known is not None:
            return Taken(fsverity=known, length=length, kept=kept, taken="memory")
        begun = self._memory.begin()
        measured = digest_descriptor(file.descriptor, path)
        if measured.length == length:
            self._memory.keep(file, measured.fsverity, begun)
        return Taken(fsverity=measured.fsverity, length=measured.length, kept=kept, taken="")
