# SPDX-License-Identifier: Apache-2.0
"""From what a repository offers to what this host's next generation could be. Pure.

In this order: what the host's assignment allows, where it follows one; what its place in the waves holds back; then
which releases fit each other and the host (``updater.client.resolve``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from documents.host_state import Generation
from updater.client.assignment import restrict
from updater.client.offer import Offer
from updater.client.resolve import Resolution, resolve
from updater.client.waves import Waiting, waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a lookup found, for the next generation.

    Attributes:
        resolution: which releases, and what was held back.
        stale: the metadata had expired, and the releases or an administrator allow that.
        waiting: releases whose wave has not reached this host; whether they are held back is the caller's choice.
        recovered: the floor's time sank to the clock, see ``updater.client.recovery``.
    """

    resolution: Resolution
    stale: bool
    waiting: tuple[Waiting, ...] = ()
    recovered: bool = False

    def besides_held_back(self, why: str) -> Candidate:
        """The same, with one more reason why not all is taken that there may be."""
        resolution = replace(self.resolution, held_back=(*self.resolution.held_back, why))
        return replace(self, resolution=resolution)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What of a host decides.

    Attributes:
        active: its generation now.
        channels: that it follows.
        refused: digests of release documents that have failed on it.
        agent: version of its vmgate.
        place: its place in the waves; None where they do not matter, as with a bundle.
        wait: hold back what the waves have not brought to that place yet.
    """

    active: Generation | None
    channels: Sequence[str]
    refused: Collection[str]
    agent: str
    place: int | None = None
    wait: bool = False


def choose_candidate(offer: Offer, host: Situation) -> Candidate:
    """What an offer means for a host.

    Raises:
        UpdaterError: see ``updater.client.resolve.resolve``.
        DocumentError: a release is malformed.
    """
    offered, held_back = offer.releases, tuple[str, ...]()
    if offer.assignment is not None:
        offered, held_back = restrict(offer.assignment, host.channels, offered, offer.newest, host.active)
    offered = {**offered, **offer.besides}
    later: tuple[Waiting, ...] = ()
    if host.place is not None and host.active is not None:
        later = waiting(offered, offer.published, host.active.releases, host.place, offer.time)
    resolution = resolve(
        offered,
        host.active,
        refused=host.refused,
        agent=host.agent,
        waiting={release.channel for release in later} if host.wait else (),
    )
    resolution = replace(resolution, held_back=(*held_back, *resolution.held_back))
    return Candidate(resolution=resolution, stale=offer.stale, waiting=later, recovered=offer.recovered)
