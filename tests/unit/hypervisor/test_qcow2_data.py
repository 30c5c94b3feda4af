# SPDX-License-Identifier: Apache-2.0
"""A qcow2 image made flat: as its clusters say, and refused where a table names what is not there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.errors import Qcow2Malformed, Qcow2Refused
from hypervisor.qcow2 import parse_header
from hypervisor.qcow2_data import MAX_FLAT, flat_size, read_data
from lab.qcow2 import RAW, Written, WrittenDisk

CLUSTER = 512


@dataclass
class Bytes:
    """An image in memory."""

    data: bytes

    @property
    def length(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def flat(image: bytes) -> bytes:
    header = parse_header(image)
    disk = bytearray(flat_size(header, "disk"))
    for offset, data in read_data(header, Bytes(image)):
        disk[offset : offset + len(data)] = data
    assert len(disk) == header.virtual_size
    return bytes(disk)


HELD = st.one_of(st.none(), st.binary(min_size=CLUSTER, max_size=CLUSTER), st.just(b"a" * CLUSTER))


@given(
    clusters=st.dictionaries(st.integers(0, 199), HELD, max_size=12),
    compressed=st.frozensets(st.integers(0, 199), max_size=199),
    sectors=st.integers(1, 200),
)
def test_the_disk_is_what_its_clusters_hold(
    clusters: dict[int, bytes | None], compressed: frozenset[int], sectors: int
) -> None:
    there = {at: held for at, held in clusters.items() if at < sectors}
    expected = b"".join(there.get(at) or bytes(CLUSTER) for at in range(sectors))
    written = WrittenDisk(size=sectors * CLUSTER, clusters=there, compressed=compressed)
    assert flat(written.encode()) == expected
    if None not in there.values():
        assert flat(replace(written, version=2).encode()) == expected


def test_a_cluster_at_the_end_of_the_file_may_be_cut() -> None:
    image = WrittenDisk(size=2 * CLUSTER, clusters={0: b"a" * CLUSTER}).encode()
    # The data lies before its table; a table at the end is never cut.
    with pytest.raises(Qcow2Malformed):
        flat(image[:-1])


BEYOND = 1 << 40
WRONG = {
    "data beyond the file": WrittenDisk(size=CLUSTER, entries={0: BEYOND}),
    "data within a cluster": WrittenDisk(size=CLUSTER, entries={0: 1024 + 2}),
    "a reserved bit": WrittenDisk(size=CLUSTER, entries={0: 1 << 57 | 1024}),
    "another reserved bit": WrittenDisk(size=CLUSTER, entries={0: 1024 | 4}),
    "compressed and copied": WrittenDisk(size=CLUSTER, entries={0: 3 << 62 | 1024}),
    "compressed beyond the file": WrittenDisk(size=CLUSTER, entries={0: 1 << 62 | BEYOND}),
    "compressed rubbish": WrittenDisk(size=CLUSTER, entries={0: 1 << 62 | 512}),
    "zeros in version 2": WrittenDisk(size=CLUSTER, clusters={0: None}, version=2),
    "a table beyond the file": WrittenDisk(size=CLUSTER, tables={0: BEYOND}),
    "a table within a cluster": WrittenDisk(size=CLUSTER, tables={0: 1024 + 8}),
    "a reserved bit of a table": WrittenDisk(size=CLUSTER, tables={0: 1 << 60 | 1024}),
}


@pytest.mark.parametrize("defect", WRONG)
def test_what_cannot_be_meant_is_refused(defect: str) -> None:
    with pytest.raises(Qcow2Malformed):
        flat(WRONG[defect].encode())


def test_an_offset_of_zero_is_no_cluster_and_never_the_header() -> None:
    assert flat(WrittenDisk(size=CLUSTER, entries={0: 1 << 63}).encode()) == bytes(CLUSTER)


def test_a_compressed_cluster_never_gives_more_than_a_cluster() -> None:
    """A bomb: a megabyte of zeros deflates to a sector."""
    bomb = WrittenDisk(size=CLUSTER, clusters={0: bytes(2**20)}, compressed=frozenset({0}))
    with pytest.raises(Qcow2Malformed, match="compressed"):
        flat(replace(bomb, clusters={0: b"short"}).encode())
    assert len(flat(bomb.encode())) == CLUSTER


def test_a_small_file_cannot_name_the_same_clusters_for_a_large_disk() -> None:
    good = WrittenDisk(size=64 * CLUSTER, clusters={0: b"a" * CLUSTER})
    data_at = 1024 + CLUSTER
    entries = dict.fromkeys(range(1, 64), 1 << 63 | data_at)
    with pytest.raises(Qcow2Malformed, match="again and again"):
        flat(replace(good, entries=entries).encode())
    many = replace(good, clusters=dict.fromkeys(range(64), b"a" * CLUSTER), compressed=frozenset(range(64)))
    assert flat(many.encode()) == b"a" * CLUSTER * 64


@pytest.mark.parametrize(
    ("written", "feature"),
    [
        (Written(name=b"/etc/shadow", extensions=(RAW,)), "backing-file"),
        (Written(incompatible=16), "extended-l2"),
        (Written(incompatible=8, tail=b"\1" + bytes(7)), "compression"),
        (Written(size=MAX_FLAT + 512), "size"),
        (Written(size=1000), "size"),
    ],
)
def test_what_is_not_read_is_refused_and_the_fix_is_named(written: Written, feature: str) -> None:
    with pytest.raises(Qcow2Refused, match="qemu-img convert -O raw") as caught:
        flat_size(parse_header(written.encode()), "disk")
    assert caught.value.feature == feature
