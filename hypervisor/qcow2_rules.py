# SPDX-License-Identifier: Apache-2.0
"""What a qcow2 image may have before anything opens it. Pure: it judges a parsed header and the length of the file.

Three kinds of image: a ``base`` that a publisher or the local authority signed; an ``overlay`` that this host made over
a base and a guest has written to since; and ``data``, a disk of its own that this host made for a guest. What each
names below it is compared by ``hypervisor.qcow2_chain``.
The checks, in their order; the first that fails refuses:

 1. No incompatible, compatible or autoclear feature, header field or extension that is not known here.
 2. No external data file, by feature bit or by name.
 3. Not marked corrupt; a base not marked dirty either, since nobody writes to it.
 4. Data is encrypted, with LUKS, and its key area lies in the file; nothing else is: nobody could read it.
 5. No snapshots and no bitmaps inside: both are states that nobody signed, bound or compared.
 6. A compression that is known; what a host made has none but deflate, as QEMU makes it.
 7. A backing file has its format beside it, so that nothing is guessed; data has no backing file.
 8. Sizes that are possible, and tables that lie in the file, each on a cluster of its own.

Not checked: what the tables hold. A damaged table is QEMU's to refuse; it names nothing outside of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from hypervisor import qcow2
from hypervisor.errors import Qcow2Refused
from hypervisor.qcow2 import Qcow2Header

Kind = Literal["base", "overlay", "data"]

MAX_VIRTUAL_SIZE = 2**46
"""Bytes of a disk: 64 TiB."""

MAX_KEY_AREA = 8 * 2**20
"""Bytes of a LUKS header with its key slots; QEMU's has 2 MiB."""

LUKS = 2
"""As the header's method of encryption."""

MAX_L1_BYTES = 32 * 2**20
MAX_REFCOUNT_BYTES = 8 * 2**20
"""Of QEMU itself (``block/qcow2.h``); with larger tables an image takes memory of the host before a guest runs."""

FORMATS = ("qcow2", "raw")
"""What a backing file may be."""

_INCOMPATIBLE = (
    qcow2.DIRTY | qcow2.CORRUPT | qcow2.EXTERNAL_DATA | qcow2.COMPRESSION_TYPE | qcow2.EXTENDED_L2
)  # fmt: skip
_COMPRESSIONS = {"base": (0, 1), "overlay": (0,), "data": (0,)}
_CONVERT = "make it again from a disk that you trust: `qemu-img convert -O raw` of it makes one without such things"
_AGAIN = "put back what was there at the VM's last stop; else `vmgate vm delete` lets its next start make it anew"


def require_plain(header: Qcow2Header, length: int, kind: Kind, what: str) -> None:
    """Refuse an image that has anything which vmgate does not take.

    Args:
        header: the image's.
        length: bytes of its file.
        kind: one of ``Kind``.
        what: the image, for the error.

    Raises:
        Qcow2Refused: it has; the error names the feature.
    """
    for feature, cause in _found(header, length, kind):
        raise Qcow2Refused(
            f"{what} was not used", cause=cause, remedy=_CONVERT if kind == "base" else _AGAIN, feature=feature
        )


