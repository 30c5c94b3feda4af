# SPDX-License-Identifier: Apache-2.0
"""The header of a qcow2 image, parsed from its first bytes and from nothing else. Pure and bounded.

The form is that of QEMU's ``docs/interop/qcow2.rst``, sections "Header", "Header extensions" and "Bitmaps extension".
Programs that open an image follow what its header names, and so can be made to read other files of the host: this
module names what stands there and follows nothing. What an image may have is judged by ``hypervisor.qcow2_rules``;
clusters, tables and snapshots are not read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NoReturn

from hypervisor.errors import Qcow2Malformed

MAGIC = b"QFI\xfb"
MAX_HEADER = 65_536
"""Bytes from the beginning of an image that are looked at: header, extensions and the backing file's name."""

MAX_NAME = 1023
"""Bytes of a backing file's name (section "Header", bytes 16 to 19)."""

MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MAX_REFCOUNT_ORDER = 6
MAX_EXTENSIONS = 32
"""Five are specified."""

V2_LENGTH, V3_LENGTH = 72, 104

DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION_TYPE, EXTENDED_L2 = (1 << bit for bit in range(5))
"""Incompatible features: an image with one that a program does not know must not be opened."""

LAZY_REFCOUNTS = 1
"""A compatible feature."""

BITMAPS_CONSISTENT, RAW_EXTERNAL_DATA = 1, 2
"""Autoclear features."""

END, BACKING_FORMAT, FEATURE_NAMES = 0x00000000, 0xE2792ACA, 0x6803F857
BITMAPS, ENCRYPTION_HEADER, DATA_FILE = 0x23852875, 0x0537BE77, 0x44415441
KNOWN_EXTENSIONS = frozenset({BACKING_FORMAT, FEATURE_NAMES, BITMAPS, ENCRYPTION_HEADER, DATA_FILE})

GENERATION = 0x564D4731
"""vmgate's own extension, "VMG1", in images that a host made: which clean stop the image is from. QEMU keeps what it
does not know (section "Header extensions")."""

GENERATION_SIZE = 16

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_VERSION_3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_BITMAPS = struct.Struct(">IIQQ")
_ENCRYPTION = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Qcow2Header:
    """What a header says; none of it is checked against the rest of the file.

    Attributes:
        version: 2 or 3.
        virtual_size: bytes of the disk that the guest sees.
        cluster_bits: a cluster has two to this power bytes.
        backing_file: name of the image below, as it stands there; None where there is none.
        backing_format: its format; None where the header leaves it to be guessed.
        data_file: name of an external data file, empty where only the feature bit says that there is one.
        encryption: 0 for none, 1 for AES, 2 for LUKS; other numbers have no meaning.
        incompatible, compatible, autoclear: feature bits; 0 in version 2.
        compression: 0 for deflate, 1 for zstd; other numbers have no meaning.
        refcount_bits: width of a reference count.
        snapshots: number of snapshots inside the image.
        bitmaps: number of dirty bitmaps.
        l1_entries, l1_offset: the table of the disk's clusters: entries of 8 bytes, and its place in bytes.
        refcount_clusters, refcount_offset: the table of the reference counts, in clusters, and its place in bytes.
        length: bytes of the header itself, without its extensions.
        extensions: types of the header extensions, in their order.
        further: whether the header has fields that are not specified, and not zero.
        generation: content of vmgate's own extension; empty where there is none.
        key_area: place and length of the LUKS header in bytes; None where there is no such extension.
    """

    version: int
    virtual_size: int
    cluster_bits: int
    backing_file: str | None = None
    backing_format: str | None = None
    data_file: str | None = None
    encryption: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    compression: int = 0
    refcount_bits: int = 16
    snapshots: int = 0
    bitmaps: int = 0
    l1_entries: int = 0
    l1_offset: int = 0
    refcount_clusters: int = 0
    refcount_offset: int = 0
    length: int = V3_LENGTH
    extensions: tuple[int, ...] = ()
    further: bool = False
    generation: bytes = b""
    key_area: tuple[int, int] | None = None


