# SPDX-License-Identifier: Apache-2.0
"""A large file of the store that is put together from spans, in any order and by several threads.

Each span (512 KiB) is hashed before it is written, so that nothing unverified ever stands in the file and its digest is
proven when no span is missing. What an earlier process left is hashed too: only spans that verify are kept. Blocks of
zeros become holes. This module does not know where the bytes come from.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from content import durable, effects
from content.errors import DigestMismatch, storage
from content.fsverity import BLOCK, SPAN, HashedSpan, Measured, digest_spans
from content.hash_worker import LOOK, NOWHERE, PLAIN, SOILED, TAKEN, TASK
from content.holes import data_ranges
from content.syncing import Syncing
from content.taking import Source, Taken, take_spans
from content.worker_pool import WORTH

SYNC = 64 * 1024 * 1024
"""Bytes after which what was written is made to survive a power cut."""

_HASH = 32
_ZEROS = bytes(BLOCK)

_MISSING, _SOILED, _THERE = range(3)
"""What is known of a span. Where something else stands (soiled), its zeros must be written too."""

Done = Callable[[int], object]
"""Told of bytes that are there now."""


class Assembly:
    """One file on its way into the store.

    Args:
        writer: of the unfinished file; may have been begun by an earlier process.
        target: its name when it is complete.
        expected: digest and length.
        hashes: of its spans, one after another.
        mode: of the complete file.

    Attributes:
        complete: it is in the store.

    Raises:
        DigestMismatch: the hashes do not lead to the digest.
        ContentError: what is there cannot be read.
    """

    def __init__(self, writer: durable.Writer, target: Path, expected: Measured, hashes: bytes, mode: int) -> None:
        self._writer = writer
        self._target = target
        self._length = expected.length
        self._mode = mode
        self.complete = False
        self._hashes = hashes
        self._lock = threading.Lock()
        self._unsynced = 0
        self._shares = True
        found = digest_spans(hashes, expected.length)
        if found != expected.fsverity:
            raise DigestMismatch(f"{expected.fsverity} was refused", expected=expected.fsverity, found=found)
        if writer.offset > expected.length:
            writer.restart()
        self._state = bytearray(len(hashes) // _HASH)
        self._keep_what_verifies()
        self._skip_zeros()

    def missing(self) -> Iterator[int]:
        """The numbers of the spans that are not there yet, ascending."""
        return (span for span, state in enumerate(self._state) if state != _THERE)

    def wants(self, span: int) -> bool:
        """Whether a span is missing."""
        return self._state[span] != _THERE

    @property
    def absent(self) -> int:
        """Bytes that are not there yet."""
        return sum(self._size(span) for span in self.missing())

    def take(self, span: int, untrusted: HashedSpan) -> bool:
        """Write one span, if it is the right one. Threads may take different spans at once.

        Returns:
            Whether it was.

        Raises:
            StorageFull: no room; the transfer may go on later.
            ContentError: any other failure.
        """
        # The length too: zeros beyond the end would hash alike.
        if untrusted.hash != self._hash(span) or len(untrusted.data) != self._size(span):
            return False
        data = memoryview(untrusted.data)
        for start, end in [(0, len(data))] if self._state[span] == _SOILED else _filled(untrusted.data):
            self._writer.write_at(data[start:end], span * SPAN + start)
        with self._lock:
            self._state[span] = _THERE
            self._unsynced += len(data)
            due = self._unsynced >= SYNC
            self._unsynced = 0 if due else self._unsynced
        if due:
            self._writer.sync()
        return True

    def copy(self, descriptor: int, length: int, places: Iterable[tuple[int, int]], taken: Done) -> bool:
        """Take spans from another file that has them as a whole, on all cores; shared, where the file system can.

        Only what is missing and has ``SPAN`` bytes is taken.

        Args:
            descriptor: of the other file.
            length: its bytes.
            places: for each span where its bytes begin there, at a block.
            taken: told of bytes that are there now.

        Returns:
            Whether all of them were the right ones.

        Raises:
            StorageFull: no room; the transfer may go on later.
            ContentError: any other failure.
        """
        wanted = [(span, start) for span, start in places if self.wants(span) and self._size(span) == SPAN]
        shared = {span for span, start in wanted if self._share(span, descriptor, start)}
        self._look(sorted(shared), taken)
        tasks = [TASK.pack(start, span, self._how(span)) for span, start in wanted if span not in shared]
        self._take(Source(descriptor=descriptor, length=length), tasks, taken)
        return not any(self.wants(span) for span, _ in wanted)

    def scan(self, descriptor: int, length: int, indexed: int, taken: Done) -> bytes:
        """Read and hash another file once, on all cores, and take the spans that stand in the same place there.

        Args:
            descriptor: of the other file.
            length: its bytes.
            indexed: of so many of its blocks it is told what they are.
            taken: told of bytes that are there now.

        Returns:
            The first four bytes of the hash of each of these blocks. Those of a block of zeros for what is a hole or
            could not be read.

        Raises:
            StorageFull: no room; the transfer may go on later.
            ContentError: any other failure.
        """
        with storage("the file was not read", self._writer.partial):
            units = sorted({u for a, b in data_ranges(descriptor, length) for u in range(a // SPAN, -(-b // SPAN))})
        tasks = []
        for unit in units:
            here = unit < len(self._state) and self.wants(unit) and self._size(unit) == SPAN
            tasks.append(TASK.pack(unit * SPAN, unit if here else NOWHERE, self._how(unit) if here else PLAIN))
        return self._take(Source(descriptor=descriptor, length=length, indexed=indexed), tasks, taken).weak

    def commit(self) -> None:
        """Take the file into the store.

        Raises:
            ContentError: it failed; the transfer may go on later.
            ValueError: spans are missing: a bug.
        """
        if self.absent:
            raise ValueError(f"{self.absent} bytes are missing")
        self._writer.offset = self._length
        self._writer.commit(self._target, self._mode)
        self.complete = True

    def _keep_what_verifies(self) -> None:
        with storage("the unfinished file was not read", self._writer.partial):
            ranges = list(data_ranges(self._writer.descriptor, self._writer.offset))
        stands = sorted({span for start, end in ranges for span in range(start // SPAN, -(-end // SPAN))})
        self._look([span for span in stands if self._size(span) == SPAN], _nobody)
        for span in stands:
            if self._size(span) < SPAN:
                with storage("the unfinished file was not read", self._writer.partial):
                    self._state[span] = _THERE if self._right(span) else _SOILED

    def _look(self, spans: Iterable[int], taken: Done) -> None:
        """Judge spans that stand in this file."""
        tasks = [TASK.pack(span * SPAN, span, LOOK) for span in spans]
        for span in spans:
            self._state[span] = _SOILED
        self._take(Source(descriptor=self._writer.descriptor, length=self._length), tasks, taken)

    def _take(self, source: Source, tasks: list[bytes], taken: Done) -> Taken:
        """Take spans; meanwhile what was written is synchronised, so that not all of it waits for the end."""
        told = 0

        def tell(spans: int) -> None:
            nonlocal told
            if spans > told:
                taken((spans - told) * SPAN)
                syncing.written((spans - told) * SPAN)
                told = spans

        with Syncing(self._writer, SYNC, apart=len(tasks) >= WORTH) as syncing:
            outcome = take_spans(source, self._writer.descriptor, self._hashes, tasks, self._writer.write_at, tell)
        for span, state in enumerate(outcome.states):
            if state == TAKEN:
                self._state[span] = _THERE
        return outcome

    def _how(self, span: int) -> int:
        return SOILED if self._state[span] == _SOILED else PLAIN

    def _share(self, span: int, descriptor: int, start: int) -> bool:
        """Let a span share bytes with another file; whether it does. What it shares is not looked at yet."""
        if self._shares:
            try:
                effects.clone(descriptor, start, SPAN, self._writer.descriptor, span * SPAN)
            except OSError:
                # Another file system, or one that cannot: so it stays for the rest of the file.
                self._shares = False
        return self._shares

    def _right(self, span: int) -> bool:
        data = os.pread(self._writer.descriptor, self._size(span), span * SPAN)
        return len(data) == self._size(span) and HashedSpan(data).hash == self._hash(span)

    def _skip_zeros(self) -> None:
        """Spans of zeros are holes already, unless something else was left there."""
        zeros = HashedSpan(bytes(SPAN)).hash
        for span, state in enumerate(self._state):
            if state == _MISSING and self._hash(span) == zeros and self._size(span) == SPAN:
                self._state[span] = _THERE

    def _hash(self, span: int) -> bytes:
        return self._hashes[span * _HASH : (span + 1) * _HASH]

    def _size(self, span: int) -> int:
        return min(SPAN, self._length - span * SPAN)


def _nobody(_: int) -> None:
    """Nobody is told."""


def _filled(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each part of ``data`` that is not zeros, in whole blocks."""
    begun = None
    for start in range(0, len(data), BLOCK):
        empty = data.startswith(_ZEROS[: len(data) - start], start)
        if empty and begun is not None:
            yield begun, start
            begun = None
        elif not empty and begun is None:
            begun = start
    if begun is not None:
        yield begun, len(data)
