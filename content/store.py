# SPDX-License-Identifier: Apache-2.0
"""Files addressed by what they are: ``<root>/<2 hex>/<hex>`` holds the bytes with that SHA-256 fs-verity digest.

A file gets its name only after its bytes were hashed as a whole. Files are read-only for all and folders may be entered
by all, since QEMU runs as another user. Unfinished files lie in ``<root>/partial`` and are never served.

Presence is not proof: a disk changes under us. Who uses bytes calls ``verify`` first. Where the file system can, the
kernel is asked to check each later read of a file (fs-verity), once the file has its name: a cut in between leaves a
good file without it. The store does not know why a digest is wanted, and takes no lock: it has one writer.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from content import durable
from content.assembly import Assembly
from content.errors import ContentError, DigestMismatch, Missing, NotInStore, StorageFull, storage
from content.fsverity import Measured, digest_bytes, digest_descriptor, verify_descriptor, verify_file
from content.measuring import Digester, Taken
from content.proven import ProvenFiles
from content.sealing import seal

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_PARTIAL = "partial"
_FILE_MODE = 0o444
_FOLDER_MODE = 0o755


class ContentStore:
    """The store under one folder, which is made at the first addition.

    Args:
        root: its folder, such as ``/var/lib/vmgate/store``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._proven = ProvenFiles()
        self.keepers: list[Callable[[], frozenset[str] | None]] = []
        """Give what else ``gc`` must keep; None where that is not known, so that all stays."""

    def path(self, fsverity: str) -> Path:
        """Where the bytes of a digest lie, or would.

        Raises:
            ValueError: not 64 lower-case hexadecimal characters.
        """
        if not _DIGEST.fullmatch(fsverity):
            raise ValueError(f"{fsverity!r} is not a SHA-256 digest")
        return self.root / fsverity[:2] / fsverity

    def contains(self, fsverity: str, length: int) -> bool:
        """Whether a file of that name and length is there. Its bytes are not looked at.

        Raises:
            StorageFailed: the store cannot be read.
        """
        path = self.path(fsverity)
        with storage("the store was not read", path):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                return False
        return stat.S_ISREG(status.st_mode) and status.st_size == length

    def read(self, fsverity: str, length: int) -> bytes:
        """Read a small file once, and return its bytes only if they are the ones of that digest.

        Raises:
            DigestMismatch: they are not.
            Missing: nothing is there.
            ContentError: it is longer, or cannot be read.
        """
        path = self.path(fsverity)
        data = durable.read_file(path, length)
        found = digest_bytes(data)
        if found != fsverity:
            raise DigestMismatch(f"{path} was not used", expected=fsverity, found=found)
        return data

    def verify(self, fsverity: str, length: int) -> None:
        """Hash the stored bytes as a whole.

        Raises:
            NotInStore: nothing is there.
            DigestMismatch: what is there is not it.
            StorageFailed: it cannot be read.
        """
        path = self.path(fsverity)
        with self._required(fsverity), self._proven.proving(path):
            verify_file(path, fsverity, length)

    def verify_once(self, fsverity: str, length: int) -> None:
        """Like ``verify``, but what this process received or verified, and nobody touched since, is not hashed again.

        Raises as ``verify`` does.
        """
        if not self._proven.holds(self.path(fsverity)) or not self.contains(fsverity, length):
            self.verify(fsverity, length)

    def verify_for_use(self, fsverity: str, length: int, digester: Digester) -> Taken:
        """Like ``verify`` for who uses the bytes at once: what keeps them good need not be read again.

        Raises as ``verify`` does.
        """
        with self._required(fsverity):
            return digester.verify(self.path(fsverity), fsverity, length)

    @contextmanager
    def _required(self, fsverity: str) -> Iterator[None]:
        try:
            yield
        except Missing as error:
            raise NotInStore(
                "the file was not verified", cause=f"the store has no {fsverity}", remedy="fetch or import it"
            ) from error

    def seal(self, fsverity: str) -> None:
        """Let the kernel check each later read of a file that was verified; see ``content.sealing.seal``."""
        seal(self.path(fsverity))

    def add_bytes(self, data: bytes) -> Measured:
        """Store bytes. A damaged file of their name is replaced.

        Raises:
            StorageFull: no room.
            ContentError: any other failure.
        """
        measured = Measured(fsverity=digest_bytes(data), length=len(data))
        target = self._make_room(measured)
        if target is not None:
            durable.write_file(target, data, _FILE_MODE)
        self.seal(measured.fsverity)
        return measured

    def add_file(self, path: Path) -> Measured:
        """Store a copy of a regular file; the copy is what is measured. A damaged file of its name is replaced.

        Raises:
            Missing: no such file.
            StorageFull: no room.
            ContentError: any other failure.
        """
        folder = self._partial_folder()
        with durable.Writer(durable.temporary(folder)) as writer:
            writer.copy(path)
            writer.finish()
            measured = digest_descriptor(writer.descriptor, writer.partial)
            target = self._make_room(measured)
            if target is not None:
                writer.commit(target, _FILE_MODE)
        # Not before the writer is closed: the kernel seals nothing that somebody may still write to.
        self.seal(measured.fsverity)
        return measured

    def add_parts(self, parts: Iterable[tuple[int, bytes]], length: int) -> Measured:
        """Store what comes in parts, such as an image that is made flat; what no part has are zeros.

        Args:
            parts: offset and bytes of each, in their order and within ``length``.
            length: bytes of the whole.

        Raises:
            StorageFull: no room.
            ContentError: any other failure. What ``parts`` raises passes through; nothing is stored then.
            ValueError: a part is out of order, or goes beyond the end.
        """
        folder = self._partial_folder()
        durable.require_space(folder, length)
        with durable.Writer(durable.temporary(folder)) as writer:
            for offset, data in parts:
                if not writer.offset <= offset <= length - len(data):
                    raise ValueError("a part is out of its place")
                writer.offset = offset
                writer.write(data)
            writer.offset = length
            writer.finish()
            measured = digest_descriptor(writer.descriptor, writer.partial)
            target = self._make_room(measured)
            if target is not None:
                writer.commit(target, _FILE_MODE)
        self.seal(measured.fsverity)
        return measured

    def require_room(self, wanted: Mapping[str, int], besides: int = 0) -> None:
        """Require room for all that is missing of some files, before the first of them is received.

        Args:
            wanted: their lengths in bytes, by digest.
            besides: bytes that the caller will write on the same file system.

        Raises:
            StorageFull: there is less; nothing was written but folders.
            ContentError: the store cannot be read or written.
        """
        folder = self._partial_folder()
        missing = sum(
            max(0, length - _allocated(folder / fsverity))
            for fsverity, length in wanted.items()
            if not self.contains(fsverity, length)
        )
        durable.require_space(folder, missing + besides)

    @contextmanager
    def receive(self, fsverity: str, length: int) -> Iterator[Incoming]:
        """Receive the bytes of a digest piece by piece; an interrupted transfer goes on where it stopped.

        Raises:
            StorageFull: no room for the rest.
            ContentError: any other failure.
        """
        target = self.path(fsverity)
        partial = self._partial_folder() / fsverity
        with durable.Writer(partial, resume=True, keep=True) as writer:
            if writer.offset > length:
                writer.restart()
            durable.require_space(partial.parent, length - writer.offset)
            incoming = Incoming(writer, target, Measured(fsverity=fsverity, length=length))
            yield incoming
        if incoming.complete:
            self._received(fsverity)

    @contextmanager
    def assemble(self, fsverity: str, length: int, hashes: bytes) -> Iterator[Assembly]:
        """Put a large file together from spans; an interrupted transfer goes on with those that it lacks.

        Args:
            fsverity: its digest.
            length: its bytes; more than one span.
            hashes: of its spans, see ``content.fsverity.digest_spans``.

        Raises:
            DigestMismatch: the hashes are not those of this digest.
            StorageFull: no room for the rest.
            ContentError: any other failure.
            ValueError: not the number of hashes for this length.
        """
        target = self.path(fsverity)
        partial = self._partial_folder() / fsverity
        durable.make_directory(target.parent, _FOLDER_MODE)
        with durable.Writer(partial, resume=True, keep=True) as writer:
            assembly = Assembly(writer, target, Measured(fsverity=fsverity, length=length), hashes, _FILE_MODE)
            durable.require_space(partial.parent, assembly.absent)
            yield assembly
        if assembly.complete:
            self._received(fsverity)

    def _received(self, fsverity: str) -> None:
        """All bytes of a file were hashed on their way in, and nobody may have it open for writing any more."""
        self.seal(fsverity)
        self._proven.note(self.path(fsverity))

    def items(self) -> tuple[Measured, ...]:
        """Names and lengths of all files, sorted by name. Their bytes are not looked at.

        Raises:
            StorageFailed: the store cannot be read.
        """
        with storage("the store was not read", self.root):
            return tuple(
                Measured(fsverity=path.name, length=path.lstat().st_size)
                for folder in self._folders()
                for path in sorted(folder.iterdir())
                if _DIGEST.fullmatch(path.name)
            )

    def gc(self, keep: set[str]) -> list[str]:
        """Remove every file, finished or not, whose digest is not in ``keep``, and what a cut left behind.

        Returns:
            The digests of the finished files removed, sorted.

        Raises:
            ValueError: ``keep`` has something that is not a digest; nothing was removed.
            ContentError: it failed; what was removed stays removed.
        """
        for fsverity in keep:
            self.path(fsverity)
        also = [keeper() for keeper in self.keepers]
        keep = keep.union(*(kept for kept in also if kept is not None))
        removed = [item.fsverity for item in self.items() if item.fsverity not in keep] if None not in also else []
        for fsverity in removed:
            durable.remove(self.path(fsverity))
        self.sweep()
        with storage("the store was not read", self.root):
            partial = self.root / _PARTIAL
            left = sorted(partial.iterdir()) if partial.is_dir() else []
        for path in left:
            if path.name not in keep:
                durable.remove(path)
        return removed

    def sweep(self) -> None:
        """Remove what a cut left behind; unfinished transfers stay. Call it at start.

        Raises:
            ContentError: it failed.
        """
        with storage("the store was not read", self.root):
            folders = self._folders()
        for folder in (self.root, self.root / _PARTIAL, *folders):
            durable.sweep(folder)

    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir())

    def _partial_folder(self) -> Path:
        durable.make_directory(self.root, _FOLDER_MODE)
        durable.make_directory(self.root / _PARTIAL, 0o700)
        return self.root / _PARTIAL

    def _make_room(self, measured: Measured) -> Path | None:
        """Where to put a file, or nothing if it is there already and intact."""
        target = self.path(measured.fsverity)
        durable.make_directory(target.parent, _FOLDER_MODE)
        try:
            self.verify(measured.fsverity, measured.length)
        except ContentError:
            return target
        durable.sync_directory(target.parent)
        return None


