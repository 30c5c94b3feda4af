# SPDX-License-Identifier: Apache-2.0
"""Spans of one file that are taken over into another by processes on all cores, each verified before it is written.

Nothing is durable afterwards. This module does not know where the right hashes come from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from content.hash_worker import BLOCK, DIGEST, TAKEN, TASK, UNTOUCHED, WEAK, Taking, hash_blocks, hash_named, take_units
from content.worker_pool import with_others

_LOOK_EVERY = 16
"""Spans of the starter's own between two looks at what the others did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of it.

    Attributes:
        states: a byte for each span of the target, see ``content.hash_worker.UNTOUCHED``.
        weak: the first bytes of the hash of each block of the source, as far as that was asked for; those of a block
            of zeros where no task was or nothing could be read.
    """

    states: bytes
    weak: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that spans are taken from: descriptor, bytes, and how many of its blocks' hashes are noted."""

    descriptor: int
    length: int
    indexed: int = 0


def take_spans(
    source: Source,
    target: int,
    hashes: bytes,
    tasks: Sequence[bytes],
    write: Callable[[memoryview, int], object],
    told: Callable[[int], object],
) -> Taken:
    """Take spans over.

    Args:
        source: what from.
        target: descriptor of the file where they go.
        hashes: that its spans must have, one after another.
        tasks: see ``content.hash_worker.TASK``.
        write: writes bytes at an offset of the target.
        told: called now and then with how many spans of the target were taken by now.

    Raises:
        Exception: what ``write`` and ``told`` raise.
    """
    with ExitStack() as stack:
        given, states, weak = (_memory(stack) for _ in range(3))
        os.pwrite(given, hashes, 0)
        os.pwrite(states, bytes((UNTOUCHED,)) * (len(hashes) // DIGEST), 0)
        os.pwrite(weak, hash_blocks(bytes(BLOCK), hash_named("sha256"))[:WEAK] * source.indexed, 0)
        taking = Taking(source.descriptor, source.length, given, states, weak, source.indexed)

        def own(some: Iterator[bytes]) -> None:
            for count, _ in enumerate(take_units(taking, some, write), 1):
                if count % _LOOK_EVERY == 0:
                    told(_read(states).count(TAKEN))

        words = ["take", *(str(word) for word in (target, os.getpid(), *taking))]
        descriptors = (target, source.descriptor, given, states, weak)
        if not with_others(words, descriptors, tasks, own):
            # Whoever failed left its task as it was, and here it is told why.
            done = _read(states)
            own(task for task in tasks if _undone(task, done))
        told(_read(states).count(TAKEN))
        return Taken(states=_read(states), weak=_read(weak))


def _undone(task: bytes, states: bytes) -> bool:
    number: int = TASK.unpack(task)[1]
    return number >= len(states) or states[number] == UNTOUCHED


def _memory(stack: ExitStack) -> int:
    descriptor = os.memfd_create("vmgate-spans", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _read(memory: int) -> bytes:
    return os.pread(memory, os.fstat(memory).st_size, 0)
