# SPDX-License-Identifier: Apache-2.0
"""Takes a disk image or an ISO from a file of this host into the store, read by vmgate alone.

No other program opens what nobody verified: a qcow2 image is made flat by ``hypervisor.qcow2_data``, and one that names
another file is refused with the way to make it plain. The file is opened once, and must belong to whoever imports it,
so that nobody reads by the agent what they could not read themselves. This module signs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.vm_errors import LocalUnfit
from content.errors import storage
from content.holes import data_ranges
from content.store import ContentStore
from documents.local_set import LocalImage
from hypervisor.image_file import ImageFile, open_image
from hypervisor.image_formats import probe, require_raw
from hypervisor.qcow2 import MAX_HEADER, parse_header
from hypervisor.qcow2_data import MAX_FLAT, flat_size, read_data
from hypervisor.qcow2_rules import require_plain

SECTOR = 512
CHUNK = 2**20


def take_image(path: Path, name: str, uid: int, store: ContentStore) -> LocalImage:
    """Copy an image into the store as a raw one.

    Args:
        path: absolute.
        name: it shall have.
        uid: who imports it.
        store: of this host.

    Raises:
        LocalUnfit: it is not whole sectors, is too large, or belongs to somebody else.
        ImageNotRaw: it begins like a format that vmgate does not read.
        Qcow2Malformed, Qcow2Refused: it is a qcow2 image with something that vmgate does not take.
        ImageUnreadable, ContentError: it cannot be read, or there is no room.
    """
    with open_image(path) as image:
        if uid not in (0, image.owner):
            raise _unfit(f"{path} belongs to user {image.owner}", "import a file of your own, or use sudo")
        head = image.head(MAX_HEADER)
        source = probe(head)
        if source == "qcow2":
            header = parse_header(head)
            require_plain(header, image.length, "base", str(path))
            length, parts = flat_size(header, str(path)), read_data(header, image)
        else:
            require_raw(head, str(path))
            source, length, parts = "raw", image.length, _read_raw(image, path)
        if not 0 < length <= MAX_FLAT or length % SECTOR:
            raise _unfit(f"{path} has {length} bytes, and no disk has that", "check that it is an image")
        measured = store.add_parts(parts, length)
        if source == "qcow2":
            # What was inside may begin like yet another format.
            _require_raw_inside(store, measured.fsverity, path)
    return LocalImage(name=name, fsverity=measured.fsverity, length=measured.length, source=source)


def _read_raw(image: ImageFile, path: Path) -> Iterator[tuple[int, bytes]]:
    with storage("the image was not copied", path):
        ranges = tuple(data_ranges(image.descriptor, image.length))
    for start, end in ranges:
        for at in range(start, end, CHUNK):
            data = image.read(at, min(CHUNK, end - at))
            if len(data) != min(CHUNK, end - at):
                raise _unfit(f"{path} became shorter meanwhile", "import it when nobody writes to it")
            yield at, data


def _require_raw_inside(store: ContentStore, fsverity: str, path: Path) -> None:
    with open_image(store.path(fsverity)) as flat:
        # One that is refused lies there by its digest, nothing names it, and the next update removes it.
        require_raw(flat.head(MAX_HEADER), f"what is inside {path}")


def _unfit(cause: str, remedy: str) -> LocalUnfit:
    return LocalUnfit("nothing was imported", cause=cause, remedy=remedy)
