# SPDX-License-Identifier: Apache-2.0
"""Fuzzed of what is made on a host: disks of qcow2 images, libvirt domains that are taken over, definitions in TOML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from types import SimpleNamespace

from documents.definition import VmDefinition
from documents.definition_toml import read_definition
from documents.tables import read_table
from hypervisor.from_domain import take_over
from hypervisor.qcow2 import parse_header
from hypervisor.qcow2_data import flat_size, read_data
from hypervisor.qcow2_rules import require_plain
from lab.qcow2 import WrittenDisk

MIB = 1024 * 1024
DISKS = (
    WrittenDisk(size=70 * 512, clusters={0: b"a" * 512, 65: b"b" * 512}, compressed=frozenset({65})),
    WrittenDisk(size=4 * 512, clusters={1: None, 2: bytes(512)}, compressed=frozenset({2})),
    WrittenDisk(size=2 * 512, clusters={1: b"c" * 512}, version=2),
)
DOMAIN = b"<domain><memory unit='GiB'>2</memory><vcpu>4</vcpu><title>old</title><devices><disk/></devices></domain>"
DEFINITION = b"""\
name = "desk"
uuid = "00000000-0000-4000-8000-000000000001"
title = ""
machine = "pc-q35-7.2"
vcpus = 2
memory_mib = 2048
guardians = ["tpm"]

[introspection]
btf = "any"

[[disks]]
name = "root"
image = "debian"
class = "readonly"
"""
IMAGES = {"debian": SimpleNamespace(fsverity="ab" * 32, length=4096)}


@dataclass(frozen=True, slots=True)
class Image:
    """An image in memory (``hypervisor.qcow2_data.Source``)."""

    data: bytes

    @property
    def length(self) -> int:
        """Its bytes."""
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        """Nothing is asked for from before the file, nor more than the largest table has."""
        assert offset >= 0
        assert 0 <= length <= 32 * MIB
        return self.data[offset : offset + length]


def disks() -> list[bytes]:
    """Seeds."""
    return [disk.encode() for disk in DISKS]


def check_disk(folder: Path, untrusted: bytes) -> None:
    """What is read lies within the disk, in its order, a cluster at a time."""
    header = parse_header(untrusted)
    require_plain(header, len(untrusted), "base", "disk")
    size, end = flat_size(header, "disk"), 0
    for offset, data in read_data(header, Image(untrusted)):
        assert end <= offset < offset + len(data) <= size
        assert len(data) <= 1 << header.cluster_bits
        end = offset + len(data)


def check_domain(folder: Path, untrusted: bytes) -> None:
    """Only what a definition has is taken, and in its types."""
    taken = take_over(untrusted)
    assert set(taken.values) <= {"memory_mib", "vcpus", "title"}
    assert all(type(taken.values.get(name, 0)) is int for name in ("memory_mib", "vcpus"))
    assert len(taken.left) <= 50


def check_definition(folder: Path, untrusted: bytes) -> None:
    """What is read is a document, and has no image that was not known."""
    definition = read_definition(read_table(untrusted, PurePath("vm.toml")), IMAGES)
    assert VmDefinition.parse(definition.encode()) == definition
    assert {disk.image for disk in definition.disks} == {IMAGES["debian"].fsverity}
