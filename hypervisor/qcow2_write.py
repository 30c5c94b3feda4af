# SPDX-License-Identifier: Apache-2.0
"""What a host writes into qcow2 images by itself: an empty overlay, and the mark of a generation. Pure.

No other program opens an image to make one, and nothing is guessed: what is written here is all that the image says.
The form is that of QEMU's ``docs/interop/qcow2.rst``. A disk with encryption is made by QEMU (``agent.data_disks``).
This module writes no file and judges none.
"""

from __future__ import annotations

import struct

from hypervisor.errors import Qcow2Malformed
from hypervisor.qcow2 import (
    BACKING_FORMAT,
    END,
    GENERATION,
    GENERATION_SIZE,
    LAZY_REFCOUNTS,
    MAGIC,
    MAX_NAME,
    parse_header,
)
from hypervisor.qcow2_rules import MAX_VIRTUAL_SIZE

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

    The clusters are, in their order: header, table of reference counts, reference counts, table of clusters. Lazy
    reference counts let QEMU mark the image while it is open: whoever finds the mark knows that QEMU was cut off.

    Args:
        length: bytes of the image below; the disk has as many whole sectors as hold them.
        backing_file: absolute path of the image below.
        backing_format: its format.

    Raises:
        ValueError: a disk or a name that is too long.
    """
    name = backing_file.encode()
    size = -(-length // SECTOR) * SECTOR
    if not 0 < size <= MAX_VIRTUAL_SIZE or not 0 < len(name) <= MAX_NAME:
        raise ValueError("no overlay can be made of that")
    entries = -(-size // (CLUSTER * _PER_TABLE))
    clusters = 3 + -(-entries * 8 // CLUSTER)
    extensions = _extension(BACKING_FORMAT, backing_format.encode()) + _EXTENSION.pack(END, 0)
    header = _HEADER.pack(
        MAGIC, 3, _LENGTH + len(extensions), len(name), CLUSTER_BITS, size, 0, entries, 3 * CLUSTER, CLUSTER, 1, 0, 0,
        0, LAZY_REFCOUNTS, 0, _REFCOUNT_ORDER, _LENGTH, 0,
    )  # fmt: skip
    counts = struct.pack(">H", 1) * clusters
    parts = (header + extensions + name, struct.pack(">Q", 2 * CLUSTER), counts, bytes((clusters - 3) * CLUSTER))
    return b"".join(part.ljust(CLUSTER, b"\0") for part in parts)


def put_generation(untrusted_head: bytes, generation: bytes) -> bytes:
    """The beginning of an image with another generation, or with its first one.

    Args:
        untrusted_head: the first bytes of the image, its header among them.
        generation: for ``Qcow2Header.generation``.

    Raises:
        Qcow2Malformed: no header, or no room for the mark behind its extensions.
        ValueError: a generation of another length.
    """
    header = parse_header(untrusted_head)
    at, head = header.length, bytearray(untrusted_head)
    end = min(len(head), 1 << header.cluster_bits)
    mark = _extension(GENERATION, _checked(generation))
    while end - at >= len(mark) + _EXTENSION.size:
        kind, length = _EXTENSION.unpack_from(head, at)
        if kind == GENERATION:
            head[at : at + len(mark)] = mark
            return bytes(head)
        if kind == END:
            break
        at += _EXTENSION.size + ((length + 7) & ~7)
    else:
        raise _no_room()
    if header.backing_file is not None or any(head[at : at + len(mark) + _EXTENSION.size]):
        raise _no_room()
    head[at : at + len(mark)] = mark
    return bytes(head)


def _extension(kind: int, content: bytes) -> bytes:
    return _EXTENSION.pack(kind, len(content)) + content + bytes(-len(content) % 8)


def _checked(generation: bytes) -> bytes:
    if len(generation) != GENERATION_SIZE:
        raise ValueError(f"a generation has {GENERATION_SIZE} bytes")
    return generation


def _no_room() -> Qcow2Malformed:
    return Qcow2Malformed(
        "the image was not marked", cause="there is no room behind its header", remedy="this is a defect of vmgate"
    )
