# SPDX-License-Identifier: Apache-2.0
"""The site that this host follows besides its publisher: its anchor, as the settings name it. Fetches nothing."""

from __future__ import annotations

from pathlib import Path

from agent.errors import SiteAnchorRefused
from agent.paths import HostPaths
from agent.site_settings import SiteSettings
from content import durable
from content.errors import ContentError
from keys.anchor import LIMIT, TrustAnchor
from keys.errors import AnchorRefused
from updater.client.site import Site


def site_of(settings: SiteSettings, paths: HostPaths) -> Site | None:
    """The site of a host; None where the settings name none.

    Raises:
        SiteAnchorRefused: the anchor is not there, or not the one that the settings name.
    """
    if not settings.channels:
        return None
    try:
        anchor = TrustAnchor(durable.read_file(Path(settings.anchor), LIMIT))
    except (ContentError, AnchorRefused) as error:
        raise _refused(error.cause) from error
    if anchor.identity != settings.identity:
        raise _refused(f"{settings.anchor} is sha256:{anchor.identity} and site.identity sha256:{settings.identity}")
    return Site(anchor=anchor, channels=settings.channels, tuf=paths.site_tuf, floor=paths.site_floor)


def _refused(cause: str) -> SiteAnchorRefused:
    return SiteAnchorRefused(
        "the site's repository is not followed",
        cause=cause,
        remedy="get the site's root metadata over a way you trust, and name its digest in vmgate.toml",
    )
