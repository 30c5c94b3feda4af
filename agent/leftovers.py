# SPDX-License-Identifier: Apache-2.0
"""What a power cut left unfinished in the host's folders, removed at the agent's start.

The update state and the store clear up after themselves (``updater.client.transaction``). Nothing is read here.
"""

from __future__ import annotations

from pathlib import Path

from agent.paths import HostPaths
from content import durable
from content.errors import storage


def remove_leftovers(paths: HostPaths, hook: Path) -> None:
    """Remove unfinished files beside those that the agent writes. Call it before anything else writes.

    Args:
        paths: of this host.
        hook: where the hook lies: libvirt must not find half of another one.

    Raises:
        ContentError: it failed; what was removed stays removed.
    """
    vms = paths.vms
    with storage("the folders of VMs were not listed", vms):
        folders = (
            [path for path in sorted(vms.iterdir()) if path.is_dir() and not path.is_symlink()] if vms.is_dir() else []
        )
    disks = [folder / "disks" for folder in folders if not (folder / "disks").is_symlink()]
    for folder in (hook.parent, paths.audit, paths.sealed_key.parent, vms, *folders, *disks):
        durable.sweep(folder)