def _found(header: Qcow2Header, length: int, kind: Kind) -> Iterator[tuple[str, str]]:
    """What is wrong: a name of the feature, and a sentence."""
    yield from _unknown(header, kind)
    if header.data_file is not None or header.incompatible & qcow2.EXTERNAL_DATA:
        named = f", {header.data_file!r:.200}" if header.data_file else ""
        yield "external-data-file", f"its content lies in an external data file{named}"
    if header.autoclear & qcow2.RAW_EXTERNAL_DATA:
        yield "external-data-file", "it says that it has a raw external data file"
    if header.incompatible & qcow2.CORRUPT:
        yield "corrupt", "it is marked corrupt"
    if kind == "base" and header.incompatible & qcow2.DIRTY:
        yield "dirty", "it was not closed: its reference counts are not up to date"
    yield from _encryption(header, length, kind)
    if header.snapshots:
        yield "snapshots", f"it has {header.snapshots} snapshots inside"
    if header.bitmaps or header.autoclear & qcow2.BITMAPS_CONSISTENT:
        yield "bitmaps", f"it has {header.bitmaps} dirty bitmaps inside"
    if header.compression not in _COMPRESSIONS[kind]:
        yield "compression", f"its compression type is {header.compression}"
    if kind == "data" and header.backing_file is not None:
        yield "backing-file", "it stands on another image"
    if header.backing_file is None and header.backing_format is not None:
        yield "backing-format", "it names the format of a backing file and no backing file"
    if header.backing_file is not None and header.backing_format not in FORMATS:
        said = "not said" if header.backing_format is None else f"{header.backing_format!r:.60}"
        yield "backing-format", f"the format of its backing file is {said}, and would be guessed"
    yield from _impossible(header, length)


def _encryption(header: Qcow2Header, length: int, kind: Kind) -> Iterator[tuple[str, str]]:
    if kind != "data":
        if header.encryption or qcow2.ENCRYPTION_HEADER in header.extensions:
            yield "encryption", f"it is encrypted (method {header.encryption})"
        return
    if header.encryption != LUKS or header.key_area is None:
        yield "encryption", f"it is not encrypted with LUKS (method {header.encryption})"
        return
    offset, size = header.key_area
    if not 1 <= size <= MAX_KEY_AREA or offset < 1 << header.cluster_bits or offset + size > length:
        yield "encryption", f"its key area of {size} bytes at {offset} does not lie in the file"


def _unknown(header: Qcow2Header, kind: Kind) -> Iterator[tuple[str, str]]:
    for name, bits, known in (
        ("incompatible", header.incompatible, _INCOMPATIBLE),
        ("compatible", header.compatible, qcow2.LAZY_REFCOUNTS),
        ("autoclear", header.autoclear, qcow2.BITMAPS_CONSISTENT | qcow2.RAW_EXTERNAL_DATA),
    ):
        if bits & ~known:
            yield f"unknown-{name}", f"it has {name} features that are not known here: {bits & ~known:#x}"
    if header.further:
        yield "unknown-field", "its header has fields that are not known here"
    known_extensions = qcow2.KNOWN_EXTENSIONS | (set() if kind == "base" else {qcow2.GENERATION})
    for extension in header.extensions:
        if extension not in known_extensions:
            yield "unknown-extension", f"it has header extension {extension:#010x}, which is not known here"


def _impossible(header: Qcow2Header, length: int) -> Iterator[tuple[str, str]]:
    cluster = 1 << header.cluster_bits
    if not 1 <= header.virtual_size <= MAX_VIRTUAL_SIZE:
        yield "size", f"a disk of {header.virtual_size} bytes is none, or more than {MAX_VIRTUAL_SIZE}"
    # Entries of 8 bytes in a level 2 table of one cluster; of 16 with subclusters (section "Extended L2 Entries").
    entry_bits = 4 if header.incompatible & qcow2.EXTENDED_L2 else 3
    needed = -(-header.virtual_size >> (2 * header.cluster_bits - entry_bits))
    if header.l1_entries < needed:
        yield "size", f"a table of {header.l1_entries} entries is too short for a disk of {header.virtual_size} bytes"
    for name, offset, size, most in (
        ("table of clusters", header.l1_offset, header.l1_entries * 8, MAX_L1_BYTES),
        ("table of reference counts", header.refcount_offset, header.refcount_clusters * cluster, MAX_REFCOUNT_BYTES),
    ):
        if size > most:
            yield "size", f"its {name} has {size} bytes, more than {most}"
        if not size or offset < cluster or offset % cluster or offset + size > length:
            yield "size", f"its {name} does not lie in the file"
