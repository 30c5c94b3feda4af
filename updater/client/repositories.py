# SPDX-License-Identifier: Apache-2.0
"""The repositories that one host follows: the vendor's, and the site's on top of it where there is one.

Each is asked for itself; what one says raises its own floor alone. What the site may say is ``updater.client.site``'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from documents.host_state import Generation
from documents.release import Release
from updater.client.floor import load_floor, raised, save_floor
from updater.client.lookup import Followed, look_up
from updater.client.metadata import ROOTS
from updater.client.offer import Offer
from updater.client.site import Site, kept, require_within_bounds
from updater.client.source import Source


class Repositories:
    """What a host follows.

    Args:
        vendor: brings the platform, and workloads.
        site: brings workloads; None on a host that follows no site.
    """

    def __init__(self, vendor: Followed, site: Site | None) -> None:
        self._vendor = vendor
        self._channels = frozenset(site.channels) if site else frozenset()
        self._site = Followed(anchor=site.anchor, tuf=site.tuf, floor=site.floor) if site else None

    def offer(
        self,
        source: Source | None,
        channels: Sequence[str],
        active: Generation | None,
        *,
        site: Source | None,
        now: int,
        allow_stale: int,
    ) -> Offer:
        """What is offered by all of them. The arguments and errors are those of ``Update.check``."""
        offer = Offer.of(kept(active, channels))
        if source is not None:
            offer = look_up(self._vendor, source, channels, now=now, allow_stale=allow_stale)
        if self._site is None:
            return offer
        sites = Offer.of(kept(active, self._channels))
        if site is not None:
            sites = look_up(self._site, site, sorted(self._channels), now=now, allow_stale=allow_stale)
        require_within_bounds(sites.releases, (*kept(active, channels).values(), *offer.releases.values()))
        return offer.beside(sites)

    def divided(
        self, releases: Sequence[Release], source: Source | None, site: Source | None
    ) -> Iterator[tuple[Source, list[Release]]]:
        """Releases by where they come from; not those of a repository that is left alone."""
        for origin, ours in ((source, False), (site, True)):
            part = [release for release in releases if (release.channel in self._channels) is ours]
            if origin is not None and part:
                yield origin, part

    def raise_floors(self, releases: Sequence[Release]) -> None:
        """These releases are confirmed: nothing below them is taken any more.

        Raises:
            ContentError: a floor could not be read or written.
        """
        for followed, ours in ((self._vendor, False), (self._site, True)):
            if followed is not None:
                numbers = {r.channel: r.number for r in releases if (r.channel in self._channels) is ours}
                floor = load_floor(followed.floor, followed.anchor)
                save_floor(followed.floor, raised(floor, releases=numbers))

    def folders(self) -> Iterator[Path]:
        """Where a cut may have left something unfinished."""
        for followed in (self._vendor, self._site):
            if followed is not None:
                yield from (followed.tuf, followed.tuf / ROOTS, followed.floor.parent)
