# SPDX-License-Identifier: Apache-2.0
"""The qcow2 images that a host makes by itself: an empty overlay, an empty encrypted disk, and their marks. Pure.

No other program opens an image to make one, and nothing is guessed: what is written here is all that the image says.
The form is that of QEMU's ``docs/interop/qcow2.rst``. This module writes no file and judges none.
"""

from __future__ import annotations

import struct

from hypervisor.errors import Qcow2Malformed
from hypervisor.qcow2 import (
    BACKING_FORMAT,
    ENCRYPTION_HEADER,
    END,
    GENERATION,
    GENERATION_SIZE,
    LAZY_REFCOUNTS,
    MAGIC,
    MAX_NAME,
    parse_header,
)
from hypervisor.qcow2_rules import LUKS, MAX_VIRTUAL_SIZE

SECTOR = 512
CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
_PER_TABLE = CLUSTER // 8
"""Entries of a level 2 table, and clusters that an entry of the level 1 table stands for."""

_REFCOUNT_ORDER = 4
_LENGTH = 112
"""Of the header with its compression type, padded to a multiple of 8."""

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQIIB7x")
_EXTENSION = struct.Struct(">II")


def encode_overlay(length: int, backing_file: str, backing_format: str) -> bytes:
    """A whole image, in which nothing was written yet: all is read from the image below.

    Args:
        length: bytes of the image below; the disk has as many whole sectors as hold them.
        backing_file: absolute path of the image below.
        backing_format: its format.

    Raises:
        ValueError: a disk or a name that is too long.
    """
    name = backing_file.encode()
    if not 0 < len(name) <= MAX_NAME:
        raise ValueError("no overlay can be made of that name")
    return _encode(length, 0, _extension(BACKING_FORMAT, backing_format.encode()), name)


def encode_data(length: int, key_area: bytes, generation: bytes) -> bytes:
    """A whole image that stands on nothing, in which nothing was written yet: it reads as zeros.

    Args:
        length: bytes of the disk.
        key_area: its LUKS header (``hypervisor.luks``).
        generation: for ``Qcow2Header.generation``.

    Raises:
        ValueError: a disk that is too long, or a generation of another length.
    """
    place = (3 + _tables(length)) * CLUSTER
    pointer = _extension(ENCRYPTION_HEADER, struct.pack(">QQ", place, len(key_area)))
    return _encode(length, LUKS, pointer + _extension(GENERATION, _checked(generation)), b"", key_area)


def _encode(length: int, encryption: int, extensions: bytes, name: bytes, tail: bytes = b"") -> bytes:
    """Header, table of reference counts, reference counts, table of clusters, and what else it begins with.

    Lazy reference counts let QEMU mark the image while it is open: whoever finds the mark knows that QEMU was cut off.
    """
    size = -(-length // SECTOR) * SECTOR
    if not 0 < size <= MAX_VIRTUAL_SIZE:
        raise ValueError(f"no disk has {length} bytes")
    extensions += _EXTENSION.pack(END, 0)
    header = _HEADER.pack(
        MAGIC, 3, _LENGTH + len(extensions) if name else 0, len(name), CLUSTER_BITS, size, encryption,
        -(-size // (CLUSTER * _PER_TABLE)), 3 * CLUSTER, CLUSTER, 1, 0, 0, 0, LAZY_REFCOUNTS, 0, _REFCOUNT_ORDER,
        _LENGTH, 0,
    )  # fmt: skip
    tables = _tables(length)
    clusters = 3 + tables + -(-len(tail) // CLUSTER)
    counts = struct.pack(">H", 1) * clusters
    parts = (header + extensions + name, struct.pack(">Q", 2 * CLUSTER), counts, bytes(tables * CLUSTER), tail)
    return b"".join(part.ljust(-(-len(part) // CLUSTER) * CLUSTER, b"\0") for part in parts)


def _tables(length: int) -> int:
    """Clusters of the table of clusters."""
    entries = -(-length // (CLUSTER * _PER_TABLE))
    return -(-entries * 8 // CLUSTER)


def put_generation(untrusted_head: bytes, generation: bytes) -> bytes:
    """The beginning of an image with another generation.

    Args:
        untrusted_head: the first bytes of the image, its header among them.
        generation: for ``Qcow2Header.generation``.

    Raises:
        Qcow2Malformed: no header, or none with a generation.
        ValueError: a generation of another length.
    """
    header = parse_header(untrusted_head)
    mark = _extension(GENERATION, _checked(generation))
    if not header.generation:
        raise Qcow2Malformed(
            "the image was not marked", cause="it has no mark to replace", remedy="this is no disk that a host made"
        )
    at = header.length
    while _EXTENSION.unpack_from(untrusted_head, at)[0] != GENERATION:
        at += _EXTENSION.size + ((_EXTENSION.unpack_from(untrusted_head, at)[1] + 7) & ~7)
    return untrusted_head[:at] + mark + untrusted_head[at + len(mark) :]


def _extension(kind: int, content: bytes) -> bytes:
    return _EXTENSION.pack(kind, len(content)) + content + bytes(-len(content) % 8)


def _checked(generation: bytes) -> bytes:
    if len(generation) != GENERATION_SIZE:
        raise ValueError(f"a generation has {GENERATION_SIZE} bytes")
    return generation
