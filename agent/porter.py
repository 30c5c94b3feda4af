# SPDX-License-Identifier: Apache-2.0
"""What takes more than the agent's box allows: mounting VMM images for libvirtd, and looking at others' processes.

It is done here, by the process itself. On a host where the agent is boxed that process is another one, outside of the
box, which the agent asks (``agent.porter_line``). It takes digests and UUIDs, never a path: it mounts nothing but files
of the store, at their own folder. This module measures nothing and decides nothing.
"""

from __future__ import annotations

from pathlib import Path

from agent.vm_processes import stranger
from content import image_mount
from content.store import ContentStore
from hypervisor.by_hand import Machine, machines

STATUS = Path("/proc/self/status")
_NEEDED = 1 << 19 | 1 << 21
"""CAP_SYS_PTRACE and CAP_SYS_ADMIN (capabilities(7))."""


def is_boxed(status: str) -> bool:
    """Whether a process may not do this itself; what cannot be told is a box.

    Args:
        status: of the process (proc(5)).
    """
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            try:
                return int(value, 16) & _NEEDED != _NEEDED
            except ValueError:
                return True
    return True


class Porter:
    """Does it for one host.

    Args:
        store: holds the images.
        folder: where each is mounted, at its digest; made by the agent.
        staged: whether the host is staged in a folder and is not all of its machine.
    """

    def __init__(self, store: ContentStore, folder: Path, *, staged: bool = False) -> None:
        self._store = store
        self._folder = folder
        self._staged = staged

    def mount(self, digest: str) -> None:
        """Mount an image at its folder.

        Raises:
            ContentError: the kernel refused.
        """
        image_mount.mount(self._store.path(digest), self._folder / digest)

    def unmount(self, digest: str) -> bool:
        """Unmount what is at the folder of an image; returns whether it went: what is in use stays.

        Raises:
            ContentError: the kernel refused for another reason.
        """
        return image_mount.unmount(self._folder / digest)

    def is_mounted(self, digest: str) -> bool:
        """Whether anything is mounted at the folder of an image."""
        return image_mount.is_mounted(self._folder / digest)

    def flaw(self, digest: str) -> str:
        """Why what is mounted is not the stored image; empty where it is."""
        return image_mount.flaw(self._store.path(digest), self._folder / digest)

    def stranger(self, digest: str, uuid: str) -> str:
        """What of a running VM is not of an image; empty where QEMU and swtpm both are."""
        return stranger(uuid, self._folder / digest)

    def machines(self) -> tuple[Machine, ...]:
        """QEMU processes and users of KVM that are no domains of this libvirt."""
        return machines(same_mounts=self._staged)
