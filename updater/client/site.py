# SPDX-License-Identifier: Apache-2.0
"""A site's own repository on top of the vendor's: two anchors, two workflows, one generation. The rules are pure.

Each of the two has its TUF metadata, its floor and its channels, and is followed from its own anchor; what one signs
counts nothing in the channels of the other. A site brings workloads: a platform release of its is refused as a whole
offer, and so is a VM of a name that a vendor's release has, for a VM that two claim would be nobody's. A site may
refuse digests of whatever it wants not to run on its hosts.

This module fetches nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from documents.host_state import Generation
from documents.release import Release
from keys.anchor import TrustAnchor
from updater.errors import SiteOverreached


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The site's repository, as a host follows it.

    Attributes:
        anchor: where trust in it starts.
        channels: that the host follows of it; none of these is the vendor's.
        tuf: where its TUF metadata is kept.
        floor: of its versions and time.
    """

    anchor: TrustAnchor
    channels: Sequence[str]
    tuf: Path
    floor: Path


def require_within_bounds(offered: Mapping[str, bytes], vendors: Collection[bytes]) -> None:
    """Require that a site offers nothing that is the vendor's alone.

    Args:
        offered: the site's release documents by channel.
        vendors: the vendor's release documents, offered and active.

    Raises:
        SiteOverreached: it does; nothing of it is taken.
        DocumentError: a release is malformed.
    """
    taken = {name: release for data in vendors for release in [Release.parse(data)] for name in _vms(release)}
    for data in offered.values():
        release = Release.parse(data)
        told = f"{release.channel} {release.number}"
        if release.authority != "workload":
            raise _overreached(f"{told} of the site is a {release.authority} release, and the platform is the vendor's")
        for name in _vms(release):
            if name in taken:
                other = taken[name]
                raise _overreached(f"{told} of the site brings {name}, which {other.channel} {other.number} has")


def kept(generation: Generation | None, channels: Collection[str]) -> dict[str, bytes]:
    """The active releases of some channels, which stay while their repository is not asked."""
    releases = zip(generation.releases, generation.parsed(), strict=True) if generation else ()
    return {release.channel: data for data, release in releases if release.channel in channels}


def _vms(release: Release) -> list[str]:
    return [artifact.name for artifact in release.of_kind("definition")]


def _overreached(cause: str) -> SiteOverreached:
    return SiteOverreached(
        "the update was refused",
        cause=cause,
        remedy="ask the site's publisher for a release that keeps to the site's own",
    )
