# SPDX-License-Identifier: Apache-2.0
"""Kernel images behind systemd's real stub, signed by the real ``sbsign``: read as they are, or refused."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.errors import HostImageWrong
from publisher.uki import MEASURED, Uki, read_uki

HOST = Path("host.efi")
PARTS = {
    ".pcrpkey": b"public key",
    ".dtb": b"tree",
    ".splash": b"BM",
    ".osrel": b"ID=test\n",
    ".uname": b"6.1.0",
    ".cmdline": b"quiet root=x\n",
    ".initrd": b"initrd" * 1000,
    ".linux": b"kernel" * 1001,
}
HEADERS = 0x400
"""SizeOfHeaders of the stub."""


@pytest.fixture(scope="module")
def path(make_uki: Callable[..., Path]) -> Path:
    return make_uki(PARTS)


@pytest.fixture(scope="module")
def uki(path: Path) -> bytes:
    return path.read_bytes()


def optional(uki: bytes) -> int:
    """Where the optional header starts (Microsoft PE Format)."""
    return int(struct.unpack_from("<I", uki, 0x3C)[0]) + 24


def signatures(uki: bytes) -> tuple[int, int]:
    """Start and length of the attribute certificate table."""
    start, length = struct.unpack_from("<II", uki, optional(uki) + 144)
    return int(start), int(length)


def patched(uki: bytes, start: int, new: bytes) -> bytes:
    return uki[:start] + new + uki[start + len(new) :]


def row(uki: bytes, name: bytes, field: int) -> int:
    """Where a field of a section's header is; the fields are counted in 32-bit numbers behind the name."""
    return uki.index(name.ljust(8, b"\0"), 0, HEADERS) + 8 + 4 * field


def test_its_digest_is_the_one_that_sbsign_signed(uki: bytes) -> None:
    start, _ = signatures(uki)
    read = read_uki(uki, HOST)
    # SpcIndirectDataContent ends with the digest, as an OCTET STRING.
    assert b"\x04\x20" + bytes.fromhex(read.boot_application) in uki[start:]
    assert read.command_line == b"quiet root=x"


def test_its_sections_are_what_objcopy_takes_out(uki: bytes, tmp_path: Path) -> None:
    (tmp_path / "host.efi").write_bytes(uki)
    expected = []
    for name in MEASURED:
        command = ["objcopy", "-O", "binary", "--only-section", name, "host.efi", "section"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        found = (tmp_path / "section").read_bytes()
        assert found == PARTS[name]
        expected.append((name, hashlib.sha256(found).hexdigest()))
    assert read_uki(uki, HOST).sections == tuple(expected)


def test_a_second_signature_changes_no_digest(uki: bytes, make_uki: Callable[..., Path]) -> None:
    start, length = signatures(uki)
    theirs = make_uki(PARTS, "other").read_bytes()
    their_start, their_length = signatures(theirs)
    entry = struct.pack("<II", start, length + their_length)
    both = patched(uki, optional(uki) + 144, entry) + theirs[their_start:]
    one, two = read_uki(uki, HOST), read_uki(both, HOST)
    assert two.signatures == one.signatures + read_uki(theirs, HOST).signatures
    assert replace(two, signatures=one.signatures) == one


def test_what_nobody_signed_is_refused(make_uki: Callable[..., Path]) -> None:
    with pytest.raises(HostImageWrong, match="nobody signed it"):
        read_uki(make_uki(PARTS, None).read_bytes(), HOST)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({".cmdline": None}, "no command line"),
        ({".dtbauto": b"x"}, "more than .dtb is called so"),
        ({".initrd2": b"x"}, "more than .initrd is called so"),
    ],
)
def test_sections_that_the_stub_would_take_otherwise_are_refused(
    make_uki: Callable[..., Path], changes: dict[str, bytes | None], cause: str
) -> None:
    parts = {name: content for name, content in {**PARTS, **changes}.items() if content is not None}
    with pytest.raises(HostImageWrong, match=cause):
        read_uki(make_uki(parts).read_bytes(), HOST)


