# SPDX-License-Identifier: Apache-2.0
"""Deltas in memory: made as the publisher makes them, and applied as a host applies them. Checks no span's hash."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from content.fsverity import BLOCK, hash_blocks
from updater.compression import BEST, compressed
from updater.delta import Group, Literals, Plan, ReadBase, build_span, padded, prefix_bytes
from updater.errors import PackMalformed
from updater.repository.differ import compare, groups

PACK = partial(compressed, level=BEST)


def reader(data: bytes) -> ReadBase:
    """Reads blocks of an artifact in memory."""
    return lambda block, count: data[block * BLOCK : (block + count) * BLOCK]


def make(new: bytes, base: bytes) -> tuple[bytes, int]:
    """A delta, and the length of its head."""
    difference = compare(hash_blocks(new), hash_blocks(base))
    made, body = [], b""
    for numbers, prefix in groups(difference):
        literals = b"".join(padded(reader(new)(number, 1), 1) for number in numbers)
        group = compressed(literals, BEST, prefix=prefix_bytes(prefix, reader(base)), window_log=25)
        made.append(Group(blocks=len(numbers), length=len(group), prefix=prefix))
        body += group
    head = Plan(runs=difference.runs, groups=tuple(made)).encode(PACK)
    return head + body, len(head)


def spans(delta: bytes, head: int, base: bytes, length: int) -> Iterator[tuple[int, bytes]]:
    """The spans that come out of a delta, right or wrong.

    Raises:
        PackMalformed: it is no delta, or shorter than it says.
    """
    plan = Plan.parse(delta[:head], length)

    def read(start: int, count: int) -> bytes:
        if start + count > len(delta):
            raise PackMalformed("a delta was not read", cause="it is cut off", remedy="none")
        return delta[start : start + count]

    literals = Literals(plan, head, reader(base), read)
    for number, pieces in plan.spans():
        yield number, build_span(number, pieces, length, reader(base), literals)


def apply(delta: bytes, head: int, base: bytes, length: int) -> bytes:
    """The whole artifact that comes out of a delta."""
    return b"".join(data for _, data in spans(delta, head, base, length))
