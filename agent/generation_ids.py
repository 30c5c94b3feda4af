# SPDX-License-Identifier: Apache-2.0
"""The generation id of each VM (vmgenid): drawn here for each start, and never used twice.

A guest that has the driver seeds its random numbers anew when the number changes. Disks and firmware variables of a VM
may be those of an earlier start, byte for byte; this is not. The file holds the one that the next start has; the gate
compares it, and draws the next as soon as it has said yes, so that no domain that libvirt kept starts with it again.
"""

from __future__ import annotations

import uuid

from agent.paths import HostPaths
from content import durable
from content.errors import Missing, TooLarge
from documents.fields import UUID

LENGTH = 36


class GenerationIds:
    """Of the VMs of one host.

    Args:
        paths: of this host.
    """

    def __init__(self, paths: HostPaths) -> None:
        self._paths = paths

    def next(self, name: str) -> str:
        """The one that the next start of a VM has; drawn where there is none, or what is there is none.

        Raises:
            ContentError: it cannot be read or written.
        """
        try:
            found = durable.read_file(self._paths.generation_id(name), LENGTH).decode("ascii", "replace")
        except (Missing, TooLarge):
            found = ""
        return found if UUID.fullmatch(found) else self.draw(name)

    def draw(self, name: str) -> str:
        """Another one, from now on.

        Raises:
            ContentError: it cannot be written; then the old one must not be used either.
        """
        drawn = str(uuid.uuid4())
        path = self._paths.generation_id(name)
        durable.make_directory(path.parent.parent, 0o711)
        durable.make_directory(path.parent, 0o711)
        durable.write_file(path, drawn.encode())
        return drawn