def parse_header(untrusted: bytes) -> Qcow2Header:
    """Parse the header of an image.

    Args:
        untrusted: its first bytes: the first ``MAX_HEADER``, or all where it has fewer.

    Raises:
        Qcow2Malformed: they are no header of version 2 or 3, or one that does not end within them.
    """
    data = untrusted[:MAX_HEADER]
    if len(data) < _HEADER.size:
        _refuse("it is too short for a header")
    fields = _HEADER.unpack_from(data)
    magic, version, name_offset, name_length, cluster_bits, size, encryption, l1_entries, l1_offset = fields[:9]
    refcount_offset, refcount_clusters, snapshots, _ = fields[9:]
    if magic != MAGIC:
        _refuse("it does not begin with the magic number")
    if version not in (2, 3):
        _refuse(f"version {version} is neither 2 nor 3")
    if not MIN_CLUSTER_BITS <= cluster_bits <= MAX_CLUSTER_BITS:
        _refuse(f"clusters of 2^{cluster_bits} bytes are not within 2^{MIN_CLUSTER_BITS} and 2^{MAX_CLUSTER_BITS}")
    # Header, extensions and name have their place in the first cluster.
    data = data[: 1 << cluster_bits]
    features = _Features.read(data, version)
    end = name_offset or len(data)
    extensions, after = _read_extensions(data, features.length, end)
    return Qcow2Header(
        version=version,
        virtual_size=size,
        cluster_bits=cluster_bits,
        backing_file=_read_name(data, name_offset, name_length, after),
        backing_format=_text(extensions.get(BACKING_FORMAT), "the backing file's format"),
        data_file=_data_file(extensions, features.incompatible),
        encryption=encryption,
        incompatible=features.incompatible,
        compatible=features.compatible,
        autoclear=features.autoclear,
        compression=features.compression,
        refcount_bits=1 << features.refcount_order,
        snapshots=snapshots,
        bitmaps=_count_bitmaps(extensions.get(BITMAPS)),
        l1_entries=l1_entries,
        l1_offset=l1_offset,
        refcount_clusters=refcount_clusters,
        refcount_offset=refcount_offset,
        length=features.length,
        extensions=tuple(extensions),
        further=features.further,
        generation=_read_generation(extensions.get(GENERATION)),
        key_area=_read_key_area(extensions.get(ENCRYPTION_HEADER)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Features:
    """What version 3 has more than version 2, with the values that the specification gives to version 2."""

    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = V2_LENGTH
    compression: int = 0
    further: bool = False

    @classmethod
    def read(cls, data: bytes, version: int) -> _Features:
        if version == 2:
            return cls()
        if len(data) < V3_LENGTH:
            _refuse("it is too short for a header of version 3")
        incompatible, compatible, autoclear, order, length = _VERSION_3.unpack_from(data, V2_LENGTH)
        if order > MAX_REFCOUNT_ORDER:
            _refuse(f"reference counts of 2^{order} bits are too wide")
        if not V3_LENGTH <= length <= len(data) or length % 8:
            _refuse(f"a header of {length} bytes is too short, too long or no multiple of 8")
        # Byte 104 is the compression type, zero where the header ends before it; the rest is not specified.
        compression = data[V3_LENGTH] if length > V3_LENGTH else 0
        if bool(compression) != bool(incompatible & COMPRESSION_TYPE):
            _refuse("the compression type and its feature bit do not say the same")
        return cls(
            incompatible=incompatible,
            compatible=compatible,
            autoclear=autoclear,
            refcount_order=order,
            length=length,
            compression=compression,
            further=any(data[V3_LENGTH + 1 : length]),
        )


def _read_extensions(data: bytes, start: int, end: int) -> tuple[dict[int, bytes], int]:
    """The extensions by their types, and where they end. They stand between the header and the backing file's name."""
    found: dict[int, bytes] = {}
    at = start
    if not start <= end <= len(data):
        _refuse("the backing file's name does not lie between the header and the end of the first cluster")
    while end - at >= _EXTENSION.size:
        kind, length = _EXTENSION.unpack_from(data, at)
        at += _EXTENSION.size
        # An image may also simply stop: with a name there, or a cluster full of extensions.
        if kind == END:
            return found, at
        if length > end - at:
            _refuse(f"header extension {kind:#010x} of {length} bytes does not fit")
        if kind in found or len(found) == MAX_EXTENSIONS:
            _refuse(f"header extension {kind:#010x} is there twice, or one of too many")
        found[kind] = data[at : at + length]
        at += (length + 7) & ~7
    return found, min(at, end)


def _read_name(data: bytes, offset: int, length: int, after: int) -> str | None:
    if offset == 0:
        return None
    if not 1 <= length <= MAX_NAME:
        _refuse(f"a backing file's name of {length} bytes is empty or longer than {MAX_NAME}")
    if offset < after or offset + length > len(data):
        _refuse("the backing file's name does not lie between the header and the end of the first cluster")
    return _text(data[offset : offset + length], "the backing file's name")


def _data_file(extensions: dict[int, bytes], incompatible: int) -> str | None:
    name = extensions.get(DATA_FILE)
    if name:
        return _text(name, "the external data file's name")
    return None if name is None and not incompatible & EXTERNAL_DATA else ""


def _count_bitmaps(extension: bytes | None) -> int:
    if extension is None:
        return 0
    if len(extension) != _BITMAPS.size:
        _refuse("the bitmaps extension has not 24 bytes")
    count, reserved, _, _ = _BITMAPS.unpack(extension)
    if reserved or not count:
        _refuse("the bitmaps extension names no bitmap, or has bits that are reserved")
    return int(count)


def _read_generation(extension: bytes | None) -> bytes:
    if extension is not None and len(extension) != GENERATION_SIZE:
        _refuse(f"the generation has not {GENERATION_SIZE} bytes")
    return extension or b""


def _read_key_area(extension: bytes | None) -> tuple[int, int] | None:
    if extension is None:
        return None
    if len(extension) != _ENCRYPTION.size:
        _refuse("the pointer to the encryption header has not 16 bytes")
    offset, length = _ENCRYPTION.unpack(extension)
    return int(offset), int(length)


def _text(value: bytes | None, what: str) -> str | None:
    """A name: UTF-8 that can be shown. One that could not be shown could not be compared by people either."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        _refuse(f"{what} is no text")
    if not text or len(value) > MAX_NAME or not text.isprintable():
        _refuse(f"{what} is empty, too long or not printable")
    return text


def _refuse(cause: str) -> NoReturn:
    raise Qcow2Malformed(
        "the image was not used", cause=f"its qcow2 header: {cause}", remedy="make the image again, or take a raw one"
    )
