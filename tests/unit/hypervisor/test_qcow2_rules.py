# SPDX-License-Identifier: Apache-2.0
"""What an image may have: for each thing that is refused, an image that is good but for it."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from hypervisor.errors import ImageNotRaw, Qcow2Refused
from hypervisor.image_formats import FORMATS, probe, require_raw
from hypervisor.qcow2 import parse_header
from hypervisor.qcow2_rules import Kind, require_plain
from lab.qcow2 import BITMAPS, DATA_FILE, LUKS, NAMES, QCOW2, RAW, Written

LENGTH = 0x60000
GOOD = Written()
OVERLAY = Written(name=b"base", extensions=(RAW, NAMES))
REFUSED: dict[str, tuple[str, Written]] = {
    "bit-2": ("external-data-file", replace(GOOD, incompatible=4)),
    "data-file": ("external-data-file", replace(GOOD, extensions=(DATA_FILE,))),
    "data-file-both": ("external-data-file", replace(GOOD, incompatible=4, extensions=(DATA_FILE,))),
    "raw-external": ("external-data-file", replace(GOOD, autoclear=2)),
    "corrupt": ("corrupt", replace(GOOD, incompatible=2)),
    "aes": ("encryption", replace(GOOD, encryption=1)),
    "luks": ("encryption", replace(GOOD, encryption=2, extensions=(LUKS,))),
    "luks-header-alone": ("encryption", replace(GOOD, extensions=(LUKS,))),
    "encryption-unknown": ("encryption", replace(GOOD, encryption=3)),
    "snapshot": ("snapshots", replace(GOOD, snapshots=1)),
    "bitmap": ("bitmaps", replace(GOOD, extensions=(BITMAPS,))),
    "bitmap-bit": ("bitmaps", replace(GOOD, autoclear=1)),
    "compression-unknown": ("compression", replace(GOOD, incompatible=8, tail=b"\2" + bytes(7))),
    "format-missing": ("backing-format", replace(GOOD, name=b"base")),
    "format-luks": ("backing-format", replace(GOOD, name=b"base", extensions=((RAW[0], b"luks"),))),
    "format-alone": ("backing-format", replace(GOOD, extensions=(QCOW2,))),
    "incompatible-unknown": ("unknown-incompatible", replace(GOOD, incompatible=32)),
    "incompatible-last": ("unknown-incompatible", replace(GOOD, incompatible=1 << 63)),
    "compatible-unknown": ("unknown-compatible", replace(GOOD, compatible=2)),
    "autoclear-unknown": ("unknown-autoclear", replace(GOOD, autoclear=4)),
    "field-unknown": ("unknown-field", replace(GOOD, tail=bytes(8) + b"\1" * 8)),
    "extension-unknown": ("unknown-extension", replace(GOOD, extensions=((7, b"x"),))),
    "size-0": ("size", replace(GOOD, size=0)),
    "size-huge": ("size", replace(GOOD, size=2**46 + 1, l1_entries=2**20)),
    "l1-short": ("size", replace(GOOD, size=2**40)),
    "l1-huge": ("size", replace(GOOD, l1_entries=2**32 - 1)),
    "l1-in-header": ("size", replace(GOOD, l1_offset=0)),
    "l1-unaligned": ("size", replace(GOOD, l1_offset=0x30008)),
    "l1-beyond": ("size", replace(GOOD, l1_offset=LENGTH)),
    "refcounts-none": ("size", replace(GOOD, refcount_clusters=0)),
    "refcounts-huge": ("size", replace(GOOD, refcount_clusters=2**31)),
    "refcounts-beyond": ("size", replace(GOOD, refcount_offset=2**63)),
}
ONE_KIND: dict[str, tuple[Kind, str, Written]] = {
    "dirty-base": ("base", "dirty", replace(GOOD, incompatible=1)),
    "zstd-overlay": ("overlay", "compression", replace(OVERLAY, incompatible=8, tail=b"\1" + bytes(7))),
}


@pytest.mark.parametrize("kind", ["base", "overlay"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_an_image_may_not_have_is_refused_by_name(name: str, kind: Kind) -> None:
    feature, image = REFUSED[name]
    with pytest.raises(Qcow2Refused) as caught:
        require_plain(parse_header(image.encode()), LENGTH, kind, "disk system")
    assert caught.value.feature == feature
    assert "disk system" in caught.value.line()
    assert caught.value.remedy


@pytest.mark.parametrize("name", ONE_KIND)
def test_what_only_the_other_kind_may_have(name: str) -> None:
    kind, feature, image = ONE_KIND[name]
    header = parse_header(image.encode())
    with pytest.raises(Qcow2Refused) as caught:
        require_plain(header, LENGTH, kind, "disk")
    assert caught.value.feature == feature
    require_plain(header, LENGTH, "overlay" if kind == "base" else "base", "disk")


@pytest.mark.parametrize("kind", ["base", "overlay"])
@pytest.mark.parametrize(
    "image",
    [
        GOOD,
        OVERLAY,
        replace(OVERLAY, extensions=(QCOW2,)),
        replace(GOOD, version=2),
        replace(GOOD, compatible=1),
        replace(GOOD, incompatible=16),
        # The largest disk that a table of one entry holds, and the first that needs two.
        replace(GOOD, size=2**29),
        replace(GOOD, size=2**29 + 512, l1_entries=2),
    ],
)
def test_a_plain_image_is_taken(image: Written, kind: Kind) -> None:
    require_plain(parse_header(image.encode()), LENGTH, kind, "disk")


def test_one_byte_more_than_its_table_holds_is_refused() -> None:
    for image in (replace(GOOD, size=2**29 + 512), replace(GOOD, incompatible=16, size=2**28 + 512)):
        with pytest.raises(Qcow2Refused):
            require_plain(parse_header(image.encode()), LENGTH, "base", "disk")


DATA = replace(GOOD, encryption=2, extensions=((0x0537BE77, struct.pack(">QQ", 0x40000, 0x1000)),))
NOT_DATA: dict[str, tuple[str, Written]] = {
    "plain": ("encryption", GOOD),
    "aes": ("encryption", replace(DATA, encryption=1)),
    "no-key-area": ("encryption", replace(DATA, extensions=())),
    "key-area-empty": ("encryption", replace(DATA, extensions=((0x0537BE77, struct.pack(">QQ", 0x40000, 0)),))),
    "key-area-huge": ("encryption", replace(DATA, extensions=((0x0537BE77, struct.pack(">QQ", 0x40000, 2**40)),))),
    "key-area-beyond": ("encryption", replace(DATA, extensions=((0x0537BE77, struct.pack(">QQ", 2**40, 4096)),))),
    "key-area-in-header": ("encryption", replace(DATA, extensions=((0x0537BE77, struct.pack(">QQ", 0, 4096)),))),
    "standing-on-a-base": ("backing-file", replace(DATA, name=b"/base", extensions=(*DATA.extensions, RAW))),
    "data-file": ("external-data-file", replace(DATA, extensions=(*DATA.extensions, DATA_FILE))),
    "snapshot": ("snapshots", replace(DATA, snapshots=1)),
}


@pytest.mark.parametrize("name", NOT_DATA)
def test_a_data_disk_is_encrypted_and_stands_alone(name: str) -> None:
    feature, image = NOT_DATA[name]
    require_plain(parse_header(DATA.encode()), LENGTH, "data", "disk")
    require_plain(parse_header(replace(DATA, incompatible=1).encode()), LENGTH, "data", "disk")
    with pytest.raises(Qcow2Refused) as caught:
        require_plain(parse_header(image.encode()), LENGTH, "data", "disk")
    assert caught.value.feature == feature


@pytest.mark.parametrize(("offset", "magic", "name"), FORMATS)
def test_an_image_that_begins_like_another_format_is_not_raw(offset: int, magic: bytes, name: str) -> None:
    head = bytes(offset) + magic + bytes(512)
    assert probe(head) == name
    with pytest.raises(ImageNotRaw) as caught:
        require_raw(head, "image base")
    assert caught.value.found == name
    assert "image base" in caught.value.line()


def test_what_its_header_aims_at_is_told() -> None:
    both = replace(GOOD, name=b"/etc/shadow", incompatible=4, extensions=(RAW, DATA_FILE))
    with pytest.raises(ImageNotRaw) as caught:
        require_raw(both.encode(), "image base")
    assert caught.value.names == ("/etc/shadow", "/etc/shadow")
    assert "/etc/shadow" in caught.value.line()
    for head in (GOOD.encode(), both.encode()[:90], replace(both, version=1).encode()):
        with pytest.raises(ImageNotRaw) as caught:
            require_raw(head, "image base")
        assert caught.value.names == ()
    long = replace(GOOD, name=b"/" + b"a" * 1000, extensions=(RAW,))
    with pytest.raises(ImageNotRaw) as caught:
        require_raw(long.encode(), "image base")
    assert len(caught.value.line()) < 900


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_descriptor_of_vmware_is_known_by_its_comments_or_its_version(version: int) -> None:
    for head in (b"# Disk DescriptorFile\n", b"# a comment\n\n  # another\n"):
        assert probe(head + f"version={version}\n".encode()) == "vmdk"


@pytest.mark.parametrize(
    "head",
    [b"", bytes(512), b"\xeb\x63\x90" + bytes(509), b"QFI", b"LUKS\xba\xbe\0\2", b"#!/bin/sh\n", b"\nversion=4\n"],
)
def test_a_raw_image_is_raw(head: bytes) -> None:
    assert probe(head) == "raw"
    require_raw(head, "image base")
