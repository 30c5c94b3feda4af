# SPDX-License-Identifier: Apache-2.0
"""Deltas: how an artifact comes out of another one that a host has. Pure; opens nothing and decides no trust.

A delta says for each run of blocks (4 KiB) of the new artifact where it is taken from: a place in the base, nowhere
because it is zeros, or the *literals*, the blocks that the base does not have. Literals are compressed in groups, each
with those blocks of the base before it that went away: mostly the older form of the same files, so little is left.

Layout, little endian: magic; numbers of runs, groups and prefix runs; their tables, compressed together; the groups.
What comes out is untrusted: a wrong delta or a damaged base gives spans that do not have their hash.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from content.fsverity import BLOCK
from documents.release import MAX_LENGTH
from updater.compression import decompressed
from updater.pack import BLOCKS_IN_SPAN, malformed, span_length

LITERAL = 2**64 - 1
ZEROS = 2**64 - 2
"""Sources of a run that are no place in the base."""

GROUP = 1024
"""The most blocks of literals in a group, and the most blocks of its prefix: 4 MiB each, held in memory at once."""

MOST_BLOCKS = MAX_LENGTH // BLOCK
MOST_RUNS = 200_000
MOST_GROUPS = 100_000
WINDOW_LOG = 25
"""Binary logarithm of how far back a group refers: over prefix and literals."""

MOST_OF_HEAD = 8 * 1024 * 1024
"""Bytes of a delta's head as it lies there. A delta with a larger one is not worth its while."""

_MAGIC = b"vmgate-delta\0\0\0\1"
_COUNTS = struct.Struct("<III")
_RUN = struct.Struct("<IQ")
_GROUP = struct.Struct("<III")

ReadBase = Callable[[int, int], bytes]
"""Called with a block number and a number of blocks of the base; may give fewer bytes at its end."""

