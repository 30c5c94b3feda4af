# SPDX-License-Identifier: Apache-2.0
"""A host image with what is computed from it once, for who judges many hosts of one release.

An image names some ten thousand files: to digest and index them for each verdict costs more than the verdict. This
module judges nothing and keeps nothing of any host but what ``ImageFiles`` does.
"""

from __future__ import annotations

from content.fsverity import digest_bytes
from documents.host_image import HostImage
from measure.boot_files import ImageFiles
from measure.known_entries import KnownEntries
from measure.local import local_reference


class KnownImage:
    """A host image, indexed.

    Args:
        image: it must not be exchanged afterwards, and cannot be changed.

    Attributes:
        image: as given.
        fsverity: digest of its canonical bytes, by which a release names it.
        files: to compare IMA lists with.
        entries: to read IMA lists by.
        local: what it says of things that are local to a host, see ``measure.local.local_reference``.
    """

    def __init__(self, image: HostImage) -> None:
        self.image = image
        self.fsverity = digest_bytes(image.encode())
        self.files = ImageFiles(image)
        self.entries = KnownEntries(image.files)
        self.local = local_reference(image)
