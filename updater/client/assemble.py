# SPDX-License-Identifier: Apache-2.0
"""Put a large artifact together from what this host has and as little as possible of what a repository has.

1. The pack's head: its span hashes must lead to the signed digest. From here on each span is checked alone.
2. Spans that an earlier, interrupted transfer left, if they verify.
3. A delta, where the publisher made one against an artifact that this host has; of such artifacts that it is likest to.
4. Else the spans of the likest artifact that stand in the same place, and its blocks wherever they lie.
5. The frames of the pack for all the rest; or the whole artifact, where a server knows no ranges.

Nothing that comes by 3, 4 or 5 is trusted: a span with another hash is not written.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence

from content.assembly import Assembly
from content.fsverity import BLOCK, SPAN, HashedSpan, Measured
from content.store import ContentStore
from updater.client.frames import FrameFetcher
from updater.client.held import HeldArtifact
from updater.client.ranges import read_range, rejecting
from updater.client.source import Source
from updater.client.workers import in_threads
from updater.delta import MOST_OF_HEAD, Literals, Plan, build_span
from updater.errors import NotOffered, NotRanged, PackMalformed, TimedOut, Unreachable
from updater.formats import blob_name, delta_part, pack_name
from updater.pack import HEAD, SMALLEST, Head, Offer, head_limit, malformed, span_length

Done = Callable[[int], None]
"""Called with bytes that are there now, from several threads."""

ATTEMPTS = 5
"""How often a transfer that breaks off, or a mirror that hands out wrong bytes, is followed by another try."""

MOST_MISSES = 16
"""So many wrong spans of a delta may be rot of its base; with more, the rest of it is not worth fetching."""


def read_head(source: Source, artifact: Measured) -> Head | None:
    """The head of an artifact's pack; nothing if the source has none that fits.

    Raises:
        UpdaterError: the source failed.
    """
    if artifact.length < SMALLEST:
        return None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _read_head(source, artifact)
        except NotOffered:
            return None
        except PackMalformed as error:
            if not error.another:
                return None
        except Unreachable as error:
            if attempt == ATTEMPTS or not error.another:
                raise
    return None


def _read_head(source: Source, artifact: Measured) -> Head:
    with source.open(pack_name(artifact.fsverity, HEAD)) as reply:
        untrusted = bytearray()
        for untrusted_chunk in reply.untrusted_chunks:
            untrusted += untrusted_chunk
            if len(untrusted) > head_limit(artifact.length):
                break
        with rejecting(reply.reject):
            return Head.parse(bytes(untrusted), artifact.fsverity, artifact.length)


def assemble(
    source: Source, store: ContentStore, artifact: Measured, head: Head, held: Sequence[Measured], done: Done
) -> None:
    """Put an artifact together in the store.

    Args:
        source: the repository.
        store: where it goes.
        artifact: which one.
        head: of its pack.
        held: artifacts of the store that it may resemble, the likest first.
        done: told of progress.

    Raises:
        PackMalformed: the source gives something else than what was signed.
        UpdaterError: the source failed; what came so far is kept.
        StorageFull: no room.
        ContentError: the store cannot be read or written.
    """
    with store.assemble(artifact.fsverity, artifact.length, head.hashes) as assembly:
        done(artifact.length - assembly.absent)
        job = _Job(source, store, artifact, head, assembly, done)
        offer = job.best_offer(held)
        if offer is not None:
            job.apply(*offer)
        job.complete(held[0] if held else None)
        assembly.commit()


class _Job:
    """One artifact's way into the store."""

    def __init__(
        self, source: Source, store: ContentStore, artifact: Measured, head: Head, assembly: Assembly, done: Done
    ) -> None:
        self._source = source
        self._store = store
        self._artifact = artifact
        self._head = head
        self._assembly = assembly
        self._done = done
        self._wrong: PackMalformed | None = None
        self._misses = 0

    def best_offer(self, held: Sequence[Measured]) -> tuple[Offer, Measured] | None:
        """The smallest delta from something held, if it is smaller than what is missing."""
        bases = {measured.fsverity: measured for measured in held}
        absent = self._assembly.absent
        offers = [o for o in self._head.offers if o.base in bases and o.length < absent and o.head <= MOST_OF_HEAD]
        best = min(offers, key=lambda offer: offer.length, default=None)
        return (best, bases[best.base]) if best is not None else None

    def apply(self, offer: Offer, base: Measured) -> None:
        """Take what a delta gives. Where it breaks off or is damaged, or its base is, the pack gives the rest."""
        name = pack_name(self._artifact.fsverity, delta_part(offer.base))

        def group(start: int, length: int) -> bytes:
            if start + length > offer.length:
                raise malformed("a delta is longer than its pack says")
            return read_range(self._source, name, start, length).untrusted

        try:
            first = read_range(self._source, name, 0, offer.head)
            with rejecting(first.reject):
                plan = Plan.parse(first.untrusted, self._artifact.length)
            with HeldArtifact(self._store, base) as opened:
                self._copy(plan, opened)
                literals = Literals(plan, offer.head, opened.read, group)

                def built() -> Iterator[tuple[int, bytes]]:
                    for span, pieces in plan.spans():
                        if self._assembly.wants(span):
                            yield span, build_span(span, pieces, self._artifact.length, opened.read, literals)

                in_threads(lambda span: self._take_built(*span), built(), len(os.sched_getaffinity(0)))
        except PackMalformed as error:
            self._wrong = error
        except (NotOffered, NotRanged, TimedOut, Unreachable):
            return

    def _copy(self, plan: Plan, base: HeldArtifact) -> None:
        """Take the spans that are one piece of the base."""
        whole = (
            (span, pieces[0].start * BLOCK)
            for span, pieces in plan.spans()
            if len(pieces) == 1 and pieces[0].origin == "base"
        )
        self._assembly.copy(base.descriptor, base.measured.length, whole, self._done)

    def complete(self, base: Measured | None) -> None:
        """Take all that is missing from the pack, with the blocks of an artifact that is held."""
        if not self._assembly.absent:
            return
        if base is None:
            self._fetch(None)
            return
        with HeldArtifact(self._store, base) as opened:
            opened.index(self._assembly, self._done)
            self._fetch(opened)

    def _fetch(self, base: HeldArtifact | None) -> None:
        whole = False
        for attempt in itertools.count(1):
            before = self._assembly.absent
            try:
                if whole:
                    self._read_whole()
                else:
                    FrameFetcher(self._source, self._artifact, self._assembly, base, self._done).run()
                return
            except (NotRanged, NotOffered):
                if whole and self._wrong is not None:
                    # That something was wrong says more than that nothing else is there.
                    raise self._wrong from None
                if whole:
                    raise
                whole = True
            except Unreachable as error:
                if attempt >= ATTEMPTS or (self._assembly.absent == before and not error.another):
                    raise
            except PackMalformed as error:
                self._wrong = error
                # With another server left, one fewer is asked each time: that ends by itself.
                if whole and not error.another:
                    raise
                # Another server's pack, or the artifact as a whole, in which each span is one server's word.
                whole = whole or not error.another

    def _read_whole(self) -> None:
        """Read the artifact from the first missing span on, or from its beginning, and take what is missing of it."""
        first, untrusted = next(self._assembly.missing()), bytearray()
        start = first * SPAN
        with self._source.open(blob_name(self._artifact.fsverity), start, self._artifact.length - start) as reply:
            number = first if reply.start == start else 0
            for untrusted_chunk in reply.untrusted_chunks:
                untrusted += untrusted_chunk
                while number < self._head.spans and len(untrusted) >= self._size(number):
                    if not self._take(number, bytes(untrusted[: self._size(number)])):
                        with rejecting(reply.reject):
                            raise malformed(f"span {number} of {self._artifact.fsverity} is not what was signed")
                    del untrusted[: self._size(number)]
                    number += 1
        if number < self._head.spans:
            raise Unreachable(
                "a file was not fetched",
                cause=f"{blob_name(self._artifact.fsverity)}: it broke off in span {number} of {self._head.spans}",
                remedy="try again: what came is kept",
            )

    def _take(self, number: int, untrusted: bytes) -> bool:
        """Take a span unless it is there; whether it is there now."""
        if self._assembly.wants(number):
            if not self._assembly.take(number, HashedSpan(untrusted)):
                return False
            self._done(len(untrusted))
        return True

    def _take_built(self, number: int, untrusted: bytes) -> None:
        if not self._take(number, untrusted):
            self._misses += 1
            self._wrong = malformed("a delta, or the artifact that it is taken from, is not what was signed")
            if self._misses > MOST_MISSES:
                raise self._wrong

    def _size(self, number: int) -> int:
        return span_length(number, self._artifact.length)