class Incoming:
    """One transfer into the store. Its bytes are worth nothing before ``commit``.

    Attributes:
        offset: bytes that are there already: where to go on.
        complete: they are in the store.
    """

    def __init__(self, writer: durable.Writer, target: Path, expected: Measured) -> None:
        self._writer = writer
        self._target = target
        self._expected = expected
        self.complete = False

    @property
    def offset(self) -> int:
        """Bytes so far."""
        return self._writer.offset

    def restart(self) -> None:
        """Forget the bytes so far, for a sender that cannot go on in the middle."""
        self._writer.restart()

    def write(self, untrusted_chunk: bytes) -> None:
        """Add bytes.

        Raises:
            DigestMismatch: more than the length; all of it is thrown away.
            StorageFull: no room for the rest; the transfer may go on later.
        """
        if self.offset + len(untrusted_chunk) > self._expected.length:
            found = f"at least {self.offset + len(untrusted_chunk)} bytes"
            self._writer.discard()
            raise DigestMismatch(
                f"{self._expected.fsverity} was refused", expected=f"{self._expected.length} bytes", found=found
            )
        try:
            self._writer.write(untrusted_chunk)
        except StorageFull as error:
            rest = self._expected.length - self.offset
            raise StorageFull(error.what, needed=max(rest, error.needed), cause=error.cause) from error

    def commit(self) -> None:
        """Verify all bytes and take the file into the store.

        Raises:
            DigestMismatch: they are not the ones named, or not all; they are thrown away.
            ContentError: it failed; the transfer may go on later, or begin anew if the bytes could not be synchronised.
        """
        try:
            verify_descriptor(
                self._writer.descriptor, self._writer.partial, self._expected.fsverity, self._expected.length
            )
        except DigestMismatch:
            self._writer.discard()
            raise
        durable.make_directory(self._target.parent, _FOLDER_MODE)
        self._writer.commit(self._target, _FILE_MODE)
        self.complete = True


def _allocated(path: Path) -> int:
    """Bytes that a file takes on the disk; 0 for none. Its holes take nothing yet."""
    with storage("the store was not read", path):
        try:
            return path.lstat().st_blocks * 512
        except FileNotFoundError:
            return 0
