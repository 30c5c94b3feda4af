# SPDX-License-Identifier: Apache-2.0
"""A guest is read from its memory, and a hostile one costs bounded work and gives an error or an honest word."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.errors import CoreMalformed, KernelMissing, MemoryUnreadable, TypesMalformed
from hypervisor.introspection.btf import Types
from hypervisor.introspection.drift import compare
from hypervisor.introspection.elf_core import ElfCore
from hypervisor.introspection.elsewhere import MAX_TASKS
from hypervisor.introspection.kallsyms import find_symbols
from hypervisor.introspection.pages import AddressSpace
from hypervisor.introspection.views import Walk
from hypervisor.introspection.worker import answered, look
from lab import guest_memory as made

NAMES = st.lists(st.text("abcdefghijklmnopqrstuvwxyz/0123456789_", min_size=1, max_size=15), max_size=12)


def seen(guest: made.Guest, view: str, digest: str = "") -> dict[str, Any]:
    return look(ElfCore(guest.core()), view, digest)


@settings(max_examples=10)
@given(names=NAMES, five=st.booleans())
def test_tasks_are_listed_as_the_kernel_lists_them(names: list[str], five: bool) -> None:
    found = seen(made.guest(names, five=five), "tasks")
    assert [task["name"] for task in found["tasks"]] == ["swapper/0", *names]
    assert [task["pid"] for task in found["tasks"]] == list(range(len(names) + 1))
    assert [task["kernel"] for task in found["tasks"]] == [True] + [False] * len(names)
    assert all(task["listed"] for task in found["tasks"])
    assert (found["ended"], found["compared"]) == ("whole", True)


def test_a_task_that_left_the_list_alone_is_seen_to_hide() -> None:
    guest = made.guest(("init", "rootkit", "sh"))
    tasks = made.MEMBERS["task_struct"]["tasks"]
    struct.pack_into("<Q", guest.memory, made.OBJECTS + tasks, made.direct(made.OBJECTS + 2048) + tasks)
    found = seen(guest, "tasks")
    assert [(task["pid"], task["name"], task["listed"]) for task in found["tasks"]] == [
        (0, "swapper/0", True), (1, "init", True), (3, "sh", True), (2, "rootkit", False)
    ]  # fmt: skip


@pytest.mark.parametrize("entry", [made.direct(made.NUMBERS) | 2, 7, made.direct(2**29), 2])
def test_process_numbers_that_lead_astray_end(entry: int) -> None:
    guest = made.guest(("init",))
    struct.pack_into("<Q", guest.memory, made.NUMBERS + 40 + 8 * 9, entry)
    found = seen(guest, "tasks")
    assert [task["name"] for task in found["tasks"]] == ["swapper/0", "init"]
    assert found["ended"] == ("broken" if entry in (made.direct(2**29), 2) else "whole")


def test_modules_are_listed() -> None:
    found = seen(made.guest(modules=("one", "two")), "modules")
    assert found["modules"] == [{"name": name, "state": 0, "listed": True} for name in ("one", "two")]
    assert (found["ended"], found["compared"]) == ("whole", True)


def test_a_module_that_left_the_list_alone_is_seen_to_hide() -> None:
    guest = made.guest(modules=("one", "rootkit", "two"))
    at, first = made.MEMBERS["module"]["list"], made.OBJECTS + 0x8000
    struct.pack_into("<Q", guest.memory, first + at, made.direct(first + 1024) + at)
    found = seen(guest, "modules")
    assert [(module["name"], module["listed"]) for module in found["modules"]] == [
        ("one", True), ("two", True), ("rootkit", False)
    ]  # fmt: skip
    assert found["ended"] == "whole"


@pytest.mark.parametrize("pointer", [1, made.direct(made.OBJECTS + 0x8000 + made.TREE_NODE + 8)])
def test_a_tree_of_modules_that_leads_astray_ends(pointer: int) -> None:
    guest = made.guest(modules=("one", "two"))
    struct.pack_into("<Q", guest.memory, made.OBJECTS + 0x8000 + made.TREE_NODE + 16, pointer)
    found = seen(guest, "modules")
    assert [module["name"] for module in found["modules"]] == ["one", "two"]
    assert found["ended"] == ("broken" if pointer == 1 else "whole")


def test_a_kernel_without_second_records_says_that_nothing_was_compared() -> None:
    guest = made.guest()
    symbols = {name: at for name, at in made.SYMBOLS.items() if name not in ("mod_tree", "init_pid_ns")}
    guest.put(made.SYMBOLS_AT, made.kallsyms(symbols).ljust(0x4000, b"\0"))
    for view, count in (("modules", 1), ("tasks", 3)):
        found = seen(guest, view)
        assert (len(found[view]), found["compared"]) == (count, False)


def test_a_name_of_the_guests_cannot_hide_what_stands_around_it() -> None:
    guest = made.guest(("init",))
    at = made.OBJECTS + made.MEMBERS["task_struct"]["comm"]
    guest.memory[at : at + 16] = b'a\x1b[2J\n\xe2\x80\xae;"b'.ljust(16, b"\0")
    assert seen(guest, "tasks")["tasks"][1]["name"] == 'a?[2J????;"b'


def test_a_list_that_comes_back_to_its_middle_ends() -> None:
    guest = made.guest(("a", "b", "c"))
    tasks = made.MEMBERS["task_struct"]["tasks"]
    struct.pack_into("<Q", guest.memory, made.OBJECTS + 2048 + tasks, made.direct(made.OBJECTS) + tasks)
    found = seen(guest, "tasks")
    assert found["ended"] == "loop"
    assert [task["name"] for task in found["tasks"]] == ["swapper/0", "a", "b", "c"]


@pytest.mark.parametrize("pointer", [0, 1, 2**64 - 1, 0x0000_8000_0000_0000, made.direct(2**29)])
def test_a_list_that_leads_outside_is_broken(pointer: int) -> None:
    guest = made.guest(("a", "b"))
    struct.pack_into("<Q", guest.memory, made.OBJECTS + made.MEMBERS["task_struct"]["tasks"], pointer)
    found = seen(guest, "tasks")
    assert found["ended"] == "broken"
    assert [task["name"] for task in found["tasks"]][:2] == ["swapper/0", "a"]


class Endless:
    """A list without an end: each entry points eight bytes further."""

    def word(self, address: int) -> int:
        return address + 8


def test_a_list_without_an_end_has_a_bound() -> None:
    walk = Walk(Endless(), 0, MAX_TASKS)  # type: ignore[arg-type]
    assert len(list(walk)) == MAX_TASKS
    assert walk.ended == "bound"


def test_a_whole_kernel_has_nothing_outside() -> None:
    found = seen(made.guest(), "integrity")
    assert found["syscalls"] == {"count": made.CALLS, "outside": []}
    assert found["interrupts"] == {"count": 256, "outside": [], "early": 0}
    text = made.guest().memory[made.PHYSICAL : made.PHYSICAL + made.TEXT_END]
    pages = [hashlib.sha256(text[at : at + 4096]).hexdigest() for at in range(0, len(text), 4096)]
    assert found["text"] == {"start": f"{made.BASE:x}", "pages": pages}


def test_calls_and_interrupts_that_leave_the_kernel_are_told() -> None:
    guest = made.guest()
    module = made.direct(made.OBJECTS)
    guest.put(made.RODATA + 8 * 7, struct.pack("<Q", module))
    guest.put(made.IDT_AT + 16 * 14, made.gate(module))
    early = made.BASE + made.SYMBOLS["early_idt_handler_array"]
    guest.put(made.IDT_AT + 16 * 20, made.gate(early + 9 * 20))
    guest.put(made.IDT_AT + 16 * 21, made.gate(early + 9 * 20))
    found = seen(guest, "integrity")
    assert found["syscalls"]["outside"] == [f"7:{module:x}"]
    assert found["interrupts"]["outside"] == [f"14:{module:x}", f"21:{early + 180:x}"]
    assert found["interrupts"]["early"] == 1


def test_a_changed_byte_of_code_is_found_against_the_first_look() -> None:
    guest = made.guest()
    first, baseline = compare(seen(guest, "integrity"), None, 5)
    assert first["baseline"] == "taken"
    same, baseline = compare(seen(guest, "integrity"), baseline, 5)
    assert (same["baseline"], same["text"]) == ("compared", {"start": f"{made.BASE:x}", "pages": 4, "changed": []})
    guest.put(made.TEXT + 0x2345, b"\xcc")
    guest.put(made.RODATA + 0x1111, b"\xcc")
    told: Any
    told, baseline = compare(seen(guest, "integrity"), baseline, 5)
    assert told["text"]["changed"] == [f"{made.BASE + 0x2000:x}"]
    assert told["rodata"]["changed"] == [f"{made.BASE + made.RODATA + 0x1000:x}"]
    # It stays told, and another run begins anew.
    assert compare(seen(guest, "integrity"), baseline, 5)[0]["text"] == told["text"]
    assert compare(seen(guest, "integrity"), baseline, 6)[0]["baseline"] == "taken"


def test_only_the_signed_types_are_taken() -> None:
    digest = hashlib.sha256(made.btf()).hexdigest()
    assert seen(made.guest(), "tasks", digest)["btf"] == digest
    with pytest.raises(TypesMalformed, match="were not taken"):
        seen(made.guest(), "tasks", "0" * 64)


@pytest.mark.parametrize("late", [False, True], ids=["6.1", "6.4"])
@pytest.mark.parametrize("filler", [0, 255, 256, 1_000])
def test_symbols_are_found_in_both_layouts(late: bool, filler: int) -> None:
    image = bytes(4096) + made.kallsyms(late=late, filler=filler) + bytes(64)
    found = find_symbols(image, made.BASE, frozenset({"init_task", "_stext", "missing"}))
    assert found == {"init_task": made.BASE + made.INIT_AT, "_stext": made.BASE}


@pytest.mark.parametrize(
    ("at", "data", "error"),
    [
        (made.SYMBOLS_AT, bytes(0x8000), KernelMissing),
        (made.BTF_AT, bytes(24), TypesMalformed),
        (made.BTF_AT + 24, b"\xff" * 16, TypesMalformed),
    ],
    ids=["no symbols", "no types", "types of no kind"],
)
def test_a_kernel_without_its_tables_is_not_read(at: int, data: bytes, error: type[Exception]) -> None:
    guest = made.guest()
    guest.put(at, data)
    with pytest.raises(error):
        seen(guest, "tasks")


def test_page_tables_that_point_at_themselves_end() -> None:
    memory = bytearray(8192)
    struct.pack_into("<512Q", memory, 4096, *[4096 | 3] * 512)
    core = ElfCore(made.core(memory, cr3=4096))
    for five in (False, True):
        space = AddressSpace(core, 4096, five_levels=five)
        assert space.translate(0x1234) == (4096 + 0x234, 4096 - 0x234)
    with pytest.raises(KernelMissing, match="too large"):
        look(core, "tasks", "")


@settings(max_examples=60)
@given(address=st.integers(0, 2**64 - 1), five=st.booleans(), entries=st.lists(st.integers(0, 2**64 - 1), max_size=8))
def test_whatever_the_tables_say_a_walk_ends_in_memory_or_an_error(
    address: int, five: bool, entries: list[int]
) -> None:
    memory = bytearray(16_384)
    for number, entry in enumerate(entries):
        memory[2048 * number : 2048 * number + 2048] = struct.pack("<Q", entry) * 256
    core = ElfCore(made.core(memory, cr3=0))
    space = AddressSpace(core, 0, five_levels=five)
    with suppress(MemoryUnreadable):
        assert len(space.read(address, 64)) == 64


def test_only_canonical_addresses_are_mapped() -> None:
    guest = made.guest()
    for five, address in ((False, 0x0000_8000_0000_0000), (True, 0x0100_0000_0000_0000), (False, -1), (False, 2**64)):
        space = AddressSpace(ElfCore(guest.core()), made.FIVE if five else made.ROOT, five_levels=five)
        with pytest.raises(MemoryUnreadable, match="is not mapped"):
            space.translate(address)


def test_a_processor_in_user_mode_leads_to_the_kernels_tables_too() -> None:
    """Page table isolation: the tables of user mode lie a page behind the kernel's and map next to nothing of it."""
    guest, kernel, user = made.guest(("init",)), 0x6000, 0x7000
    guest.memory[kernel : kernel + 4096] = guest.memory[made.ROOT : made.ROOT + 4096]
    process_number = 0x18
    core = made.core(guest.memory, cr3=user | process_number, idt=made.BASE + made.IDT_AT)
    found: Any = look(ElfCore(core), "tasks", "")
    assert [task["name"] for task in found["tasks"]] == ["swapper/0", "init"]


