# SPDX-License-Identifier: Apache-2.0
"""The identity of bytes: their fs-verity digest.

Source: Linux Documentation/filesystems/fsverity.rst, sections "Merkle tree" and "fs-verity descriptor". Blocks of
4 KiB, no salt. The digest equals that of ``fsverity digest PATH`` and of ``FS_IOC_MEASURE_VERITY``.

This module does not enable fs-verity on a file and does not decide which digest is the right one.
"""

from __future__ import annotations

import enum
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from content import hash_worker
from content.errors import DigestMismatch, StorageFailed, storage
from content.hash_pool import hash_level
from content.holes import data_ranges

BLOCK = hash_worker.BLOCK
"""Bytes of a block of data and of a block of hashes."""

UNIT = hash_worker.UNIT
"""Bytes that are read and hashed at a time. Its blocks fill whole blocks of hashes for each algorithm."""

SPAN = BLOCK * (BLOCK // hashlib.sha256().digest_size)
"""Bytes whose block hashes fill one block of hashes (SHA-256): 512 KiB. Checked at a time while a file grows."""

_DESCRIPTOR = struct.Struct("<BBBB4xQ64s32x144x")


class Algorithm(enum.Enum):
    """Hash algorithms, by their number in the descriptor."""

    SHA256 = 1
    SHA512 = 2

    @property
    def hash(self) -> hash_worker.Hash:
        """The constructor in ``hashlib``."""
        return hash_worker.hash_named(self.name.lower())

    @property
    def size(self) -> int:
        """Bytes of one hash."""
        return 32 if self is Algorithm.SHA256 else 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What identifies a file's bytes.

    Attributes:
        fsverity: the digest, lower-case hexadecimal.
        length: bytes.
    """

    fsverity: str
    length: int


def digest_bytes(data: bytes, algorithm: Algorithm = Algorithm.SHA256) -> str:
    """The digest of bytes in memory, lower-case hexadecimal."""
    return digest_leaves(hash_blocks(data, algorithm), len(data), algorithm)


def hash_blocks(data: bytes | memoryview, algorithm: Algorithm = Algorithm.SHA256) -> bytes:
    """The hashes of all blocks of ``data``, one after another; the last block is padded with zeros.

    Over a file's bytes these are the leaves of its tree; over a level of the tree they are the next level.
    """
    return hash_worker.hash_blocks(data, algorithm.hash)


def digest_leaves(leaves: bytes, length: int, algorithm: Algorithm = Algorithm.SHA256) -> str:
    """The digest of a file of ``length`` bytes, from the hashes of its blocks.

    With it a list of leaves from anywhere is checked against a signed digest.

    Raises:
        ValueError: the number of leaves is not that of a file of this length.
    """
    if len(leaves) != -(-length // BLOCK) * algorithm.size:
        raise ValueError(f"{len(leaves)} bytes are not the leaves of a file of {length} bytes")
    return _digest(leaves, length, algorithm)


class HashedSpan:
    """One span of a file, up to ``SPAN`` bytes, and what was computed from just these bytes.

    Attributes:
        data: the bytes.
        leaves: the SHA-256 hashes of its blocks, one after another.
        hash: the hash that stands for the span in the level above.
    """

    __slots__ = ("data", "hash", "leaves")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.leaves = hash_blocks(data)
        self.hash = hash_blocks(self.leaves)


def digest_spans(hashes: bytes, length: int) -> str:
    """The SHA-256 digest of a file of ``length`` bytes, from the hashes of its spans.

    With it a list of span hashes from anywhere is checked against a signed digest; then each span can be checked alone.

    Raises:
        ValueError: not the number of spans of such a file, or a file of one span, whose tree has no such level.
    """
    if length <= SPAN or len(hashes) != -(-length // SPAN) * hashlib.sha256().digest_size:
        raise ValueError(f"{len(hashes)} bytes are not the span hashes of a file of {length} bytes")
    return _digest(hashes, length, Algorithm.SHA256)


def digest_file(path: Path, algorithm: Algorithm = Algorithm.SHA256, *, allow_link: bool = False) -> Measured:
    """Measure a regular file, on all cores if it is large.

    Args:
        path: the file.
        algorithm: of the tree and the digest.
        allow_link: follow ``path`` if it is a symbolic link; else that is an error.

    Raises:
        Missing: no such file.
        StorageFailed: not a regular file, not readable, or shortened meanwhile.
    """
    with storage("the file was not measured", path), _opened(path, allow_link=allow_link) as descriptor:
        return digest_descriptor(descriptor, path, algorithm)


def digest_descriptor(descriptor: int, path: Path, algorithm: Algorithm = Algorithm.SHA256) -> Measured:
    """Measure an open file; its position does not matter and is not moved. ``path`` is for messages.

    Memory: a small process for each core that helps (see ``content.hash_pool``), and one hash for each 128 (SHA-512:
    64) blocks of the file.
    """
    with storage("the file was not measured", path):
        length = _length(descriptor, path)
        try:
            if length <= UNIT:
                # The hashes of its blocks: of one block, or none, there is no level above.
                level = hash_blocks(hash_worker.read_exactly(descriptor, length), algorithm)
            else:
                level = _second_level(descriptor, length, algorithm)
        except EOFError as error:
            raise _unmeasured(path, "it was shortened meanwhile") from error
    return Measured(fsverity=_digest(level, length, algorithm), length=length)


def verify_file(path: Path, fsverity: str, length: int) -> None:
    """Require that a file is the one that a SHA-256 digest and a length name.

    Raises:
        DigestMismatch: it is another one.
        Missing: no such file.
        StorageFailed: not a regular file, a symbolic link, or not readable.
    """
    with storage("the file was not measured", path), _opened(path, allow_link=False) as descriptor:
        verify_descriptor(descriptor, path, fsverity, length)


def verify_descriptor(descriptor: int, path: Path, fsverity: str, length: int) -> None:
    """Like ``verify_file``, for an open file; ``path`` is for messages."""
    with storage("the file was not measured", path):
        found_length = _length(descriptor, path)
    # The length first: it costs nothing, and a file that grew is not worth hashing.
    if found_length != length:
        raise DigestMismatch(f"{path} was refused", expected=f"{length} bytes", found=f"{found_length} bytes")
    found = digest_descriptor(descriptor, path)
    if found != Measured(fsverity=fsverity, length=length):
        raise DigestMismatch(f"{path} was refused", expected=fsverity, found=found.fsverity)


def _digest(level: bytes, length: int, algorithm: Algorithm) -> str:
    """The digest of a file, given any full level of its tree."""
    while len(level) > algorithm.size:
        level = hash_blocks(level, algorithm)
    # An empty file has no tree: its root hash is all zeros, which is what an empty level packs to.
    descriptor = _DESCRIPTOR.pack(1, algorithm.value, BLOCK.bit_length() - 1, 0, length, level)
    return algorithm.hash(descriptor).hexdigest()


def _length(descriptor: int, path: Path) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _unmeasured(path, "it is not a regular file")
    return status.st_size


def _second_level(descriptor: int, length: int, algorithm: Algorithm) -> bytes:
    """The level above the leaves. Units that are holes are not read."""
    units = -(-length // UNIT)
    filled = bytearray(units)
    for begin, end in data_ranges(descriptor, length):
        filled[begin // UNIT : -(-end // UNIT)] = b"\1" * (-(-end // UNIT) - begin // UNIT)
    if length % UNIT:
        filled[-1] = 1  # A hole that ends within a unit has fewer hashes than others.
    hole = hash_blocks(hash_blocks(bytes(UNIT), algorithm), algorithm)
    level = bytearray(hole * units)
    hash_level(descriptor, [unit for unit in range(units) if filled[unit]], level, length, algorithm.name.lower())
    per_hash = BLOCK * (BLOCK // algorithm.size)
    return bytes(level[: -(-length // per_hash) * algorithm.size])


@contextmanager
def _opened(path: Path, *, allow_link: bool) -> Iterator[int]:
    # Without O_NONBLOCK the opening of a pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if allow_link else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unmeasured(path: Path, why: str) -> StorageFailed:
    return StorageFailed("the file was not measured", cause=f"{path}: {why}", remedy="name a regular file")
