# SPDX-License-Identifier: Apache-2.0
"""FPT_EEM_EXT.1 by proxy: programs of the VMM are built with the platform's mitigations, and the kernel has its own."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from lab.mitigations import STACK, missing

PROGRAMS = ("qemu-system-x86_64", "swtpm", "libvirtd", "virtlogd")


def program(name: str) -> bytes:
    found = shutil.which(name)
    assert found, name
    return Path(found).read_bytes()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_vmm_has_every_mitigation(name: str) -> None:
    assert missing(program(name)) == []


def test_what_lacks_one_is_found() -> None:
    """The same program with its stack made executable, and as one that lies at a fixed address without its guard."""
    good = bytearray(program("swtpm"))
    table, size, count = (struct.unpack_from(form, good, at)[0] for form, at in (("<Q", 32), ("<H", 54), ("<H", 56)))
    for at in range(table, table + size * count, size):
        if struct.unpack_from("<I", good, at)[0] == STACK:
            struct.pack_into("<I", good, at + 4, 7)
    struct.pack_into("<H", good, 16, 2)
    spoiled = bytes(good).replace(b"__stack_chk_fail", b"__nothing_at_all")
    assert missing(spoiled) == [
        "addresses drawn anew at each start", "a stack that is no code", "a guard behind its buffers"
    ]  # fmt: skip


def test_the_kernel_draws_addresses_anew() -> None:
    assert Path("/proc/sys/kernel/randomize_va_space").read_text() == "2\n"