def test_types_know_members_of_nameless_structures() -> None:
    types = Types(made.btf())
    for structure, members in made.MEMBERS.items():
        assert {member: types.offset(structure, member) for member in members} == members
    with pytest.raises(TypesMalformed, match=r"no task_struct\.absent"):
        types.offset("task_struct", "absent")
    with pytest.raises(TypesMalformed, match="no absent"):
        types.offset("absent", "comm")


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (4, "<B", 1), (18, "<H", 3), (16, "<H", 1), (56, "<H", 0xFFFF), (32, "<Q", 2**63), (54, "<H", 55),
        (64 + 56 + 8, "<Q", 2**40), (64 + 56 + 32, "<Q", 2**40), (64 + 32, "<Q", 2**40), (64 + 56, "<I", 6),
        (64 + 2 * 56 + 20 + 8 + 4, "<I", 2**31), (64, "<I", 5),
    ],
)  # fmt: skip
def test_a_core_of_another_form_is_refused(at: int, form: str, value: int) -> None:
    good = bytearray(made.core(bytes(4096), cr3=0))
    ElfCore(bytes(good))
    struct.pack_into(form, good, at, value)
    with pytest.raises(CoreMalformed):
        ElfCore(bytes(good))


@pytest.mark.parametrize("size", [0, 63, 100, 300])
def test_a_core_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(CoreMalformed):
        ElfCore(made.core(bytes(4096), cr3=0)[:size])


def test_an_error_is_an_answer_too() -> None:
    assert answered(memoryview(b"nothing"), "tasks", "") == {"error": "HY041", "cause": "it is too short"}
