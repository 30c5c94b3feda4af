# SPDX-License-Identifier: Apache-2.0
"""Hashes the units of a large file; run as a program it is one of several processes that share that work.

Threads cannot share it: a block of 4 KiB takes two microseconds, and around each of them a thread gives up the
interpreter's lock and waits to get it back. So other cores get processes of their own. They see one file by a
descriptor that they inherit, take numbers of units from a pipe, and put hashes into memory that the starter shares.

This module imports the standard library only, so that it starts at once by its path alone. It does not know names of
files, does not decide which digest is right, and writes to no disk.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

BLOCK = 4096
"""Bytes of a block of data and of a block of hashes."""

UNIT = 128 * BLOCK
"""Bytes that are read and hashed at a time. Its blocks fill whole blocks of hashes for each algorithm."""

NUMBER = 4
"""Bytes of a unit's number in the pipe, little-endian. Files have at most 2**32 units: 2 PiB."""

Hash: TypeAlias = Callable[[bytes | memoryview], "hashlib._Hash"]  # noqa: SLF001 - its only name


def hash_blocks(data: bytes | memoryview, new: Hash) -> bytes:
    """The hashes of all blocks of ``data``, one after another; the last block is padded with zeros."""
    view, whole = memoryview(data), len(data) - len(data) % BLOCK
    hashes = [new(view[start : start + BLOCK]).digest() for start in range(0, whole, BLOCK)]
    if whole < len(data):
        hashes.append(new(bytes(view[whole:]).ljust(BLOCK, b"\0")).digest())
    return b"".join(hashes)


def hash_units(descriptor: int, numbers: Iterable[int], length: int, new: Hash) -> Iterator[tuple[int, bytes]]:
    """For some units of an open file: the number, and its part of the level above the leaves.

    Args:
        descriptor: of the file; its position does not matter and is not moved.
        numbers: of the units, each below ``length / UNIT``.
        length: of the file, in bytes.
        new: the hash.

    Raises:
        EOFError: the file is shorter.
        OSError: it cannot be read.
    """
    # One buffer for all, small enough to stay in a core's own cache, and its blocks cut once.
    buffer = memoryview(bytearray(UNIT))
    blocks = [buffer[start : start + BLOCK] for start in range(0, UNIT, BLOCK)]
    for number in numbers:
        size = min(UNIT, length - number * UNIT)
        _fill(descriptor, buffer[:size], number * UNIT)
        if size == UNIT:
            leaves = b"".join([new(block).digest() for block in blocks])
        else:
            leaves = hash_blocks(buffer[:size], new)
        yield number, hash_blocks(leaves, new)


def read_exactly(descriptor: int, length: int) -> bytes:
    """The first bytes of an open file. Raises as ``hash_units`` does."""
    data = bytearray(length)
    _fill(descriptor, memoryview(data), 0)
    return bytes(data)


def _fill(descriptor: int, room: memoryview, position: int) -> None:
    while room:
        count = os.preadv(descriptor, [room], position)
        if not count:
            raise EOFError(f"it ends at byte {position}")
        room, position = room[count:], position + count


def numbers_from(tasks: int) -> Iterator[int]:
    """Numbers of units out of a pipe that others read as well, until its writer closes it."""
    while task := os.read(tasks, NUMBER):
        yield int.from_bytes(task, "little")


def hash_named(name: str) -> Hash:
    """The constructor in ``hashlib``."""
    new: Hash = getattr(hashlib, name)
    return new


def place_of(number: int, name: str) -> int:
    """Where the hashes of a unit stand in their level, in bytes."""
    size = hash_named(name)(b"").digest_size
    return number * (UNIT // BLOCK) // (BLOCK // size) * size


def main(words: Sequence[str]) -> None:
    """Hash units until there are none left.

    Args:
        words: numbers of descriptors (of the file, of the pipe with numbers of units, of the shared memory for the
            level), the file's length in bytes, and the name of the hash in ``hashlib``.
    """
    descriptor, tasks, results, length = (int(word) for word in words[:4])
    new = hash_named(words[4])
    for number, hashes in hash_units(descriptor, numbers_from(tasks), length, new):
        os.pwrite(results, hashes, place_of(number, words[4]))


if __name__ == "__main__":
    main(sys.argv[1:])
