# SPDX-License-Identifier: Apache-2.0
"""Hashes the units of a large file; run as a program it is one of several processes that share that work.

Threads cannot share it: a block of 4 KiB takes two microseconds, and around each of them a thread gives up the
interpreter's lock and waits to get it back. So other cores get processes of their own. They see files by descriptors
that they inherit, take tasks from a pipe, and put what they find into memory that the starter shares.

It also takes units over into another file: each is hashed first, and written only if its hash is the one that the
starter says. These writes are not durable; the starter synchronises the file.

This module imports the standard library only, so that it starts at once by its path alone. It does not know names of
files and does not decide which digest is right.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeAlias

BLOCK = 4096
"""Bytes of a block of data and of a block of hashes."""

UNIT = 128 * BLOCK
"""Bytes that are read and hashed at a time. Its blocks fill whole blocks of hashes for each algorithm."""

NUMBER = 4
"""Bytes of a unit's number in the pipe, little-endian. Files have at most 2**32 units: 2 PiB."""

TASK = struct.Struct("<QII")
"""A unit to be taken over: where it begins in the source, its number in the target or ``NOWHERE``, and how."""

NOWHERE = 2**32 - 1
PLAIN, SOILED, LOOK = range(3)
"""How a unit is taken over: its zeros stay holes; its zeros are written too; it stands there already."""

UNTOUCHED, TAKEN, WRONG, UNREAD = range(4)
"""What became of a unit of the target."""

DIGEST = 32
WEAK = 4
"""Bytes of a block's hash that are noted of a source."""

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
    unit = _Unit(descriptor, length, new)
    for number in numbers:
        yield number, hash_blocks(unit.leaves(number * UNIT), new)


class _Unit:
    """One buffer for all units, small enough to stay in a core's own cache, and its blocks cut once."""

    def __init__(self, descriptor: int, length: int, new: Hash) -> None:
        self._descriptor = descriptor
        self._length = length
        self._new = new
        self.data = memoryview(bytearray(UNIT))
        self._blocks = [self.data[start : start + BLOCK] for start in range(0, UNIT, BLOCK)]

    def leaves(self, start: int) -> bytes:
        """Read a unit and hash its blocks."""
        size = min(UNIT, self._length - start)
        _fill(self._descriptor, self.data[:size], start)
        if size == UNIT:
            return b"".join([self._new(block).digest() for block in self._blocks])
        return hash_blocks(self.data[:size], self._new)


class Taking(NamedTuple):
    """What units are taken from, and where to.

    Attributes:
        source: descriptor of the file that they stand in.
        length: its bytes.
        hashes: memory with the SHA-256 hash that each unit of the target must have.
        states: memory with a byte for each of them: what became of it.
        weak: memory for the first ``WEAK`` bytes of the hash of each block of the source.
        indexed: so many blocks of the source are noted there.
    """

    source: int
    length: int
    hashes: int
    states: int
    weak: int
    indexed: int


def take_units(taking: Taking, tasks: Iterable[bytes], write: Callable[[memoryview, int], object]) -> Iterator[int]:
    """Take units over that are the right ones; what became of each is noted, and its number given.

    Args:
        taking: the files.
        tasks: one ``TASK`` each. Only a whole unit is taken.
        write: writes bytes at an offset of the target.
    """
    unit = _Unit(taking.source, taking.length, hashlib.sha256)
    for task in tasks:
        start, number, how = TASK.unpack(task)
        state = UNREAD
        with suppress(EOFError, OSError):
            leaves = unit.leaves(start)
            state = WRONG
        if state == WRONG:
            if start // BLOCK < taking.indexed:
                os.pwrite(taking.weak, memoryview(leaves).cast("I")[:: DIGEST // WEAK].tobytes(), start // BLOCK * WEAK)
            right = number != NOWHERE and len(leaves) == UNIT // BLOCK * DIGEST
            if right and hash_blocks(leaves, hashlib.sha256) == os.pread(taking.hashes, DIGEST, number * DIGEST):
                for begin, end in ((0, UNIT),) if how == SOILED else () if how == LOOK else _filled(leaves):
                    write(unit.data[begin:end], number * UNIT + begin)
                state = TAKEN
        if number != NOWHERE:
            os.pwrite(taking.states, bytes((state,)), number)
            yield number


def _filled(leaves: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each part of a unit that is not zeros, by its leaves."""
    if _EMPTY not in leaves:
        yield 0, UNIT
        return
    begun = None
    for number in range(UNIT // BLOCK):
        empty = leaves.startswith(_EMPTY, number * DIGEST)
        if empty and begun is not None:
            yield begun, number * BLOCK
            begun = None
        elif not empty and begun is None:
            begun = number * BLOCK
    if begun is not None:
        yield begun, UNIT


_EMPTY = hashlib.sha256(bytes(BLOCK)).digest()


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


def tasks_from(pipe: int, size: int) -> Iterator[bytes]:
    """Tasks of ``size`` bytes out of a pipe that others read as well, until its writer closes it."""
    while task := os.read(pipe, size):
        yield task


def numbers_of(tasks: Iterable[bytes]) -> Iterator[int]:
    """The numbers of units that are tasks."""
    return (int.from_bytes(task, "little") for task in tasks)


def hash_named(name: str) -> Hash:
    """The constructor in ``hashlib``."""
    new: Hash = getattr(hashlib, name)
    return new


def place_of(number: int, name: str) -> int:
    """Where the hashes of a unit stand in their level, in bytes."""
    size = hash_named(name)(b"").digest_size
    return number * (UNIT // BLOCK) // (BLOCK // size) * size


def main(words: Sequence[str]) -> None:
    """Do tasks until there are none left.

    Args:
        words: ``hash``, numbers of descriptors (of the pipe with numbers of units, of the file, of the shared memory
            for the level), the file's length in bytes, and the name of the hash in ``hashlib``; or ``take``, the
            descriptor of the pipe with tasks, that of the target, the starter's process, and ``Taking``.
    """
    if words[0] == "hash":
        tasks, descriptor, results, length = (int(word) for word in words[1:5])
        new = hash_named(words[5])
        for number, hashes in hash_units(descriptor, numbers_of(tasks_from(tasks, NUMBER)), length, new):
            os.pwrite(results, hashes, place_of(number, words[5]))
    else:
        tasks, target, starter, *files = (int(word) for word in words[1:])

        def write(data: memoryview, offset: int) -> None:
            while data:
                count = os.pwrite(target, data, offset)
                data, offset = data[count:], offset + count

        for _ in take_units(Taking(*files), tasks_from(tasks, TASK.size), write):
            # Nobody may go on with a file that another process has taken over from the starter.
            if os.getppid() != starter:
                return


if __name__ == "__main__":
    main(sys.argv[1:])
