# SPDX-License-Identifier: Apache-2.0
"""Headers of qcow2 images, written field by field after QEMU's ``docs/interop/qcow2.rst``; good ones and others.

Independent of the parser under test: numbers stand here as the specification gives them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What is written. The attributes are those of ``Qcow2Header``, with raw numbers where it has meanings.

    Attributes:
        extensions: type and content of each header extension.
        name_at: where the backing file's name lies; None for behind the extensions.
        name_length: what the header says of it; None for the truth.
        tail: bytes of the header that stand behind byte 104, in version 3.
    """

    version: int = 3
    size: int = 1 << 20
    cluster_bits: int = 16
    name: bytes = b""
    name_at: int | None = None
    name_length: int | None = None
    encryption: int = 0
    l1_entries: int = 1
    l1_offset: int = 0x30000
    refcount_offset: int = 0x10000
    refcount_clusters: int = 1
    snapshots: int = 0
    snapshots_offset: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int | None = None
    tail: bytes = bytes(8)
    extensions: tuple[tuple[int, bytes], ...] = field(default=())

    def encode(self) -> bytes:
        """The bytes, up to the end of the name."""
        body = b"".join(
            struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8) for kind, data in self.extensions
        )
        own = 72 if self.version == 2 else 104 + len(self.tail)
        body += bytes(8)
        at = own + len(body) if self.name_at is None else self.name_at
        head = struct.pack(
            ">4sIQIIQIIQQIIQ",
            *(b"QFI\xfb", self.version),
            *(at if self.name else 0, len(self.name) if self.name_length is None else self.name_length),
            *(self.cluster_bits, self.size, self.encryption, self.l1_entries, self.l1_offset),
            *(self.refcount_offset, self.refcount_clusters, self.snapshots, self.snapshots_offset),
        )
        if self.version != 2:
            length = own if self.length is None else self.length
            features = (self.incompatible, self.compatible, self.autoclear)
            head += struct.pack(">QQQII", *features, self.refcount_order, length) + self.tail
        data = head + body
        return data[:at].ljust(at, b"\0") + self.name if self.name else data


RAW = (0xE2792ACA, b"raw")
QCOW2 = (0xE2792ACA, b"qcow2")
DATA_FILE = (0x44415441, b"/etc/shadow")
NAMES = (0x6803F857, struct.pack(">BB46s", 0, 0, b"dirty bit"))
BITMAPS = (0x23852875, struct.pack(">IIQQ", 1, 0, 24, 0x50000))
LUKS = (0x0537BE77, struct.pack(">QQ", 0x40000, 4096))

GOOD = (
    Written(),
    Written(version=2),
    Written(version=2, name=b"base.img", extensions=(RAW,)),
    Written(name=b"/var/lib/vmgate/store/ab/base", extensions=(RAW, NAMES), compatible=1),
    Written(name=b"below.qcow2", extensions=(QCOW2,), cluster_bits=9, l1_entries=32, l1_offset=1024),
    Written(incompatible=8, tail=b"\1" + bytes(7), extensions=(NAMES,)),
    Written(incompatible=4, autoclear=2, extensions=(DATA_FILE, NAMES)),
    Written(autoclear=1, extensions=(BITMAPS,), tail=b""),
    Written(encryption=2, extensions=(LUKS,), snapshots=3, snapshots_offset=0x60000),
    Written(incompatible=16, cluster_bits=14),
)
"""Well-formed, whether an image may have it or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenDisk:
    """A whole image with its tables, in clusters of 512 bytes; a table of level 2 has 64 entries.

    Attributes:
        size: bytes of the disk.
        clusters: what is there, by the number of the cluster: bytes; or None for one that is marked as zeros.
        compressed: numbers of those that are deflated.
        version: 2 or 3.
        entries: entries of level 2 that stand in place of the right ones.
        tables: entries of level 1 that do.
    """

    size: int
    clusters: dict[int, bytes | None] = field(default_factory=dict)
    compressed: frozenset[int] = frozenset()
    version: int = 3
    entries: dict[int, int] = field(default_factory=dict)
    tables: dict[int, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Header, table of reference counts (left empty: nobody reads it), level 1, and then tables and data."""
        many = -(-self.size // (512 * 64))
        level_1 = [0] * max(1, many)
        start = 1024 + 512 * (-(-len(level_1) * 8 // 512))
        data = bytearray()
        tables = {at // 64 for at in (*self.clusters, *self.entries)}
        for table in sorted(tables):
            level_2 = [0] * 64
            for at, held in self.clusters.items():
                if at // 64 == table:
                    level_2[at % 64] = self._place(data, start, at, held)
            for at, entry in self.entries.items():
                if at // 64 == table:
                    level_2[at % 64] = entry
            level_1[table] = 1 << 63 | (start + len(data))
            data += struct.pack(">64Q", *level_2)
        for table, entry in self.tables.items():
            level_1[table] = entry
        header = Written(
            version=self.version, size=self.size, cluster_bits=9, l1_entries=len(level_1), l1_offset=1024,
            refcount_offset=512, refcount_clusters=1,
        ).encode()  # fmt: skip
        head = header.ljust(1024, b"\0") + struct.pack(f">{len(level_1)}Q", *level_1)
        return head.ljust(start, b"\0") + bytes(data)

    def _place(self, data: bytearray, start: int, at: int, held: bytes | None) -> int:
        """Append what a cluster holds; returns its entry."""
        if held is None:
            return 1
        offset = start + len(data)
        if at not in self.compressed:
            data += held
            return 1 << 63 | offset
        packer = zlib.compressobj(9, zlib.DEFLATED, -12)
        packed = packer.compress(held) + packer.flush()
        data += packed + bytes(-len(packed) % 512)
        # Clusters of 2^9 bytes: 61 bits of offset, then the number of further sectors.
        return 1 << 62 | (-(-len(packed) // 512) - 1) << 61 | offset
