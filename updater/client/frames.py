# SPDX-License-Identifier: Apache-2.0
"""Fetch missing spans of an artifact from its pack: only the frames with blocks that this host has nowhere.

A span's record tells where its frames lie and how its blocks are found in what the host has. What is put together that
way is right or its hash is not; then all of the span's frames are fetched once.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from content.assembly import Assembly
from content.fsverity import BLOCK, HashedSpan, Measured, hash_blocks
from updater.client.held import HeldArtifact
from updater.client.ranges import read_range, rejecting
from updater.client.source import Source
from updater.client.workers import in_threads
from updater.compression import decompressed
from updater.formats import pack_name
from updater.pack import (
    BLOCKS_IN_SPAN,
    FRAME,
    FRAMES,
    RECORD,
    SPANS,
    WEAK,
    SpanRecord,
    malformed,
    span_length,
)

T = TypeVar("T")

WORKERS = 4
"""Transfers at the same time."""

TOGETHER = 4
"""Spans that one thread fetches at a time: 2 MiB. So much is fetched twice when its connection breaks."""

BATCH = 256
"""Spans whose records are fetched and looked for at a time: an eighth of a megabyte of records."""

GAP = 2048
"""Bytes between two ranges that are fetched rather than asked around."""

BLOCKS_IN_FRAME = FRAME // BLOCK
_ZERO = int.from_bytes(hash_blocks(bytes(BLOCK))[:WEAK], sys.byteorder)
_NOWHERE, _EMPTY = -1, -2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A missing span: its number, its record and who gave it, and for each block where it may lie in the base."""

    span: int
    record: SpanRecord
    server: int
    places: Sequence[int]

    def moved(self) -> bool:
        """Whether all its blocks seem to lie in the base, one after another."""
        first = self.places[0]
        return first >= 0 and all(place == first + i for i, place in enumerate(self.places))

    def frames(self) -> list[int]:
        """Numbers of the frames with blocks that lie nowhere."""
        blocks = (number for number, place in enumerate(self.places) if place == _NOWHERE)
        numbers = dict.fromkeys(block // BLOCKS_IN_FRAME for block in blocks)
        return [number for number in numbers if self.record.frames[number]]

    def every(self) -> list[int]:
        """Numbers of all its frames; what a record says of frames beyond the end of the artifact is nothing to us."""
        return [number for number in range(-(-len(self.places) // BLOCKS_IN_FRAME)) if self.record.frames[number]]


class FrameFetcher:
    """Fills an assembly from a pack.

    Args:
        source: has the pack.
        artifact: which one.
        assembly: to be filled.
        base: an indexed artifact whose blocks are used, or nothing.
        done: called with the bytes of each span that was taken, from several threads.
    """

    def __init__(
        self,
        source: Source,
        artifact: Measured,
        assembly: Assembly,
        base: HeldArtifact | None,
        done: Callable[[int], None],
    ) -> None:
        self._source = source
        self._artifact = artifact
        self._assembly = assembly
        self._base = base
        self._done = done

    def run(self) -> None:
        """Fetch every missing span.

        Raises:
            PackMalformed: the pack does not give what was signed.
            UpdaterError: the source failed; what came so far is kept.
            ContentError: it could not be read or written.
        """
        for numbers in _slices(self._assembly.missing(), BATCH):
            wanted = self._look_up(numbers)
            if self._base is not None:
                moved = ((item.span, item.places[0] * BLOCK) for item in wanted if item.moved())
                self._assembly.copy(self._base.descriptor, self._base.measured.length, moved, self._done)
            rest = (item for item in wanted if self._assembly.wants(item.span))
            in_threads(self._fill, _slices(rest, TOGETHER), WORKERS)

    def _look_up(self, numbers: Sequence[int]) -> list[_Wanted]:
        records = list(self._records(numbers))
        places: Iterator[int] = itertools.repeat(_NOWHERE)
        if self._base is not None:
            places = self._base.find(b"".join(record.weak for record, _ in records))
        wanted = []
        for span, (record, server) in zip(numbers, records, strict=True):
            # All of them are taken, so that the next span's places come next.
            found = list(itertools.islice(places, BLOCKS_IN_SPAN))
            weak = memoryview(record.weak).cast("I")
            here = [_EMPTY if weak[i] == _ZERO else place for i, place in enumerate(found)]
            blocks = -(-span_length(span, self._artifact.length) // BLOCK)
            wanted.append(_Wanted(span=span, record=record, server=server, places=here[:blocks]))
        return wanted

    def _records(self, numbers: Sequence[int]) -> Iterator[tuple[SpanRecord, int]]:
        """The records of ascending spans, each with the server that gave it; neighbours in one request."""
        name = pack_name(self._artifact.fsverity, SPANS)
        for start, end in _joined(((n * RECORD, (n + 1) * RECORD) for n in numbers), GAP):
            part = read_range(self._source, name, start, end - start)
            with rejecting(part.reject):
                inside = (n * RECORD - start for n in numbers if start <= n * RECORD < end)
                yield from [(SpanRecord.parse(part.untrusted[at : at + RECORD]), part.server) for at in inside]

    def _fill(self, wanted: Sequence[_Wanted]) -> None:
        """Fetch, put together and take a few spans."""
        frames = self._fetch([(item, item.frames()) for item in wanted])
        for item in wanted:
            span = HashedSpan(self._put_together(item, frames))
            if not self._assembly.take(item.span, span):
                self._fill_whole(item)
            self._done(len(span.data))

    def _fill_whole(self, item: _Wanted) -> None:
        """Take a span of which a block was not what its weak hash promised, from its frames alone."""
        alone = replace(item, places=[_NOWHERE] * len(item.places))
        frames = self._fetch([(item, item.every())])
        if not self._assembly.take(item.span, HashedSpan(self._put_together(alone, frames))):
            error = malformed(f"span {item.span} of {self._artifact.fsverity} is not what was signed")
            # See ``_fetch`` for the blame.
            if {frame.server for frame in frames.values()} <= {item.server}:
                answers = [frame.reject() for frame in frames.values()]
                error.another = any(answers)
            raise error

    def _put_together(self, item: _Wanted, frames: dict[tuple[int, int], _Frame]) -> bytes:
        parts = []
        for number, places in enumerate(_slices(iter(item.places), BLOCKS_IN_FRAME)):
            frame = frames.get((item.span, number))
            if frame is not None:
                parts.append(frame.untrusted)
            else:
                parts += [self._blocks(start, count) for start, count in _runs(places)]
        return b"".join(parts)[: span_length(item.span, self._artifact.length)]

    def _blocks(self, start: int, count: int) -> bytes:
        if start < 0 or self._base is None:
            return bytes(count * BLOCK)
        return self._base.read(start, count).ljust(count * BLOCK, b"\0")

    def _fetch(self, wanted: Sequence[tuple[_Wanted, list[int]]]) -> dict[tuple[int, int], _Frame]:
        """Fetch and decompress frames, by span and number; neighbours in one request.

        Where records and frames are of several servers, nobody can tell who lied, and none is blamed for it.
        """
        places = {(item.span, number): item.record.range(number) for item, numbers in wanted for number in numbers}
        servers = {item.server for item, _ in wanted}
        name = pack_name(self._artifact.fsverity, FRAMES)
        frames = {}
        for start, end in _joined(((offset, offset + length) for offset, length in sorted(places.values())), GAP):
            part = read_range(self._source, name, start, end - start)
            with rejecting(part.reject if servers == {part.server} else bool):
                for (span, number), (offset, length) in places.items():
                    if start <= offset < end:
                        untrusted = part.untrusted[offset - start : offset - start + length]
                        size = min(FRAME, span_length(span, self._artifact.length) - number * FRAME)
                        frames[span, number] = _Frame(
                            untrusted=decompressed(untrusted, size), reject=part.reject, server=part.server
                        )
        return frames


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    untrusted: bytes
    reject: Callable[[], bool]
    server: int


def _slices(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while part := list(itertools.islice(items, size)):
        yield part


def _joined(ranges: Iterable[tuple[int, int]], gap: int) -> Iterator[tuple[int, int]]:
    """Ascending ranges (start, end), those with no more than ``gap`` between them as one."""
    begun: tuple[int, int] | None = None
    for start, end in ranges:
        if begun is not None and start - begun[1] <= gap:
            begun = (begun[0], max(begun[1], end))
        else:
            if begun is not None:
                yield begun
            begun = (start, end)
    if begun is not None:
        yield begun


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places that follow each other, as (first, how many); what is no place stands alone."""
    begun, count = places[0], 1
    for place in places[1:]:
        if begun >= 0 and place == begun + count:
            count += 1
        else:
            yield begun, count
            begun, count = place, 1
    yield begun, count
