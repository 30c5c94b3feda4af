# SPDX-License-Identifier: Apache-2.0
"""What this host tells those who make bundles for it. Says nothing of VMs or measurements, and proves nothing."""

from __future__ import annotations

from agent.outside import Outside
from content.store import ContentStore
from documents.host_state import Generation
from documents.host_status import HostStatus


def host_status(outside: Outside, store: ContentStore, generation: Generation | None) -> HostStatus:
    """The status of this host.

    Args:
        outside: of this host.
        store: what it has; presence is told, not intactness.
        generation: the active one, or nothing yet.

    Raises:
        ContentError: the store cannot be read.
    """
    releases = generation.parsed() if generation else ()
    return HostStatus(
        time=outside.clock(),
        agent=outside.version,
        host=outside.settings.host,
        channels=tuple(sorted(outside.settings.channels)),
        releases=tuple(sorted((release.channel, release.number) for release in releases)),
        artifacts=tuple(sorted(item.fsverity for item in store.items())),
    )
