# SPDX-License-Identifier: Apache-2.0
"""How this host gets at its repositories: what the settings say, as sources. They ask for nothing yet."""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import NotReady
from agent.settings import Settings
from updater.client.bandwidth import Bandwidth
from updater.client.connection import Route
from updater.client.http import HttpSource
from updater.client.mirrors import MirroredSource
from updater.client.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where an update comes from.

    Attributes:
        publisher: of this host; None to leave what it brought as it is.
        site: the site's own repository; None to leave that.
    """

    publisher: Source | None
    site: Source | None = None

    @property
    def offline(self) -> bool:
        """Whether it comes from a bundle."""
        return any(source.offline for source in (self.publisher, self.site) if source is not None)


def web(settings: Settings) -> Sources:
    """The repositories and the mirrors, which share one limit. What mirrors did wrong is forgotten with the sources.

    Raises:
        NotReady: the settings name no repository.
        CertificatesUnusable: the settings name certificates that cannot be read.
    """
    if not on_the_web(settings):
        raise NotReady(
            "nothing was looked up", cause="vmgate.toml names no repository", remedy="set it, or import a bundle"
        )
    route = Route(proxy=settings.proxy, ca_file=settings.ca_file)
    bandwidth = Bandwidth(settings.bandwidth) if settings.bandwidth else None

    def source(url: str) -> HttpSource:
        return HttpSource(url, route=route, bandwidth=bandwidth)

    publisher: Source | None = source(settings.repository) if settings.repository else None
    if publisher is not None and settings.mirrors:
        publisher = MirroredSource(source(settings.repository), [source(url) for url in settings.mirrors])
    return Sources(publisher=publisher, site=source(settings.site.repository) if settings.site.repository else None)


def on_the_web(settings: Settings) -> bool:
    """Whether this host has a repository that it can ask by itself."""
    return bool(settings.repository or settings.site.repository)


def silence_days(settings: Settings) -> int:
    """Days out of reach of updates that are an alarm on this host; 0 where it cannot ask for any."""
    return settings.update.stale_days if on_the_web(settings) else 0
