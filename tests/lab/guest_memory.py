# SPDX-License-Identifier: Apache-2.0
"""A guest's memory made by hand: an ELF core with page tables, a kernel with BTF and kallsyms, tasks and modules.

Small, and every part can be spoiled. The layouts are Linux's; the kernel does nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypervisor.introspection.kernel import LEAST_IMAGE

PAGE = 4096
BASE = 0xFFFF_FFFF_8100_0000
PHYSICAL = 0x40_0000
SIZE = PHYSICAL + LEAST_IMAGE
ROOT, TOP, DIRECTORIES, DIRECT, FIVE = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
DIRECT_MAP = 0xFFFF_8880_0000_0000
TEXT, TEXT_END, RODATA, RODATA_END = 0x0, 0x4000, 0x10_0000, 0x10_4000
BTF_AT, SYMBOLS_AT, IDT_AT, INIT_AT, MODULES_AT = 0x11_0000, 0x12_0000, 0x20_0000, 0x21_0000, 0x21_8000
OBJECTS = 0x10_0000
"""Physical: where tasks, credentials and modules lie, 512 bytes each, reached by the direct map."""
NUMBERS = OBJECTS - 2048
"""Physical: the node of the table of process numbers."""
TREE_NODE = 128
"""Where in a module its node of the tree is."""
CALLS = 40
MEMBERS = {
    "list_head": {"next": 0, "prev": 8},
    "cred": {"usage": 0, "uid": 4},
    "task_struct": {"state": 0, "tasks": 64, "mm": 80, "pid": 96, "cred": 104, "comm": 128, "pid_links": 192},
    "pid_namespace": {"idr": 0},
    "idr": {"idr_rt": 0},
    "xarray": {"xa_lock": 0, "xa_head": 8},
    "xa_node": {"shift": 0, "slots": 40},
    "pid": {"count": 0, "tasks": 16},
    "module": {"state": 0, "list": 8, "name": 24},
    "mod_tree_root": {"root": 0, "addr_min": 24},
    "latch_tree_root": {"seq": 0, "tree": 8},
    "rb_root": {"rb_node": 0},
    "rb_node": {"parent": 0, "rb_right": 8, "rb_left": 16},
    "mod_tree_node": {"mod": 0, "node": 8},
}
SYMBOLS = {
    "_stext": TEXT, "_etext": TEXT_END, "__start_rodata": RODATA, "__end_rodata": RODATA_END, "sys_call_table": RODATA,
    "init_task": INIT_AT, "modules": MODULES_AT, "early_idt_handler_array": 0x3F_0000,
    "mod_tree": MODULES_AT + 64, "init_pid_ns": MODULES_AT + 256,
}  # fmt: skip


def btf(structures: Mapping[str, Mapping[str, int]] = MEMBERS) -> bytes:
    """A BTF with some structures; the first half of each one's members lies in a nameless structure inside."""
    strings, types, number = bytearray(b"\0"), bytearray(), 1

    def name(text: str) -> int:
        at = len(strings)
        strings.extend(text.encode() + b"\0")
        return at

    # Type 1: an int of four bytes.
    types += struct.pack("<IIII", name("int"), 1 << 24, 4, 32)
    for title, members in structures.items():
        listed = list(members.items())
        inside, outside = listed[: len(listed) // 2], listed[len(listed) // 2 :]
        types += struct.pack("<III", 0, 4 << 24 | len(inside), 64)
        types += b"".join(struct.pack("<III", name(text), 1, offset * 8) for text, offset in inside)
        number += 1
        types += struct.pack("<III", name(title), 4 << 24 | (len(outside) + 1), 512)
        types += struct.pack("<III", 0, number, 0)
        types += b"".join(struct.pack("<III", name(text), 1, offset * 8) for text, offset in outside)
        number += 1
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return head + bytes(types) + bytes(strings)


def kallsyms(symbols: Mapping[str, int] = SYMBOLS, *, late: bool = False, filler: int = 300) -> bytes:
    """A table of symbols at offsets from ``BASE``.

    Args:
        symbols: by name.
        late: in the layout of Linux 6.4 and later.
        filler: other symbols before them, so that there is more than one marker.
    """
    named = [*((f"filler_{number}", 0x1000 + number) for number in range(filler)), *symbols.items()]
    names, markers = bytearray(), []
    for number, (text, _) in enumerate(named):
        if number % 256 == 0:
            markers.append(len(names))
        names += bytes([len(text) + 1]) + b"D" + text.encode()
    offsets = _filled(struct.pack(f"<{len(named)}i", *(-1 - offset for _, offset in named)))
    relative, count = struct.pack("<Q", BASE), struct.pack("<Q", len(named))
    tokens = [b"aa", *(bytes([number]) for number in range(1, 256))]
    starts = [sum(len(token) + 1 for token in tokens[:number]) for number in range(256)]
    body = (
        _filled(bytes(names))
        + _filled(struct.pack(f"<{len(markers)}I", *markers))
        + _filled(b"".join(token + b"\0" for token in tokens))
        + struct.pack("<256H", *starts)
    )
    return count + body + offsets + relative if late else offsets + relative + count + body


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest's memory, to be changed before it is written.

    Attributes:
        memory: physical, from address 0.
        five_levels: LA57.
    """

    memory: bytearray = field(default_factory=lambda: bytearray(SIZE))
    five_levels: bool = False

    def put(self, at: int, data: bytes) -> None:
        """Write to the kernel's image, by offset."""
        self.memory[PHYSICAL + at : PHYSICAL + at + len(data)] = data

    def core(self) -> bytes:
        """As QEMU writes it."""
        root = FIVE if self.five_levels else ROOT
        return core(self.memory, cr3=root, cr4=int(self.five_levels) << 12, idt=BASE + IDT_AT)


def direct(physical: int) -> int:
    """A virtual address of the direct map."""
    return DIRECT_MAP + physical


def guest(names: Sequence[str] = ("init", "sh"), modules: Sequence[str] = ("virtio",), *, five: bool = False) -> Guest:
    """A whole guest: the idle task, then ``names`` with the process numbers 1, 2 and so on."""
    made = Guest(five_levels=five)
    _tables(made.memory)
    for number in range(TEXT_END // 8):
        made.put(TEXT + 8 * number, struct.pack("<Q", number * 0x9E37_79B9_7F4A_7C15 % 2**64))
    made.put(RODATA, struct.pack(f"<{CALLS}Q", *(BASE + TEXT + 16 * number for number in range(CALLS))))
    made.put(BTF_AT, btf())
    made.put(SYMBOLS_AT, kallsyms())
    for number in range(256):
        made.put(IDT_AT + 16 * number, gate(BASE + TEXT + 32 * number))
    _list_tasks(made, names)
    _number_tasks(made, len(names))
    _list_modules(made, modules)
    return made


def gate(target: int) -> bytes:
    """An interrupt gate that is present."""
    return struct.pack("<HHBBHII", target & 0xFFFF, 0x10, 0, 0x8E, target >> 16 & 0xFFFF, target >> 32, 0)


def _tables(memory: bytearray) -> None:
    """2 MiB pages for the kernel, one of 1 GiB for the direct map."""

    def entry(table: int, index: int, value: int) -> None:
        struct.pack_into("<Q", memory, table + 8 * index, value)

    entry(FIVE, 511, ROOT | 3)
    entry(FIVE, 0, ROOT | 3)
    entry(ROOT, 511, TOP | 3)
    entry(TOP, 510, DIRECTORIES | 3)
    for number in range(LEAST_IMAGE >> 21):
        entry(DIRECTORIES, (BASE >> 21 & 511) + number, PHYSICAL + (number << 21) | 0x83)
    entry(ROOT, DIRECT_MAP >> 39 & 511, DIRECT | 3)
    entry(DIRECT, DIRECT_MAP >> 30 & 511, 0x83)


def _list_tasks(made: Guest, names: Sequence[str]) -> None:
    at = MEMBERS["task_struct"]
    places = [BASE + INIT_AT, *(direct(OBJECTS + 1024 * number) for number in range(len(names)))]
    for number, (place, name) in enumerate(zip(places, ("swapper/0", *names), strict=True)):
        task = bytearray(512)
        following = places[(number + 1) % len(places)] + at["tasks"]
        struct.pack_into("<Q", task, at["tasks"], following)
        struct.pack_into("<I", task, at["pid"], number)
        struct.pack_into("<Q", task, at["mm"], place if number else 0)
        struct.pack_into("<Q", task, at["cred"], direct(OBJECTS - 512))
        task[at["comm"] : at["comm"] + 16] = name.encode()[:15].ljust(16, b"\0")
        if number:
            start = OBJECTS + 1024 * (number - 1)
            made.memory[start : start + 512] = task
        else:
            made.put(INIT_AT, bytes(task))


def _number_tasks(made: Guest, count: int) -> None:
    """The table of process numbers: one node of 64 slots, and for each task a ``struct pid`` behind it."""
    made.put(MODULES_AT + 256 + 8, struct.pack("<Q", direct(NUMBERS) | 2))
    for number in range(1, count + 1):
        pid = direct(OBJECTS + 1024 * (number - 1) + 512)
        struct.pack_into("<Q", made.memory, NUMBERS + 40 + 8 * number, pid)
        # Who leads the process (PIDTYPE_TGID), by the link that lies in the task.
        task = direct(OBJECTS + 1024 * (number - 1))
        struct.pack_into("<Q", made.memory, pid - DIRECT_MAP + 16 + 8, task + MEMBERS["task_struct"]["pid_links"] + 16)


def _list_modules(made: Guest, names: Sequence[str]) -> None:
    at = MEMBERS["module"]
    start = OBJECTS + 0x8000
    places = [direct(start + 512 * number) + at["list"] for number in range(len(names))]
    ring = [*places, BASE + MODULES_AT]
    made.put(MODULES_AT, struct.pack("<Q", ring[0]))
    made.put(MODULES_AT + 64 + 8, struct.pack("<Q", direct(start + TREE_NODE + 8) if names else 0))
    for number, name in enumerate(names):
        module = bytearray(512)
        struct.pack_into("<Q", module, at["list"], ring[number + 1])
        module[at["name"] : at["name"] + 56] = name.encode()[:55].ljust(56, b"\0")
        # In the tree by addresses, which is as slim as a list here: each node's right is the next module's.
        following = direct(start + 512 * (number + 1) + TREE_NODE + 8) if number + 1 < len(names) else 0
        struct.pack_into("<QQQQ", module, TREE_NODE, direct(start + 512 * number), 0, following, 0)
        made.memory[start + 512 * number : start + 512 * number + 512] = module


def core(memory: bytes | bytearray, *, cr3: int, cr4: int = 0, idt: int = 0, processors: int = 1) -> bytes:
    """An ELF core as ``target/i386/arch_dump.c`` of QEMU writes it."""
    state = bytearray(440)
    struct.pack_into("<II", state, 0, 1, 440)
    struct.pack_into("<IIIIQ", state, 8 + 144 + 216, 0, 4095, 0, 0, idt)
    struct.pack_into("<5Q", state, 8 + 144 + 240, 0, 0, 0, cr3, cr4)
    note = struct.pack("<III", 5, len(state), 0) + b"QEMU\0\0\0\0" + bytes(state)
    other = struct.pack("<III", 5, 8, 1) + b"CORE\0\0\0\0" + bytes(8)
    notes = (other + note) * processors
    start = 64 + 2 * 56
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    programs = struct.pack("<IIQQQQQQ", 4, 0, start, 0, 0, len(notes), len(notes), 0)
    programs += struct.pack("<IIQQQQQQ", 1, 0, start + len(notes), 0, 0, len(memory), len(memory), 0)
    return head + programs + notes + bytes(memory)
