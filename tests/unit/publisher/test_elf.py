# SPDX-License-Identifier: Apache-2.0
"""What a program is linked with is read as the loader would read it, and all of it must be in the image."""

from __future__ import annotations

import re
import struct
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.elf import Linked, read_linked
from publisher.errors import VmmWrong
from publisher.linking import MAIN, library_path


def linked_program(needed: bytes = b"libc.so.6", *, tag: int = 1, machine: int = 62) -> bytes:
    """A small program: one loaded segment, in it a dynamic section and its strings."""
    strings, dynamic = 0x200, 0x100
    header = b"\x7fELF\x02\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0x1000, 0, 0x300, 0x300, 4096)
    section = struct.pack("<IIQQQQQQ", 2, 4, dynamic, 0x1000 + dynamic, 0, 48, 48, 8)
    entries = struct.pack("<qQqQqQ", tag, 1, 5, 0x1000 + strings, 0, 0)
    program = (header + load + section).ljust(dynamic, b"\0") + entries
    return (program.ljust(strings, b"\0") + b"\0" + needed + b"\0").ljust(0x300, b"\0")


@cache
def real() -> bytes:
    return Path("/usr/bin/swtpm").read_bytes()


@pytest.mark.parametrize("name", ["swtpm", "qemu-img", "virsh"])
def test_readelf_reads_the_same(name: str) -> None:
    path = Path("/usr/bin", name)
    said = subprocess.run(["readelf", "-dW", path], check=True, capture_output=True, text=True).stdout
    found = read_linked(path.read_bytes())
    assert found is not None
    assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", said)
    assert list(found.last) == re.findall(r"\(RUNPATH\).*\[(.*)\]", said)


def test_what_is_no_program_of_this_machine_is_left_alone() -> None:
    assert read_linked(b"#!/bin/sh\n") is None
    assert read_linked(b"") is None
    assert read_linked(linked_program(machine=183)) is None
    assert read_linked(linked_program()) == Linked(needed=("libc.so.6",))
    assert read_linked(linked_program(b"/opt/lib:$ORIGIN", tag=15)) == Linked(first=("/opt/lib", "$ORIGIN"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data[:40], "ends within"),
        (lambda data: data[:0x110], "ends within"),
        (lambda data: data[:39] + b"\xff" + data[40:], "ends within"),
        (lambda data: data[:54] + b"\1\0" + data[56:], "another size"),
        (
            lambda data: data.replace(struct.pack("<Q", 0x1200), struct.pack("<Q", 0x9000)),
            "an address that holds nothing",
        ),
        (lambda data: data[:0x201] + b"x" * 0xFF, "without an end"),
        (lambda data: data[:0x120] + struct.pack("<qQ", 1, 1) * 30, "without an end"),
    ],
)
def test_a_damaged_program_is_refused(damage, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_linked(damage(linked_program()))


@given(place=st.integers(0, 4095), value=st.integers(0, 255), end=st.integers(0, 40_000))
def test_any_program_is_read_or_refused(place: int, value: int, end: int) -> None:
    data = bytearray(real())
    data[place] = value
    for untrusted in (bytes(data), bytes(data[:end])):
        try:
            found = read_linked(untrusted)
        except ValueError:
            continue
        assert found is None or isinstance(found, Linked)


def test_the_loader_is_told_all_folders() -> None:
    linked = {
        "/usr/bin/swtpm": Linked(needed=("libc.so.6", "libswtpm.so.0"), last=("/usr/lib/swtpm",)),
        "/usr/lib/x/plugin.so": Linked(needed=("libbeside.so",), last=("$ORIGIN",)),
    }
    paths = [f"{MAIN}/libc.so.6", f"{MAIN}/swtpm/libswtpm.so.0", "/usr/lib/x/libbeside.so", "/usr/bin/swtpm"]
    assert library_path(linked, paths) == (MAIN, f"{MAIN}/swtpm")


def test_a_library_that_is_not_there_is_refused() -> None:
    with pytest.raises(VmmWrong, match=r"/usr/bin/a is linked with 'libgone.so', which is not there"):
        library_path({"/usr/bin/a": Linked(needed=("libgone.so",))}, ["/usr/bin/a"])


def test_a_program_that_looks_on_the_host_first_is_refused() -> None:
    linked = {"/usr/bin/a": Linked(needed=("libc.so.6",), first=("/usr/lib/own",))}
    with pytest.raises(VmmWrong, match="'/usr/lib/own' first"):
        library_path(linked, [f"{MAIN}/libc.so.6"])
