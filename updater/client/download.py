# SPDX-License-Identifier: Apache-2.0
"""Fetch the artifacts of releases into the content store. A broken transfer goes on where it stopped.

What comes is untrusted until the store has hashed it as a whole; only then does it get its name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial

from content.errors import ContentError, DigestMismatch
from content.store import ContentStore, Incoming
from documents.release import Artifact
from updater.client.source import Reply, Source
from updater.errors import Unreachable
from updater.formats import blob_name

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

ATTEMPTS = 5
"""How often a transfer that breaks off is taken up again, as long as it gets further."""


def fetch_artifacts(
    source: Source, store: ContentStore, artifacts: Iterable[Artifact], progress: Progress | None = None
) -> None:
    """Fetch what the store does not have intact.

    Raises:
        DigestMismatch: what came is not what was signed; it was thrown away.
        UpdaterError: the source failed, see ``Source.open``; what came so far is kept.
        StorageFull: no room.
        ContentError: the store cannot be read or written.
    """
    wanted = {artifact.fsverity: artifact.length for artifact in artifacts}
    total = sum(wanted.values())
    done = 0
    for fsverity, length in wanted.items():
        if not _intact(store, fsverity, length):
            _fetch(source, store, fsverity, length, partial(_tell, progress, total, done))
        done += length
        _tell(progress, total, done, 0)


def _tell(progress: Progress | None, total: int, done: int, part: int) -> None:
    if progress is not None:
        progress(done + part, total)


def _intact(store: ContentStore, fsverity: str, length: int) -> bool:
    """Whether it need not be fetched; a damaged file is replaced by fetching it anew."""
    if not store.contains(fsverity, length):
        return False
    try:
        store.verify(fsverity, length)
    except ContentError:
        return False
    return True


def _fetch(source: Source, store: ContentStore, fsverity: str, length: int, progress: Callable[[int], None]) -> None:
    name = blob_name(fsverity)
    for attempt in itertools.count(1):
        with store.receive(fsverity, length) as incoming:
            began = incoming.offset
            reject: Callable[[], bool] = bool
            try:
                if began < length:
                    with source.open(name, began) as reply:
                        reject = reply.reject
                        _receive(reply, incoming, name, length, progress)
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
