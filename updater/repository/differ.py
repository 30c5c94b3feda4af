# SPDX-License-Identifier: Apache-2.0
"""What an artifact has in common with another one, block by block. Pure: hashes of blocks in, runs out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from content.fsverity import BLOCK, hash_blocks
from updater.delta import GROUP, LITERAL, ZEROS, Run

HASH = 32
ZERO_LEAF = hash_blocks(bytes(BLOCK))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one artifact comes out of another.

    Attributes:
        runs: where each block comes from.
        literals: numbers of the blocks that the base does not have.
        gone: numbers of the base's blocks that are not in the new artifact.
    """

    runs: tuple[Run, ...]
    literals: tuple[int, ...]
    gone: tuple[int, ...]


def compare(new: bytes, base: bytes) -> Difference:
    """Compare two artifacts by the hashes of their blocks (leaves), one after another."""
    places: dict[bytes, int] = {}
    for number, leaf in _leaves(base):
        places.setdefault(leaf, number)
    runs: list[Run] = []
    literals: list[int] = []
    following = 0
    for number, leaf in _leaves(new):
        source = _source(leaf, number, following, base, places)
        if source == LITERAL:
            literals.append(number)
        elif source != ZEROS:
            following = source + 1
        _extend(runs, source)
    there = {leaf for _, leaf in _leaves(new)}
    gone = tuple(number for number, leaf in _leaves(base) if leaf not in there)
    return Difference(runs=tuple(runs), literals=tuple(literals), gone=gone)


def groups(difference: Difference) -> Iterator[tuple[Sequence[int], tuple[Run, ...]]]:
    """The literals in groups, each with the gone blocks of the base that lie about as far into it as they do."""
    literals, gone = difference.literals, difference.gone
    for start in range(0, len(literals), GROUP):
        part = literals[start : start + GROUP]
        middle = (start + len(part) // 2) * len(gone) // len(literals)
        first = max(0, min(middle - GROUP // 2, len(gone) - GROUP))
        yield part, joined(gone[first : first + GROUP])


def joined(numbers: Iterable[int]) -> tuple[Run, ...]:
    """Ascending numbers as runs."""
    runs: list[Run] = []
    for number in numbers:
        _extend(runs, number)
    return tuple(runs)


def _source(leaf: bytes, number: int, following: int, base: bytes, places: dict[bytes, int]) -> int:
    """Where a block comes from: after the one before it if that fits, else from the same place, else from anywhere."""
    if leaf == ZERO_LEAF:
        return ZEROS
    for guess in (following, number):
        if base[guess * HASH : (guess + 1) * HASH] == leaf:
            return guess
    return places.get(leaf, LITERAL)


def _extend(runs: list[Run], source: int) -> None:
    if runs:
        last = runs[-1]
        marked = source in (LITERAL, ZEROS)
        if source == (last.source if marked else last.source + last.count) and (marked or last.source < ZEROS):
            runs[-1] = Run(count=last.count + 1, source=last.source)
            return
    runs.append(Run(count=1, source=source))


def _leaves(hashes: bytes) -> Iterator[tuple[int, bytes]]:
    return ((start // HASH, hashes[start : start + HASH]) for start in range(0, len(hashes), HASH))
