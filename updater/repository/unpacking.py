# SPDX-License-Identifier: Apache-2.0
"""Check packs and deltas of a repository on this disk: each must give exactly its artifact. Changes nothing."""

from __future__ import annotations

from pathlib import Path

from content.errors import Missing
from content.fsverity import Measured
from updater.compression import decompressed
from updater.delta import Literals, Plan, build_span
from updater.formats import blob_name, delta_part, pack_name
from updater.pack import FRAME, FRAMES, FRAMES_IN_SPAN, RECORD, SPANS, Head, Offer, SpanRecord, malformed, span_length
from updater.repository.blob import Blob
from updater.repository.packing import has_pack, read_head


def verify_pack(repository: Path, artifact: Measured) -> None:
    """Require that the pack of an intact artifact, if there is one, gives it, and so do its deltas.

    A delta whose base is not in the repository any more cannot be tried; it must be there and well formed.

    Raises:
        PackMalformed: it gives something else.
        ContentError: a part is missing or cannot be read.
    """
    if not has_pack(artifact):
        return
    try:
        head = read_head(repository, artifact)
    except Missing:
        return
    with Blob(repository / blob_name(artifact.fsverity)) as blob:
        verify_frames(repository, artifact, head, blob)
        for offer in head.offers:
            verify_delta(repository, artifact, offer, blob)


def verify_frames(repository: Path, artifact: Measured, head: Head, blob: Blob) -> None:
    """Require that a pack's frames give its artifact.

    Raises:
        PackMalformed: they give something else.
        ContentError: a part is missing or cannot be read.
    """
    with (
        Blob(repository / pack_name(artifact.fsverity, SPANS)) as spans,
        Blob(repository / pack_name(artifact.fsverity, FRAMES)) as frames,
    ):
        for number in range(head.spans):
            record = SpanRecord.parse(spans.part(number * RECORD, RECORD))
            length = span_length(number, artifact.length)
            parts = []
            for frame in range(FRAMES_IN_SPAN):
                size = max(0, min(FRAME, length - frame * FRAME))
                packed = frames.part(*record.range(frame))
                parts.append(decompressed(packed, size) if packed else bytes(size))
            if b"".join(parts) != blob.span(number):
                raise malformed(f"span {number} in the pack of {artifact.fsverity} is another one")


def verify_delta(repository: Path, artifact: Measured, offer: Offer, blob: Blob) -> None:
    """Require that a delta gives its artifact; without its base, that it is well formed.

    Raises:
        PackMalformed: it gives something else.
        ContentError: it is missing or cannot be read.
    """
    with Blob(repository / pack_name(artifact.fsverity, delta_part(offer.base))) as delta:
        if delta.length != offer.length:
            raise malformed(f"the delta from {offer.base} has not the length that its pack says")
        plan = Plan.parse(delta.part(0, offer.head), artifact.length)
        try:
            base = Blob(repository / blob_name(offer.base))
        except Missing:
            return
        with base:
            literals = Literals(plan, offer.head, base.read, delta.part)
            for number, pieces in plan.spans():
                if build_span(number, pieces, artifact.length, base.read, literals) != blob.span(number):
                    raise malformed(f"the delta from {offer.base} to {artifact.fsverity} gives something else")