def at(name: bytes, field: int, value: int) -> Callable[[bytes], bytes]:
    return lambda uki: patched(uki, row(uki, name, field), struct.pack("<I", value))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda uki: uki[:0], "not an EFI program"),
        (lambda uki: uki[:2], "ends within its headers"),
        (lambda uki: b"#!/bin/sh\n" + uki, "not an EFI program"),
        (lambda uki: patched(uki, optional(uki), b"\x0b\x01"), "not a 64-bit EFI program"),
        (lambda uki: patched(uki, optional(uki) + 108, b"\x11"), "optional header"),
        (lambda uki: patched(uki, optional(uki) - 18, b"\x00\x00"), "section table"),
        (lambda uki: patched(uki, optional(uki) - 18, b"\x61\x00"), "section table"),
        (lambda uki: uki.replace(b"systemd-stub 252", b"systemd-stub 255"), "stub 252"),
        (lambda uki: patched(uki, row(uki, b".sdmagic", -2), b".nomagic"), "stub 252"),
        (lambda uki: patched(uki, row(uki, b".osrel", -2), b".linux\0\0"), "more than .linux"),
        (at(b".initrd", 0, 0), "empty, or larger"),
        (at(b".initrd", 0, 7_000), "empty, or larger"),
        (at(b".initrd", 1, 0x4000), "overlaps another in memory"),
        (at(b".linux", 1, 0x100000), "overlaps another in memory"),
        (at(b".initrd", 2, 0x200), "overlaps another or leaves a gap"),
        (at(b".linux", 3, 0x400), "overlaps another or leaves a gap"),
        (at(b".linux", 2, 2**32 - 512), "reach into its signatures"),
        (lambda uki: uki + bytes(8), "do not stand at its end"),
        (lambda uki: uki[:-8], "do not stand at its end"),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(uki: bytes, change: Callable[[bytes], bytes], cause: str) -> None:
    read_uki(uki, HOST)
    changed = change(uki)
    assert changed != uki
    with pytest.raises(HostImageWrong, match=cause) as caught:
        read_uki(changed, HOST)
    assert str(HOST) in caught.value.line()


def read(uki: bytes) -> Uki | None:
    """As it is read; None if it is refused. Anything else fails the test."""
    try:
        return read_uki(uki, HOST)
    except HostImageWrong:
        return None


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_each_changed_byte_of_the_headers_is_refused_or_changes_the_digest(uki: bytes, mask: int) -> None:
    before = read_uki(uki, HOST)
    check_sum = range(optional(uki) + 64, optional(uki) + 68)
    seen = 0
    for position in range(HEADERS):
        found = read(patched(uki, position, bytes([uki[position] ^ mask])))
        if position in check_sum:
            assert found == before
        elif found is not None:
            seen += 1
            assert found.boot_application != before.boot_application, position
    assert seen > 100


def test_an_image_that_ends_early_is_refused(uki: bytes) -> None:
    for length in [*range(HEADERS + 1), *range(HEADERS, len(uki), 997), len(uki) - 1]:
        assert read(uki[:length]) is None, length


@settings(max_examples=200)
@given(data=st.data())
def test_any_image_is_read_or_refused(path: Path, data: st.DataObject) -> None:
    uki = path.read_bytes()
    start, length = signatures(uki)
    places = st.integers(0, HEADERS) | st.integers(start, start + length - 1) | st.integers(HEADERS, start - 1)
    changed = bytearray(uki)
    for position, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        changed[position] = value
    found = read(bytes(changed))
    if found is not None:
        left_out = slice(optional(uki) + 64, optional(uki) + 68)
        changed[left_out] = uki[left_out]
        before = read_uki(uki, HOST)
        assert (found.boot_application == before.boot_application) == (changed[:start] == uki[:start])
