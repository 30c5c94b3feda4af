# SPDX-License-Identifier: Apache-2.0
"""The content of a qcow2 image, read by its tables alone, so that no other program opens what nobody verified.

For images without a backing file (``flat_size`` refuses others), whose header ``hypervisor.qcow2_rules`` let through.
The form is that of QEMU's ``docs/interop/qcow2.rst``, "Cluster mapping" and "Compressed Cluster Descriptor". Each read
is bounded by a cluster and lies in the file, or the image is refused. What tables share is not looked for: it is only
read. This module writes nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NoReturn, Protocol

from hypervisor import qcow2
from hypervisor.errors import Qcow2Malformed, Qcow2Refused
from hypervisor.qcow2 import Qcow2Header

MAX_FLAT = 2**40
"""Bytes of a disk that is made flat: 1 TiB. It is measured as a whole."""

LEAST_PACKED = 8
"""Bytes that a compressed cluster takes at least: several lie in one sector."""

_OFFSET = 0x00FFFFFFFFFFFE00
_COPIED, _COMPRESSED, _ZERO = 1 << 63, 1 << 62, 1
_SECTOR = 512


class Source(Protocol):
    """An image that was opened once. ``hypervisor.image_file.ImageFile`` is one."""

    @property
    def length(self) -> int:
        """Bytes of the file."""

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from anywhere, fewer only at the file's end."""


def flat_size(header: Qcow2Header, what: str) -> int:
    """Bytes of the flat image.

    Raises:
        Qcow2Refused: it stands on another image, or is made in a way that this module does not read.
    """
    convert = "`qemu-img convert -O raw` it where you trust it, and import the result"
    for feature, wrong, cause in (
        ("backing-file", header.backing_file is not None, f"it stands on {header.backing_file!r:.200}"),
        ("extended-l2", bool(header.incompatible & qcow2.EXTENDED_L2), "its clusters have subclusters"),
        ("compression", header.compression != 0, "it is compressed with zstd"),
        ("size", header.virtual_size > MAX_FLAT, f"its disk has {header.virtual_size} bytes, more than {MAX_FLAT}"),
        ("size", header.virtual_size % _SECTOR != 0, f"its disk of {header.virtual_size} bytes ends within a sector"),
    ):
        if wrong:
            raise Qcow2Refused(f"{what} was not imported", cause=cause, remedy=convert, feature=feature)
    return header.virtual_size


def read_data(header: Qcow2Header, image: Source) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each cluster that is there, in their order; all else of the disk reads as zeros.

    Raises:
        Qcow2Malformed: a table names what is not in the file, or cannot be meant.
        ImageUnreadable: the file cannot be read.
    """
    cluster = 1 << header.cluster_bits
    in_table = cluster // 8
    once = _Once(image)
    needed = -(-header.virtual_size // (cluster * in_table))
    level_1 = _entries(_exactly(once, header.l1_offset, needed * 8, "the table of clusters"))
    for first, entry in enumerate(level_1):
        offset = entry & _OFFSET
        if entry & ~(_OFFSET | _COPIED):
            _refuse(f"entry {first} of its table of clusters has bits that are reserved")
        if not offset:
            continue
        if offset % cluster:
            _refuse(f"entry {first} of its table of clusters does not name a whole cluster")
        for second, inner in enumerate(_entries(_exactly(once, offset, cluster, "a table of clusters"))):
            at = (first * in_table + second) * cluster
            if at >= header.virtual_size:
                break
            data = _cluster(header, once, inner)
            if data:
                yield at, data[: header.virtual_size - at]


class _Once:
    """An image of which no more is read than it has: in a plain one no two tables or clusters are the same bytes.

    So a small file cannot keep its reader busy for the sake of a large disk.
    """

    def __init__(self, image: Source) -> None:
        self._image = image
        self._left = image.length
        self.length = image.length

    def read(self, offset: int, length: int, least: int | None = None) -> bytes:
        """See ``Source``.

        Args:
            offset, length: see there.
            least: bytes that are counted, where others share what is read.

        Raises:
            Qcow2Malformed: more was read by now than the file has.
        """
        self._left -= length if least is None else least
        if self._left < 0:
            _refuse("its tables name the same clusters again and again")
        return self._image.read(offset, length)


def _cluster(header: Qcow2Header, image: _Once, entry: int) -> bytes:
    """The bytes of one cluster; empty for zeros."""
    cluster = 1 << header.cluster_bits
    if entry & _COMPRESSED:
        return _inflate(header, image, entry)
    if entry & ~(_OFFSET | _COPIED | _ZERO):
        _refuse("an entry of a table has bits that are reserved")
    if entry & _ZERO:
        if header.version == 2:
            _refuse("an entry of a table has a bit that version 2 does not know")
        return b""
    offset = entry & _OFFSET
    if not offset:
        return b""
    if offset % cluster or offset < cluster:
        _refuse("an entry of a table does not name a whole cluster of data")
    # The last cluster of the file may be cut where its disk ends.
    return _exactly(image, offset, min(cluster, max(1, image.length - offset)), "a cluster").ljust(cluster, b"\0")


def _inflate(header: Qcow2Header, image: _Once, entry: int) -> bytes:
    cluster = 1 << header.cluster_bits
    if entry & _COPIED:
        _refuse("a compressed cluster is marked as copied")
    bits = 62 - (header.cluster_bits - 8)
    offset = entry & ((1 << bits) - 1)
    sectors = ((entry & (_COMPRESSED - 1)) >> bits) + 1
    length = sectors * _SECTOR - offset % _SECTOR
    length = min(length, max(1, image.length - offset))
    packed = _exactly(image, offset, length, "a compressed cluster", min(length, LEAST_PACKED))
    try:
        # Raw deflate. Never more than a cluster comes out, however much there is.
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, cluster)
    except zlib.error as error:
        raise _malformed(f"a compressed cluster cannot be read: {error}") from error
    if len(data) != cluster:
        _refuse("a compressed cluster does not hold a whole one")
    return data


def _exactly(image: _Once, offset: int, length: int, what: str, least: int | None = None) -> bytes:
    data = image.read(offset, length, least) if offset < image.length else b""
    if len(data) != length:
        _refuse(f"{what} does not lie in the file")
    return data


def _entries(table: bytes) -> Iterator[int]:
    return (entry for (entry,) in struct.iter_unpack(">Q", table))


def _refuse(cause: str) -> NoReturn:
    raise _malformed(cause)


def _malformed(cause: str) -> Qcow2Malformed:
    return Qcow2Malformed("the image was not used", cause=cause, remedy="make the image again, or take a raw one")
