# SPDX-License-Identifier: Apache-2.0
"""A look-up in one repository, and what it teaches: the floor's time and root rise, and nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from keys.anchor import TrustAnchor
from updater.client.floor import Witness, load_floor, raised, save_floor
from updater.client.metadata import refresh
from updater.client.offer import Offer
from updater.client.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A repository as a host follows it.

    Attributes:
        anchor: where trust starts.
        tuf: where its TUF metadata is kept.
        floor: of its versions and time.
        witness: see ``updater.client.floor``.
        host: name of this host in its fleet, whose assignment it follows; empty for one that follows none.
    """

    anchor: TrustAnchor
    tuf: Path
    floor: Path
    witness: Witness = lambda: None
    host: str = ""


def look_up(followed: Followed, source: Source, channels: Sequence[str], *, now: int, allow_stale: int) -> Offer:
    """What a repository offers now.

    Args:
        followed: see there.
        source: the repository.
        channels: that this host follows of it.
        now: seconds since 1970 UTC.
        allow_stale: see ``updater.client.metadata.refresh``.

    Raises:
        UpdaterError: see ``updater.client.metadata.refresh``.
        DocumentError: a release or the floor is malformed.
        ContentError: state could not be read or written.
    """
    anchor = followed.anchor
    least = load_floor(followed.floor, anchor, followed.witness)
    offer = refresh(
        followed.tuf, anchor, source, channels, now=now, floor=least, host=followed.host, allow_stale=allow_stale
    )
    # Read again: the look-up took its time, and a floor that rose meanwhile must not sink.
    floor = load_floor(followed.floor, anchor)
    changed = raised(floor, time=offer.time, root=offer.root, releases=dict(least.releases))
    if offer.recovered:
        changed = replace(changed, time=offer.time)
    if changed != floor:
        save_floor(followed.floor, changed)
    return offer
