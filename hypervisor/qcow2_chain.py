# SPDX-License-Identifier: Apache-2.0
"""A disk's whole chain of images, compared with what was declared for it. Pure: it reads through what is given.

The caller opens each declared image once, by its own path and not by a name found in another image, and keeps the
descriptors for QEMU or for its digest. So no name is looked up twice, and a name in a header is only ever compared.
The checks, from the top to the bottom:

 1. As many images as declared, at most ``MAX_DEPTH``, none of them there twice.
 2. A raw image is the last, and does not begin like another format (``hypervisor.image_formats``).
 3. A qcow2 image has nothing that is refused (``hypervisor.qcow2_rules``).
 4. It names the next declared image, letter by letter, with its format; the last names none.
 5. An image is as large as declared, where that was said; an overlay is at least as large as what it stands on.

Left to the caller: that a base has its signed digest, and what the definition allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hypervisor.errors import ChainRefused
from hypervisor.image_formats import require_raw
from hypervisor.qcow2 import MAX_HEADER, Qcow2Header, parse_header
from hypervisor.qcow2_rules import FORMATS, Kind, require_plain

MAX_DEPTH = 8
"""Images of one disk."""


class OpenImage(Protocol):
    """An image that was opened once. ``hypervisor.image_file.ImageFile`` is one."""

    @property
    def identity(self) -> tuple[int, int]:
        """What makes it one file and no other: device and inode."""

    @property
    def length(self) -> int:
        """Bytes of the file."""

    def head(self, length: int) -> bytes:
        """Its first bytes, so many or as many as it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One declared image.

    Attributes:
        name: as the image above it must name it: an absolute path, or a file name beside it.
        image_format: ``qcow2`` or ``raw``.
        kind: ``base``, ``overlay`` or ``data``.
        virtual_size: bytes of the disk that it makes; None where only the file says.
    """

    name: str
    image_format: str
    kind: Kind
    virtual_size: int | None = None


def verify_chain(layers: Sequence[Layer], images: Sequence[OpenImage], what: str) -> tuple[Qcow2Header | None, ...]:
    """Compare a disk's images with what was declared for it.

    Args:
        layers: what was declared, the top first.
        images: the same images, opened by the caller.
        what: the disk, for errors.

    Returns:
        The header of each image; None for a raw one.

    Raises:
        ChainRefused: they do not stand on each other as declared.
        ImageNotRaw, Qcow2Malformed, Qcow2Refused: an image is not what its format and kind may be.
        ImageUnreadable: an image cannot be read.
    """
    # (1)
    if not 1 <= len(layers) <= MAX_DEPTH:
        raise _refused(what, f"{len(layers)} images are declared, and one to {MAX_DEPTH} are possible")
    if len(images) != len(layers):
        raise _refused(what, f"{len(layers)} images are declared and {len(images)} are there")
    if len({image.identity for image in images}) != len(images):
        raise _refused(what, "one image is there twice, so that the chain would never end")
    headers: list[Qcow2Header | None] = []
    sizes: list[int] = []
    for at, (layer, image) in enumerate(zip(layers, images, strict=True)):
        below = layers[at + 1] if at + 1 < len(layers) else None
        header = _read(layer, image, below, what)
        headers.append(header)
        sizes.append(image.length if header is None else header.virtual_size)
        # (5)
        if layer.virtual_size not in (None, sizes[-1]):
            raise _refused(what, f"{layer.name} has {sizes[-1]} bytes and {layer.virtual_size} are declared")
    if sizes != sorted(sizes, reverse=True):
        raise _refused(what, "an image is smaller than the one it stands on, and would hide its end")
    return tuple(headers)


def _read(layer: Layer, image: OpenImage, below: Layer | None, what: str) -> Qcow2Header | None:
    named = f"{layer.name} of {what}"
    # What QEMU would take for a protocol and not for a file (block.c, path_has_protocol).
    if layer.image_format not in FORMATS or ":" in layer.name.partition("/")[0] or not layer.name:
        raise _refused(what, f"{layer.name!r:.200} as {layer.image_format!r:.60} is nothing that a disk can be")
    if layer.image_format == "raw":
        # (2)
        if below is not None:
            raise _refused(what, f"{layer.name} is raw, and {below.name} is declared below it")
        require_raw(image.head(MAX_HEADER), named)
        return None
    # (3)
    header = parse_header(image.head(MAX_HEADER))
    require_plain(header, image.length, layer.kind, named)
    # (4)
    wanted = (None, None) if below is None else (below.name, below.image_format)
    found = (header.backing_file, header.backing_format)
    if found != wanted:
        raise _refused(what, f"{layer.name} stands on {_told(*found)}, and {_told(*wanted)} is declared")
    return header


def _told(name: str | None, image_format: str | None) -> str:
    return "nothing" if name is None else f"{name!r:.200} as {image_format}"


def _refused(what: str, cause: str) -> ChainRefused:
    return ChainRefused(
        f"{what} was not used",
        cause=cause,
        remedy="put back what was there at the VM's last stop, and open nothing that the header names",
    )
