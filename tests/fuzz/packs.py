# SPDX-License-Identifier: Apache-2.0
"""Seeds of packs and deltas, and what holds for whatever they were made into. One small artifact out of another."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from content.fsverity import BLOCK, SPAN, HashedSpan, digest_bytes, hash_blocks
from lab import deltas as lab_deltas
from updater.compression import BEST, LEVEL, compressed, decompressed
from updater.delta import LITERAL, WINDOW_LOG, ZEROS, Group, Plan, Run
from updater.pack import BLOCKS_IN_SPAN, FRAME, FRAMES_IN_SPAN, WEAK, Head, Offer, SpanRecord

_LENGTH = struct.Struct("<I")
_TABLES_AT = 16 + 12
"""Where the tables begin in the head of a delta."""


def _blocks(count: int, seed: int) -> list[bytes]:
    """Blocks that compress to next to nothing, so that a whole delta is a small seed."""
    dice = random.Random(seed)
    return [dice.randbytes(32) * (BLOCK // 32) for _ in range(count)]


def _base() -> bytes:
    blocks = _blocks(2 * BLOCKS_IN_SPAN + 30, 1)
    blocks[60:90] = [bytes(BLOCK)] * 30
    return b"".join(blocks)[:-1000]


def _new(base: bytes) -> bytes:
    """Blocks are put in, exchanged and patched; the end is not whole."""
    changed = bytearray(base[: 9 * BLOCK] + b"".join(_blocks(3, 2)) + base[9 * BLOCK :])
    for number, block in zip((20, 200, 201), _blocks(3, 3), strict=True):
        changed[number * BLOCK : (number + 1) * BLOCK] = block
    for number in (1, 40, 150):
        changed[number * BLOCK + 17 : number * BLOCK + 21] = b"new!"
    return bytes(changed)


BASE = _base()
NEW = _new(BASE)
DIGEST = digest_bytes(NEW)
HASHES = [HashedSpan(NEW[start : start + SPAN]).hash for start in range(0, len(NEW), SPAN)]


def heads() -> list[bytes]:
    """Heads of the pack, with and without deltas."""
    offers = tuple(Offer(base=f"{number:064x}", head=number, length=10 * number) for number in (1, 2, 2**31))
    return [Head(length=len(NEW), offers=found, hashes=b"".join(HASHES)).encode() for found in ((), offers[:1], offers)]


def check_head(folder: Path, untrusted: bytes) -> None:
    """Whatever was said of deltas, the hashes are the right ones."""
    head = Head.parse(untrusted, DIGEST, len(NEW))
    assert head.hashes == b"".join(HASHES)
    assert all(0 < offer.head <= offer.length for offer in head.offers)
    assert Head.parse(head.encode(), DIGEST, len(NEW)) == head


def records() -> list[bytes]:
    """Records of the pack's spans."""
    found = []
    for start in range(0, len(NEW), SPAN):
        leaves = hash_blocks(NEW[start : start + SPAN])
        weak = b"".join(leaves[at : at + WEAK] for at in range(0, len(leaves), 32))
        frames = tuple(100 + number for number in range(FRAMES_IN_SPAN))
        found.append(SpanRecord(offset=start, frames=frames, weak=weak.ljust(WEAK * BLOCKS_IN_SPAN, b"\0")).encode())
    return found


def check_record(folder: Path, untrusted: bytes) -> None:
    """A record says what its bytes say, and every range in it is one that can be asked for."""
    record = SpanRecord.parse(untrusted)
    assert record.encode() == untrusted
    assert all(start >= 0 and length >= 0 for start, length in map(record.range, range(FRAMES_IN_SPAN)))


def frames() -> list[bytes]:
    """One frame of an artifact at each level, and one that grew."""
    grown = random.Random(4).randbytes(FRAME)
    return [compressed(NEW[:FRAME], LEVEL), compressed(NEW[:FRAME], BEST), compressed(grown, LEVEL)]


def check_frame(folder: Path, untrusted: bytes) -> None:
    """What comes out has the size that was said."""
    assert len(decompressed(untrusted, FRAME)) == FRAME


def frames_after() -> list[bytes]:
    """A frame behind bytes that the reader has."""
    return [compressed(NEW[:FRAME], BEST, prefix=BASE[:SPAN], window_log=WINDOW_LOG)]


def check_frame_after(folder: Path, untrusted: bytes) -> None:
    """The same with a prefix, and the large window of a delta."""
    assert len(decompressed(untrusted, FRAME, prefix=BASE[:SPAN], window_log=WINDOW_LOG)) == FRAME


def _made() -> list[tuple[bytes, int]]:
    return [lab_deltas.make(NEW, BASE), lab_deltas.make(NEW, b"")]


def deltas() -> list[bytes]:
    """The length of the head, which the pack says, and a delta: one that needs the base, and one of literals alone."""
    return [_LENGTH.pack(head) + delta for delta, head in _made()]


def check_delta(folder: Path, untrusted: bytes) -> None:
    """All that comes out is spans of the right lengths, and one that has its hash is right."""
    (head,) = _LENGTH.unpack(untrusted[:4].ljust(4, b"\0"))
    _check_spans(untrusted[4:], head)


def tables() -> list[bytes]:
    """Deltas whose tables are not compressed yet, so that what is changed in them comes through."""
    found = []
    for delta, head in _made():
        plan = Plan.parse(delta[:head], len(NEW))
        raw = plan.encode(lambda data: data)
        found.append(_LENGTH.pack(len(raw)) + raw + delta[head:])
    runs = (
        Run(count=100, source=0),
        Run(count=1, source=LITERAL),
        Run(count=-(-len(NEW) // BLOCK) - 101, source=ZEROS),
    )
    group = compressed(NEW[:BLOCK], BEST)
    plan = Plan(runs=runs, groups=(Group(blocks=1, length=len(group), prefix=()),))
    raw = plan.encode(lambda data: data)
    return [*found, _LENGTH.pack(len(raw)) + raw + group]


def check_tables(folder: Path, untrusted: bytes) -> None:
    """The same for a delta whose tables anybody could have written."""
    end = 4 + _LENGTH.unpack(untrusted[:4].ljust(4, b"\0"))[0]
    head = untrusted[4 : 4 + _TABLES_AT] + compressed(untrusted[4 + _TABLES_AT : end], 1)
    _check_spans(head + untrusted[end:], len(head))


def _check_spans(delta: bytes, head: int) -> None:
    for number, data in lab_deltas.spans(delta, head, BASE, len(NEW)):
        right = NEW[number * SPAN : (number + 1) * SPAN]
        assert len(data) == len(right)
        assert data == right or HashedSpan(data).hash != HASHES[number]
