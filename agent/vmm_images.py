# SPDX-License-Identifier: Apache-2.0
"""The VMM as an image: mounted read-only, each at a folder of its own digest, and a link to the one that is active.

A VM's domain names the folder of its release's image, so that a VM that runs keeps the one that it was started from;
``current`` is what libvirt's search path names, where it looks for swtpm. What is mounted is looked at before each
start and never believed: the image's file is measured in the store (``agent.components``), and the mount must be of
just that file. This module does not measure, and decides about no VM.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.errors import ImageNotMounted, PorterAway
from agent.porter import Porter
from agent.porter_line import PorterLine
from content import durable
from content.errors import ContentError, storage
from documents.release import Artifact, Release

log = logging.getLogger(__name__)

_IMAGE = re.compile(r"[0-9a-f]{64}")

KIND: Final = "vmm-image"
CURRENT: Final = "current"
PROGRAMS: Final = "bin"
EMULATOR: Final = "bin/qemu-system-x86_64"
FIRMWARE_CODE: Final = "usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
"""Built with SMM and Secure Boot; where Debian's ovmf has it."""


def image_of(release: Release) -> Artifact | None:
    """The VMM image of a platform release; None where its VMM is the host's files."""
    return next(iter(release.of_kind(KIND)), None)


class VmmImages:
    """The VMM images of one host.

    Args:
        porter: mounts and looks, here or outside of the agent's box.
        folder: where they are mounted; it does not outlive a boot.
    """

    def __init__(self, porter: Porter | PorterLine, folder: Path) -> None:
        self._porter = porter
        self._folder = folder

    @property
    def programs(self) -> Path:
        """The folder of the active image's programs, which libvirt's search path must name first."""
        return self._folder / CURRENT / PROGRAMS

    def mounted(self, image: Artifact) -> Path:
        """Where an image is, or is to be, mounted."""
        return self._folder / image.fsverity

    def flaw(self, image: Artifact) -> str:
        """Why what is mounted is not the stored image; empty where it is."""
        return self._porter.flaw(image.fsverity)

    def prepare(self, release: Release) -> None:
        """Mount the image of a release, unless it is mounted as it must be. Verified or not, a look tells later.

        Raises:
            ImageNotMounted: it could not be, or something else is there and in use.
        """
        image = image_of(release)
        if image is None or not self.flaw(image):
            return
        place = self.mounted(image)
        try:
            durable.make_directory(self._folder, 0o755)
            durable.make_directory(place, 0o755)
            while self._porter.is_mounted(place.name):
                if not self._porter.unmount(place.name):
                    raise _not_mounted(f"{place} is in use, and is not this image: {self.flaw(image)}")
            self._porter.mount(image.fsverity)
        except (ContentError, PorterAway) as error:
            raise _not_mounted(error.cause) from error

    def follow(self, release: Release) -> None:
        """Let ``current`` be the image of a release, by one rename; without one there is none.

        Raises:
            ContentError: it could not be.
        """
        image, link = image_of(release), self._folder / CURRENT
        if image is not None:
            durable.replace_link(link, image.fsverity)
        elif self._folder.is_dir():
            durable.remove(link)

    def collect(self, needed: Iterable[str]) -> frozenset[str]:
        """Unmount what nobody needs; what runs stays.

        Args:
            needed: digests of the images to keep.

        Returns:
            The digests of all that are mounted still, whose files must stay too.
        """
        kept = frozenset(needed)
        for place in self._places():
            if place.name not in kept:
                self._drop(place)
        return frozenset(place.name for place in self._places())

    def _places(self) -> list[Path]:
        with storage("the VMM images were not listed", self._folder):
            if not self._folder.is_dir():
                return []
            # Of others, none is touched.
            return sorted(p for p in self._folder.iterdir() if _IMAGE.fullmatch(p.name) and not p.is_symlink())

    def _drop(self, place: Path) -> None:
        try:
            while self._porter.is_mounted(place.name):
                if not self._porter.unmount(place.name):
                    return
            durable.remove_tree(place)
        except (ContentError, PorterAway) as error:
            log.warning("an old VMM image stays mounted: %s", error)


def _not_mounted(cause: str) -> ImageNotMounted:
    return ImageNotMounted(
        "the VMM image was not mounted",
        cause=cause,
        remedy="stop the VMs that use it, then `vmgate update apply`, or reboot",
    )
