# SPDX-License-Identifier: Apache-2.0
"""Make packs and deltas beside the artifacts of a repository, so that hosts fetch only what they lack.

A pack is complete when its ``head`` is there: it comes last and is replaced as a whole when a delta is added. Nothing
here is signed. See ``updater.pack`` and ``updater.delta`` for the formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from content import durable
from content.errors import Missing
from content.fsverity import BLOCK, SPAN, Measured, hash_blocks
from updater.compression import BEST, LEVEL, compressed
from updater.delta import MOST_OF_HEAD, MOST_RUNS, WINDOW_LOG, Group, Plan, prefix_bytes
from updater.errors import PackMalformed
from updater.formats import blob_name, delta_part, pack_name
from updater.pack import (
    FRAME,
    FRAMES,
    FRAMES_IN_SPAN,
    HEAD,
    MOST_DELTAS,
    SMALLEST,
    SPANS,
    WEAK,
    Head,
    Offer,
    SpanRecord,
    head_limit,
)
from updater.repository.blob import Blob
from updater.repository.chain import FILE_MODE, FOLDER_MODE, write
from updater.repository.differ import HASH, compare, groups

BATCH = 64
"""Spans that are compressed before they are written: 32 MiB."""


def has_pack(artifact: Measured) -> bool:
    """Whether an artifact is large enough for a pack."""
    return artifact.length >= SMALLEST


def make_pack(repository: Path, artifact: Measured) -> Head:
    """Make the pack of an artifact that lies in the repository, unless it is there; a damaged one is made again.

    Raises:
        ContentError: the artifact cannot be read, or the pack not be written.
        ValueError: the artifact is too small.
    """
    if not has_pack(artifact):
        raise ValueError(f"{artifact.length} bytes are not worth a pack")
    try:
        return read_head(repository, artifact)
    except (Missing, PackMalformed):
        pass
    folder = (repository / pack_name(artifact.fsverity, HEAD)).parent
    durable.make_directory(folder, FOLDER_MODE)
    durable.sweep(folder)
    hashes = []
    with (
        Blob(repository / blob_name(artifact.fsverity)) as blob,
        durable.Writer(durable.temporary(folder)) as frames,
        durable.Writer(durable.temporary(folder)) as spans,
    ):
        for packed in _packed(blob, artifact.length):
            lengths = tuple(map(len, packed.frames))
            spans.write(SpanRecord(offset=frames.offset, frames=lengths, weak=packed.weak).encode())
            frames.write(b"".join(packed.frames))
            hashes.append(packed.hash)
        frames.commit(folder / FRAMES, FILE_MODE)
        spans.commit(folder / SPANS, FILE_MODE)
    head = Head(length=artifact.length, offers=(), hashes=b"".join(hashes))
    # Read as a host would: a pack of something else than the artifact is never offered.
    Head.parse(head.encode(), artifact.fsverity, artifact.length)
    write(repository, pack_name(artifact.fsverity, HEAD), head.encode())
    return head


def read_head(repository: Path, artifact: Measured) -> Head:
    """The head of a pack.

    Raises:
        Missing: there is no pack.
        PackMalformed: it is damaged.
        ContentError: it cannot be read.
    """
    path = repository / pack_name(artifact.fsverity, HEAD)
    return Head.parse(durable.read_file(path, head_limit(artifact.length)), artifact.fsverity, artifact.length)


def make_deltas(repository: Path, artifact: Measured, bases: Sequence[Measured]) -> tuple[Offer, ...]:
    """Make deltas to an artifact from others in the repository, and offer them in its pack, which is made too.

    A base is left out when it is the artifact itself, too small, or so different that a delta saves nothing.

    Args:
        repository: its folder.
        artifact: the new one.
        bases: most important first; no more are offered than ``MOST_DELTAS``.

    Returns:
        All deltas that are offered now.

    Raises:
        ContentError: an artifact cannot be read, or a delta not be written.
    """
    head = make_pack(repository, artifact)
    offers = {offer.base: offer for offer in head.offers}
    wanted = [base for base in dict.fromkeys(bases) if base.fsverity not in offers and base != artifact]
    wanted = [base for base in wanted if has_pack(base)][: MOST_DELTAS - len(offers)]
    if not wanted:
        return head.offers
    with Blob(repository / blob_name(artifact.fsverity)) as blob:
        leaves = blob.leaves()
        for base in wanted:
            offer = _make_delta(repository, artifact, blob, leaves, base)
            if offer is not None:
                offers[base.fsverity] = offer
    made = replace(head, offers=tuple(offers.values()))
    if made != head:
        write(repository, pack_name(artifact.fsverity, HEAD), made.encode())
    return made.offers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    frames: tuple[bytes, ...]
    weak: bytes
    hash: bytes


def _packed(blob: Blob, length: int) -> Iterator[_Packed]:
    spans = -(-length // SPAN)
    with ThreadPoolExecutor() as pool:
        for first in range(0, spans, BATCH):
            numbers = range(first, min(first + BATCH, spans))
            yield from pool.map(lambda number: _pack_span(blob.span(number)), numbers)


def _pack_span(data: bytes) -> _Packed:
    leaves = hash_blocks(data)
    frames = [data[start : start + FRAME] for start in range(0, SPAN, FRAME)]
    weak = b"".join(leaves[start : start + WEAK] for start in range(0, len(leaves), HASH))
    return _Packed(
        frames=tuple(compressed(frame, LEVEL) if frame.strip(b"\0") else b"" for frame in frames[:FRAMES_IN_SPAN]),
        weak=weak,
        hash=hash_blocks(leaves),
    )


def _make_delta(repository: Path, artifact: Measured, new: Blob, leaves: bytes, base: Measured) -> Offer | None:
    with Blob(repository / blob_name(base.fsverity)) as old:
        difference = compare(leaves, old.leaves())
        # With half of it new, or in crumbs, the pack serves as well.
        if len(difference.literals) * HASH * 2 > len(leaves) or len(difference.runs) > MOST_RUNS:
            return None
        path = repository / pack_name(artifact.fsverity, delta_part(base.fsverity))
        with durable.Writer(durable.temporary(path.parent)) as body:
            made = []
            for numbers, prefix in groups(difference):
                literals = b"".join(new.read(number, 1).ljust(BLOCK, b"\0") for number in numbers)
                before = prefix_bytes(prefix, old.read)
                group = compressed(literals, BEST, prefix=before, window_log=WINDOW_LOG)
                made.append(Group(blocks=len(numbers), length=len(group), prefix=prefix))
                body.write(group)
            head = Plan(runs=difference.runs, groups=tuple(made)).encode(lambda tables: compressed(tables, BEST))
            if len(head) > MOST_OF_HEAD:
                return None
            body.finish()
            with durable.Writer(durable.temporary(path.parent)) as whole:
                whole.write(head)
                whole.copy(body.partial)
                whole.commit(path, FILE_MODE)
                return Offer(base=base.fsverity, head=len(head), length=whole.offset)
