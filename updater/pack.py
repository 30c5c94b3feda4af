# SPDX-License-Identifier: Apache-2.0
"""Packs: an artifact once more, compressed and cut so that a host fetches only what it lacks. Pure; opens nothing.

A pack is a folder of a repository. Nothing in it is signed and nothing need be: the hashes in ``head`` lead to the
signed fs-verity digest, and with them each span (512 KiB) is checked before it is written.

- ``head``: magic; the deltas on offer; the hash of each span.
- ``spans``: for each span where its frames lie, and the first four bytes of each block's hash. With them a host *finds*
  blocks that it has already, wherever they lie; whether they were the right ones, the span's hash decides.
- ``frames``: 64 KiB each, compressed alone (zstd, RFC 8878). Frames of zeros only have no bytes.
- ``from-<digest>``: a delta against another artifact, see ``updater.delta``.

All numbers are little endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from content.fsverity import BLOCK, SPAN, digest_spans
from documents.release import MAX_LENGTH
from updater.errors import PackMalformed

HEAD, SPANS, FRAMES = "head", "spans", "frames"
"""The parts of a pack, besides its deltas."""

SMALLEST = 1024 * 1024
"""Bytes from which on an artifact has a pack. Below, nothing is gained by it."""

FRAME = 16 * BLOCK
FRAMES_IN_SPAN = SPAN // FRAME
MOST_OF_FRAME = FRAME + 1024
"""Bytes of a compressed frame: what does not shrink grows a little."""

BLOCKS_IN_SPAN = SPAN // BLOCK
WEAK = 4
"""Bytes of a block's hash that are enough to find it. One block in 15,000 of a 1 GiB base is found wrongly."""

MOST_DELTAS = 32
MOST_OF_DELTA = 2**32

_MAGIC = b"vmgate-pack\0\0\0\0\1"
_COUNT = struct.Struct("<I")
_OFFER = struct.Struct("<32sIQ")
_HASH = 32
_RECORD = struct.Struct(f"<Q{FRAMES_IN_SPAN}I{WEAK * BLOCKS_IN_SPAN}s")
RECORD = _RECORD.size
"""Bytes of ``spans`` for each span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A delta that the pack has.

    Attributes:
        base: fs-verity digest of the artifact that it needs.
        head: bytes of the delta's head, which comes first in it.
        length: bytes of the delta.
    """

    base: str
    head: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a pack begins with.

    Attributes:
        length: bytes of the artifact.
        offers: its deltas; a hint for whom they may help.
        hashes: of each span, one after another.
    """

    length: int
    offers: tuple[Offer, ...]
    hashes: bytes

    @property
    def spans(self) -> int:
        """How many spans there are."""
        return len(self.hashes) // _HASH

    def hash(self, span: int) -> bytes:
        """The hash of one span."""
        return self.hashes[span * _HASH : (span + 1) * _HASH]

    def encode(self) -> bytes:
        """The bytes of ``head``."""
        offers = (_OFFER.pack(bytes.fromhex(offer.base), offer.head, offer.length) for offer in self.offers)
        return b"".join((_MAGIC, _COUNT.pack(len(self.offers)), *offers, self.hashes))

    @classmethod
    def parse(cls, untrusted: bytes, fsverity: str, length: int) -> Self:
        """Read a head. Its hashes are true afterwards: they lead to the signed digest.

        Args:
            untrusted: its bytes, at most ``head_limit(length)``.
            fsverity: the artifact's signed digest.
            length: the artifact's signed length.

        Raises:
            PackMalformed: no head, or that of another artifact.
        """
        start = len(_MAGIC) + _COUNT.size
        if len(untrusted) < start or not untrusted.startswith(_MAGIC) or len(untrusted) > head_limit(length):
            raise malformed("it does not begin as a pack does")
        (count,) = _COUNT.unpack_from(untrusted, len(_MAGIC))
        end = start + count * _OFFER.size
        if count > MOST_DELTAS or len(untrusted) < end:
            raise malformed("its list of deltas is cut off or too long")
        hashes = bytes(untrusted[end:])
        try:
            if digest_spans(hashes, length) != fsverity:
                raise malformed("its hashes are those of another artifact")
        except ValueError as error:
            raise malformed(str(error)) from error
        offers = tuple(
            Offer(base=base.hex(), head=head, length=whole)
            for base, head, whole in _OFFER.iter_unpack(untrusted[start:end])
            if 0 < head <= whole <= MOST_OF_DELTA
        )
        return cls(length=length, offers=offers, hashes=hashes)


def head_limit(length: int) -> int:
    """The most bytes that the head of an artifact of ``length`` bytes can have."""
    return len(_MAGIC) + _COUNT.size + MOST_DELTAS * _OFFER.size + -(-length // SPAN) * _HASH


def span_length(span: int, length: int) -> int:
    """Bytes of a span in a file of ``length`` bytes: all but the last have ``SPAN``."""
    return min(SPAN, length - span * SPAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """Where the bytes of one span lie, and how its blocks are found elsewhere.

    Attributes:
        offset: where its first frame begins in ``frames``.
        frames: bytes of each of its frames, ``FRAMES_IN_SPAN``; 0 where all is zeros, or beyond the end.
        weak: ``WEAK`` bytes of each block's hash; zeros beyond the end.
    """

    offset: int
    frames: tuple[int, ...]
    weak: bytes

    def encode(self) -> bytes:
        """The bytes of the record."""
        return _RECORD.pack(self.offset, *self.frames, self.weak)

    @classmethod
    def parse(cls, untrusted: bytes) -> Self:
        """Read a record.

        Raises:
            PackMalformed: not a record, or beyond the bounds.
        """
        if len(untrusted) != RECORD:
            raise malformed("a span's record is cut off")
        offset, *frames, weak = _RECORD.unpack(untrusted)
        if offset > MAX_LENGTH or any(frame > MOST_OF_FRAME for frame in frames):
            raise malformed("a span's record is beyond the bounds")
        return cls(offset=offset, frames=tuple(frames), weak=weak)

    def range(self, frame: int) -> tuple[int, int]:
        """Offset and bytes of one of its frames."""
        return self.offset + sum(self.frames[:frame]), self.frames[frame]


def malformed(why: str) -> PackMalformed:
    """The error for a part of a pack that is not what its format says."""
    return PackMalformed("a pack was not used", cause=why, remedy="try another mirror, or ask the publisher")