ReadGroup = Callable[[int, int], bytes]
"""Called with offset and bytes of a group in the delta."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Blocks that follow each other.

    Attributes:
        count: how many, at least 1.
        source: the first one's number in the base, or ``LITERAL`` or ``ZEROS``.
    """

    count: int
    source: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of one span.

    Attributes:
        origin: ``base``, ``zeros`` or ``literals``.
        start: its first block's number there; 0 for zeros.
        count: blocks.
    """

    origin: str
    start: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Some literals, compressed together.

    Attributes:
        blocks: how many.
        length: bytes as they lie there.
        prefix: runs of the base that stand before them for the compression.
    """

    blocks: int
    length: int
    prefix: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The head of a delta: runs over all blocks of the new artifact in their order, and the groups in theirs."""

    runs: tuple[Run, ...]
    groups: tuple[Group, ...]

    def encode(self, compress: Callable[[bytes], bytes]) -> bytes:
        """The bytes of the head."""
        prefixes = [run for group in self.groups for run in group.prefix]
        tables = b"".join(
            [
                *(_RUN.pack(run.count, run.source) for run in self.runs),
                *(_GROUP.pack(group.blocks, group.length, len(group.prefix)) for group in self.groups),
                *(_RUN.pack(run.count, run.source) for run in prefixes),
            ]
        )
        return _MAGIC + _COUNTS.pack(len(self.runs), len(self.groups), len(prefixes)) + compress(tables)

    @classmethod
    def parse(cls, untrusted: bytes, length: int) -> Self:
        """Read a head.

        Args:
            untrusted: its bytes.
            length: of the new artifact.

        Raises:
            PackMalformed: no head of a delta that gives ``length`` bytes, or beyond the bounds.
        """
        start = len(_MAGIC) + _COUNTS.size
        if not start <= len(untrusted) <= MOST_OF_HEAD or not untrusted.startswith(_MAGIC):
            raise malformed("it does not begin as a delta does")
        runs, groups, prefixes = _COUNTS.unpack_from(untrusted, len(_MAGIC))
        if runs > MOST_RUNS or prefixes > MOST_RUNS or groups > MOST_GROUPS:
            raise malformed("a delta has too many runs")
        size = (runs + prefixes) * _RUN.size + groups * _GROUP.size
        untrusted_tables = decompressed(untrusted[start:], size)
        first, second = runs * _RUN.size, runs * _RUN.size + groups * _GROUP.size
        spare = _runs(untrusted_tables[second:])
        plan = cls(
            runs=_runs(untrusted_tables[:first]), groups=tuple(_groups(untrusted_tables[first:second], iter(spare)))
        )
        if sum(len(group.prefix) for group in plan.groups) != prefixes:
            raise malformed("a delta has prefixes of no group")
        plan._require_whole(length)
        return plan

    def _require_whole(self, length: int) -> None:
        if sum(run.count for run in self.runs) != -(-length // BLOCK):
            raise malformed("a delta does not give the whole artifact")
        literals = sum(group.blocks for group in self.groups)
        if sum(r.count for r in self.runs if r.source == LITERAL) != literals:
            raise malformed("a delta has not as many literals as it uses")
        # Else each block may stand behind a whole prefix, which the host reads and loads for it.
        if sum(run.count for group in self.groups for run in group.prefix) > literals + GROUP:
            raise malformed("a delta has more of its base before its literals than there are literals")

    def spans(self) -> Iterator[tuple[int, list[Piece]]]:
        """For each span its number and what it is made of."""
        pieces: list[Piece] = []
        span, room = 0, BLOCKS_IN_SPAN
        for piece in self._pieces():
            start, left = piece.start, piece.count
            while left:
                taken = min(left, room)
                pieces.append(Piece(origin=piece.origin, start=start, count=taken))
                start, left, room = start + taken, left - taken, room - taken
                if room == 0:
                    yield span, pieces
                    span, pieces, room = span + 1, [], BLOCKS_IN_SPAN
        if pieces:
            yield span, pieces

    def _pieces(self) -> Iterator[Piece]:
        literals = 0
        for run in self.runs:
            if run.source == LITERAL:
                yield Piece(origin="literals", start=literals, count=run.count)
                literals += run.count
            elif run.source == ZEROS:
                yield Piece(origin="zeros", start=0, count=run.count)
            else:
                yield Piece(origin="base", start=run.source, count=run.count)


class Literals:
    """The literals of a delta, one group in memory at a time; they must be asked for in their order.

    Args:
        plan: the delta's head.
        start: bytes of the head: where the groups begin.
        base: reads the base.
        read: reads the delta.
    """

    def __init__(self, plan: Plan, start: int, base: ReadBase, read: ReadGroup) -> None:
        self._groups = iter(plan.groups)
        self._offset = start
        self._base = base
        self._read = read
        self._first, self._end, self._untrusted = 0, 0, b""

    def blocks(self, number: int, count: int) -> bytes:
        """Some literals from ``number`` on.

        Raises:
            PackMalformed: there are fewer, or a group does not decompress.
            UpdaterError: the source failed.
        """
        parts = []
        while count:
            while number >= self._end:
                self._next(number)
            taken = min(count, self._end - number)
            begin = (number - self._first) * BLOCK
            parts.append(self._untrusted[begin : begin + taken * BLOCK])
            number, count = number + taken, count - taken
        return b"".join(parts)

    def _next(self, number: int) -> None:
        """Go to the next group; one that nobody needs any more is not fetched."""
        group = next(self._groups, None)
        if group is None:
            raise malformed("a delta has fewer literals than it uses")
        self._first, self._end = self._end, self._end + group.blocks
        offset, self._offset = self._offset, self._offset + group.length
        self._untrusted = b""
        if number < self._end:
            prefix = prefix_bytes(group.prefix, self._base)
            untrusted = self._read(offset, group.length)
            self._untrusted = decompressed(untrusted, group.blocks * BLOCK, prefix=prefix, window_log=WINDOW_LOG)


def build_span(span: int, pieces: list[Piece], length: int, base: ReadBase, literals: Literals) -> bytes:
    """The untrusted bytes of one span of an artifact of ``length`` bytes, put together.

    Raises:
        PackMalformed: see ``Literals.blocks``.
        UpdaterError: the source failed.
    """
    parts = []
    for piece in pieces:
        if piece.origin == "zeros":
            parts.append(bytes(piece.count * BLOCK))
        elif piece.origin == "literals":
            parts.append(literals.blocks(piece.start, piece.count))
        else:
            parts.append(padded(base(piece.start, piece.count), piece.count))
    return b"".join(parts)[: span_length(span, length)]


def padded(data: bytes, blocks: int) -> bytes:
    """Bytes from the end of a file, filled up with zeros to whole blocks."""
    return data.ljust(blocks * BLOCK, b"\0")


def prefix_bytes(runs: tuple[Run, ...], base: ReadBase) -> bytes:
    """What stands before a group's literals for the compression."""
    return b"".join(padded(base(run.source, run.count), run.count) for run in runs)


def _runs(untrusted_table: bytes) -> tuple[Run, ...]:
    runs = tuple(Run(count=count, source=source) for count, source in _RUN.iter_unpack(untrusted_table))
    if any(run.count == 0 or MOST_BLOCKS <= run.source < ZEROS for run in runs):
        raise malformed("a delta has an impossible run")
    return runs


def _groups(untrusted_table: bytes, spare: Iterator[Run]) -> Iterator[Group]:
    for blocks, length, count in _GROUP.iter_unpack(untrusted_table):
        prefix = tuple(itertools.islice(spare, count))
        if not 1 <= blocks <= GROUP or not 1 <= length <= 2 * GROUP * BLOCK:
            raise malformed("a group of a delta is beyond the bounds")
        if any(run.source >= ZEROS for run in prefix) or sum(run.count for run in prefix) > GROUP:
            raise malformed("a group of a delta has an impossible prefix")
        yield Group(blocks=blocks, length=length, prefix=prefix)
