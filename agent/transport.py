# SPDX-License-Identifier: Apache-2.0
"""How this host gets at its repository: what the settings say, as one source. It asks for nothing yet."""

from __future__ import annotations

from agent.errors import NotReady
from agent.settings import Settings
from updater.client.bandwidth import Bandwidth
from updater.client.connection import Route
from updater.client.http import HttpSource
from updater.client.mirrors import MirroredSource
from updater.client.source import Source


def web(settings: Settings) -> Source:
    """The repository and its mirrors, which share one limit. What mirrors did wrong is forgotten with the source.

    Raises:
        NotReady: the settings name no repository.
        CertificatesUnusable: the settings name certificates that cannot be read.
    """
    if not settings.repository:
        raise NotReady(
            "nothing was looked up", cause="vmgate.toml names no repository", remedy="set it, or import a bundle"
        )
    route = Route(proxy=settings.proxy, ca_file=settings.ca_file)
    bandwidth = Bandwidth(settings.bandwidth) if settings.bandwidth else None
    primary, *mirrors = (
        HttpSource(url, route=route, bandwidth=bandwidth) for url in (settings.repository, *settings.mirrors)
    )
    return MirroredSource(primary, mirrors) if mirrors else primary
