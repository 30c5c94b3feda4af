# SPDX-License-Identifier: Apache-2.0
"""Fetch the artifacts of releases into the content store. A broken transfer goes on where it stopped.

Large ones are put together from what the host has and what the repository's packs bring (``updater.client.assemble``);
small ones, and those without a pack, come as a whole. What comes is untrusted until its hash was compared; only a whole
and right artifact gets its name in the store.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from content.errors import ContentError, DigestMismatch
from content.fsverity import Measured
from content.store import ContentStore, Incoming
from documents.release import Artifact
from updater.client.assemble import ATTEMPTS, assemble, read_head
from updater.client.source import Reply, Source
from updater.errors import BundleMalformed, NotOffered, PackMalformed, Unreachable
from updater.formats import blob_name

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, from several threads, one at a time."""

MOST_BASES = 4
"""How many artifacts of the host are considered for each new one."""


def fetch_artifacts(
    source: Source,
    store: ContentStore,
    artifacts: Iterable[Artifact],
    progress: Progress | None = None,
    held: Sequence[Artifact] = (),
) -> None:
    """Fetch what the store does not have intact.

    Args:
        source: the repository.
        store: where they go.
        artifacts: which ones.
        progress: told how far it is.
        held: artifacts that the store may have, which new ones may resemble; the newest first.

    Raises:
        DigestMismatch: what came is not what was signed; it was thrown away.
        UpdaterError: the source failed, see ``Source.open``; what came so far is kept.
        StorageFull: no room.
        ContentError: the store cannot be read or written.
    """
    wanted = {artifact.fsverity: artifact for artifact in artifacts}
    meter = _Meter(progress, sum(artifact.length for artifact in wanted.values()))
    for artifact in wanted.values():
        measured = Measured(fsverity=artifact.fsverity, length=artifact.length)
        if not _intact(store, measured):
            with _complete(source, artifact):
                head = read_head(source, measured)
                if head is not None:
                    assemble(source, store, measured, head, _likest(artifact, held, store), meter.add)
                else:
                    _fetch(source, store, measured, meter.at_least)
        meter.finish(artifact.length)


@contextmanager
def _complete(source: Source, artifact: Artifact) -> Iterator[None]:
    """What a bundle lacks it left out for another host; what is wrong in it another copy mends, and no other server."""
    try:
        yield
    except PackMalformed as error:
        if not source.offline:
            raise
        raise BundleMalformed(
            "the bundle was refused",
            cause=f"{artifact.name}: {error.cause}",
            remedy="copy it again, or get another one",
        ) from error
    except NotOffered as error:
        if not source.offline:
            raise
        raise NotOffered(
            "the bundle was refused",
            cause=f"neither it nor this host has all of {artifact.name}: it was made for another host, or is damaged",
            remedy="give the publisher this host's `vmgate status --save FILE` for `vmgate bundle create --for FILE`",
        ) from error


class _Meter:
    """Adds up progress. Bytes that are fetched twice count once: an artifact never counts for more than it has."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._finished = 0
        self._part = 0
        self._lock = threading.Lock()

    def add(self, length: int) -> None:
        """So many more bytes of the artifact are there."""
        with self._lock:
            self._part += length
            self._tell()

    def at_least(self, length: int) -> None:
        """So many bytes of the artifact are there."""
        with self._lock:
            self._part = length
            self._tell()

    def finish(self, length: int) -> None:
        """The artifact is there."""
        with self._lock:
            self._finished, self._part = self._finished + length, 0
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(min(self._finished + self._part, self._total), self._total)


def _likest(artifact: Artifact, held: Sequence[Artifact], store: ContentStore) -> list[Measured]:
    """What the store has of the same name, then of the same kind; newest first."""
    kin = [other for other in held if other.kind == artifact.kind and store.contains(other.fsverity, other.length)]
    kin.sort(key=lambda other: other.name != artifact.name)
    return list(dict.fromkeys(Measured(fsverity=other.fsverity, length=other.length) for other in kin))[:MOST_BASES]


def _intact(store: ContentStore, measured: Measured) -> bool:
    """Whether it need not be fetched; a damaged file is replaced by fetching it anew."""
    if not store.contains(measured.fsverity, measured.length):
        return False
    try:
        store.verify(measured.fsverity, measured.length)
    except ContentError:
        return False
    return True


def _fetch(source: Source, store: ContentStore, measured: Measured, progress: Callable[[int], None]) -> None:
    name = blob_name(measured.fsverity)
    for attempt in itertools.count(1):
        with store.receive(measured.fsverity, measured.length) as incoming:
            began = incoming.offset
            reject: Callable[[], bool] = bool
            try:
                if began < measured.length:
                    with source.open(name, began) as reply:
                        reject = reply.reject
                        _receive(reply, incoming, name, measured.length, progress)
                incoming.commit()
                return
            except DigestMismatch:
                # The beginning may be what another source left. It was thrown away, so now all comes from this one.
                if began == 0 and not reject():
                    raise
            except Unreachable:
                if incoming.offset == began or attempt == ATTEMPTS:
                    raise


def _receive(reply: Reply, incoming: Incoming, name: str, length: int, progress: Callable[[int], None]) -> None:
    if reply.start != incoming.offset:
        incoming.restart()
    for untrusted_chunk in reply.untrusted_chunks:
        incoming.write(untrusted_chunk)
        progress(incoming.offset)
    if incoming.offset < length:
        raise Unreachable(
            "a file was not fetched",
            cause=f"{name}: it broke off after {incoming.offset} of {length} bytes",
            remedy="try again: it goes on from there",
        )
