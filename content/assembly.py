# SPDX-License-Identifier: Apache-2.0
"""A large file of the store that is put together from spans, in any order and by several threads.

Each span (512 KiB) is hashed before it is written, so that nothing unverified ever stands in the file and its digest is
proven when no span is missing. What an earlier process left is hashed too: only spans that verify are kept. Blocks of
zeros become holes. This module does not know where the bytes come from.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from content import durable, effects
from content.errors import DigestMismatch, storage
from content.fsverity import BLOCK, SPAN, HashedSpan, Measured, digest_spans
from content.holes import data_ranges

SYNC = 64 * 1024 * 1024
"""Bytes after which what was written is made to survive a power cut."""

_BATCH = 256
"""Spans that are judged before the next ones are begun."""

_HASH = 32
_ZEROS = bytes(BLOCK)

_MISSING, _SOILED, _THERE = range(3)
"""What is known of a span. Where something else stands (soiled), its zeros must be written too."""


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

    def clone(self, span: int, descriptor: int, start: int) -> bool:
        """Take one span by sharing its bytes with another file, if they are the right ones and the file system can.

        What is hashed is what stands in this file afterwards. Threads may take different spans at once.

        Args:
            span: its number; one that is shorter than ``SPAN`` is never shared.
            descriptor: of the other file.
            start: where its bytes begin there, at a block.

        Returns:
            Whether it was taken.

        Raises:
            ContentError: it cannot be read.
        """
        if not self._shares or self._size(span) != SPAN:
            return False
        try:
            effects.clone(descriptor, start, SPAN, self._writer.descriptor, span * SPAN)
        except OSError:
            # Another file system, or one that cannot: so it stays for the rest of the file.
            self._shares = False
            return False
        with storage("the unfinished file was not read", self._writer.partial):
            right = self._right(span)
        self._state[span] = _THERE if right else _SOILED
        return right

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
        with (
            storage("the unfinished file was not read", self._writer.partial),
            ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        ):
            for start, end in data_ranges(self._writer.descriptor, self._writer.offset):
                last = -(-end // SPAN)
                for first in range(start // SPAN, last, _BATCH):
                    spans = range(first, min(first + _BATCH, last))
                    for span, right in zip(spans, pool.map(self._right, spans), strict=True):
                        self._state[span] = _THERE if right else _SOILED

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
