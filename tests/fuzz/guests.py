# SPDX-License-Identifier: Apache-2.0
"""Guests as their memory shows them: hostile cores, tables, types, symbols, lists, and a captured reader's answers."""

from __future__ import annotations

import struct
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from documents.canonical import encode
from hypervisor.introspection.answers import VIEWS, read_answer
from hypervisor.introspection.btf import Types
from hypervisor.introspection.elf_core import ElfCore
from hypervisor.introspection.elsewhere import MAX_MODULES, MAX_TASKS
from hypervisor.introspection.kallsyms import find_symbols
from hypervisor.introspection.kernel import SYMBOLS, Kernel, find_kernel
from hypervisor.introspection.pages import AddressSpace
from hypervisor.introspection.views import modules, tasks
from hypervisor.introspection.worker import look
from lab import guest_memory as made

PAGE = 4096
REGION = slice(made.NUMBERS, made.OBJECTS + 0x8800)
"""Physical: process numbers, tasks, credentials and modules."""
NAMES = ("init", "sh", "head", "kworker/0:1")


def cores() -> list[bytes]:
    return [made.core(bytes(2 * PAGE), cr3=0x1000, processors=count) for count in (1, 3)]


def check_core(folder: Path, untrusted: bytes) -> None:
    core = ElfCore(untrusted)
    assert core.processors
    assert len(core.read(0x10, PAGE)) == PAGE
    core.close()


def tables() -> list[bytes]:
    """Five pages of tables: the first leads to all others, and the last to itself."""
    memory = bytearray(5 * PAGE)
    for number in range(5):
        struct.pack_into("<3Q", memory, number * PAGE, (min(number + 1, 4) * PAGE) | 3, PAGE | 0x83, 2**30 | 0x83)
    return [bytes(memory)]


def check_pages(folder: Path, untrusted: bytes) -> None:
    core = ElfCore(made.core(untrusted or b"\0", cr3=0))
    found = 0
    for five in (False, True):
        space = AddressSpace(core, 0, five_levels=five)
        for _, _, size in islice(space.mapped(0, 1 << 27), 256):
            assert 0 < size <= 2**30
            found += 1
        if found:
            space.read(8, 16)


def types() -> list[bytes]:
    return [made.btf()]


def check_types(folder: Path, untrusted: bytes) -> None:
    found = Types(untrusted)
    for structure, members in made.MEMBERS.items():
        for member in members:
            assert 0 <= found.offset(structure, member) < 2**32


def symbols() -> list[bytes]:
    return [bytes(64) + made.kallsyms(late=late) + bytes(64) for late in (False, True)]


def check_symbols(folder: Path, untrusted: bytes) -> None:
    assert set(find_symbols(untrusted, made.BASE, SYMBOLS)) <= SYMBOLS


@cache
def _guest() -> tuple[bytearray, int, Kernel]:
    """A guest whose lists are exchanged in place; its kernel stays the same."""
    guest = made.guest(NAMES, ("virtio", "button"))
    core = bytearray(guest.core())
    return core, len(core) - len(guest.memory), find_kernel(ElfCore(memoryview(core)))


def lists() -> list[bytes]:
    return [bytes(made.guest(NAMES, ("virtio", "button")).memory[REGION])]


def check_lists(folder: Path, untrusted: bytes) -> None:
    core, start, kernel = _guest()
    size = REGION.stop - REGION.start
    core[start + REGION.start : start + REGION.stop] = untrusted[:size].ljust(size, b"\0")
    found: Any = {**tasks(kernel), **modules(kernel)}
    assert 0 < len(found["tasks"]) <= 2 * MAX_TASKS + 1
    assert len(found["modules"]) <= 3 * MAX_MODULES
    for entry in (*found["tasks"], *found["modules"]):
        assert entry["name"].isascii()
        assert not entry["name"] or entry["name"].isprintable()


def answers() -> list[bytes]:
    core = ElfCore(made.guest(NAMES).core())
    return [encode(look(core, view, "")) for view in VIEWS] + [encode({"cause": "it is not", "error": "HY043"})]


def check_answer(folder: Path, untrusted: bytes) -> None:
    view = next((view for view in VIEWS if f'"view":"{view}"'.encode() in untrusted), "tasks")
    assert read_answer(untrusted, view)["view"] == view
