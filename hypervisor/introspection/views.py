# SPDX-License-Identifier: Apache-2.0
"""What runs in a guest, as its kernel's lists tell it: tasks and modules.

The lists are the guest's word: what was taken out of them is not seen (direct kernel object manipulation). Each list is
followed for a bounded number of steps and ends where it comes back to something that it had; how it ended is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from documents.canonical import Json
from hypervisor.errors import MemoryUnreadable
from hypervisor.introspection.kernel import Kernel
from hypervisor.introspection.pages import AddressSpace

MAX_TASKS = 32_768
MAX_MODULES = 4_096
COMM = 16
"""Bytes of a task's name (TASK_COMM_LEN)."""
MODULE_NAME = 56
"""Bytes of a module's name (MODULE_NAME_LEN)."""


class Walk:
    """The entries of a kernel's list (``struct list_head``).

    Args:
        space: virtual memory.
        head: address of the list's head.
        most: entries that are followed.

    Attributes:
        ended: after the walk, ``whole``, ``loop`` (it came back to an entry other than its head), ``broken`` (an
            entry is not mapped) or ``bound``.
    """

    def __init__(self, space: AddressSpace, head: int, most: int) -> None:
        self._space, self._head, self._most = space, head, most
        self.ended = "bound"

    def __iter__(self) -> Iterator[int]:
        seen: set[int] = set()
        at = self._head
        for _ in range(self._most + 1):
            try:
                at = self._space.word(at)
            except MemoryUnreadable:
                self.ended = "broken"
                return
            if at == self._head or at in seen:
                self.ended = "whole" if at == self._head else "loop"
                return
            if len(seen) == self._most:
                return
            seen.add(at)
            yield at


def tasks(kernel: Kernel) -> dict[str, Json]:
    """The processes and kernel threads, beginning with the idle task. Threads of a process are not listed.

    Returns: ``tasks``: ``pid``, ``name``, ``kernel`` (whether it has no memory of its own), ``uid``; ``ended``.

    Raises:
        KernelMissing, TypesMalformed: the kernel cannot be read.
    """
    types, space = kernel.types, kernel.space
    at = {name: types.offset("task_struct", name) for name in ("tasks", "pid", "comm", "mm", "cred")}
    uid = types.offset("cred", "uid")
    init = kernel.symbol("init_task")
    walk = Walk(space, init + at["tasks"], MAX_TASKS)
    found: list[Json] = []
    for entry in (init + at["tasks"], *walk):
        task = entry - at["tasks"]
        try:
            credentials = space.word(task + at["cred"])
            found.append(
                {
                    "pid": _number(space, task + at["pid"]),
                    "name": _text(space, task + at["comm"], COMM),
                    "kernel": space.word(task + at["mm"]) == 0,
                    "uid": _number(space, credentials + uid),
                }
            )
        except MemoryUnreadable:
            walk.ended = "broken"
            break
    return {"tasks": found, "ended": walk.ended}


def modules(kernel: Kernel) -> dict[str, Json]:
    """The loaded modules: those in the kernel's list, then those that only its tree of addresses knows.

    Linux keeps each module twice: in the list that it shows, and in a tree by which it finds whose code an address is.
    A module that was taken out of the list alone hides.

    Returns: ``modules``: ``name``, ``state`` (0: live) and ``listed``; ``ended``; ``compared``, whether there is a tree.

    Raises:
        KernelMissing, TypesMalformed: the kernel cannot be read.
    """
    space, at = kernel.space, kernel.types.offset("module", "list")
    walk = Walk(space, kernel.symbol("modules"), MAX_MODULES)
    listed = [entry - at for entry in walk]
    compared = "mod_tree" in kernel.symbols
    found: list[Json] = []
    try:
        hidden = sorted(_in_tree(kernel) - set(listed)) if compared else []
    except MemoryUnreadable:
        walk.ended, hidden = "broken", []
    for number, module in enumerate((*listed, *hidden)):
        try:
            found.append(_module(kernel, module, number < len(listed)))
        except MemoryUnreadable:
            walk.ended = "broken"
    return {"modules": found, "ended": walk.ended, "compared": compared}


def _module(kernel: Kernel, module: int, listed: bool) -> Json:
    name, state = (kernel.types.offset("module", member) for member in ("name", "state"))
    return {
        "name": _text(kernel.space, module + name, MODULE_NAME),
        "state": _number(kernel.space, module + state),
        "listed": listed,
    }


def _in_tree(kernel: Kernel) -> set[int]:
    """Addresses of the modules in ``mod_tree`` (``kernel/module/tree_lookup.c``), by the first of its two copies."""
    types, space = kernel.types, kernel.space
    root = kernel.symbol("mod_tree") + types.offset("mod_tree_root", "root")
    root += types.offset("latch_tree_root", "tree") + types.offset("rb_root", "rb_node")
    owner = types.offset("mod_tree_node", "mod") - types.offset("mod_tree_node", "node")
    sides = [types.offset("rb_node", side) for side in ("rb_left", "rb_right")]
    found: set[int] = set()
    seen: set[int] = set()
    waiting = [space.word(root)]
    while waiting and len(seen) < 2 * MAX_MODULES:
        node = waiting.pop()
        if node == 0 or node in seen:
            continue
        seen.add(node)
        found.add(space.word((node + owner) % 2**64))
        waiting += [space.word(node + side) for side in sides]
    return found


def _number(space: AddressSpace, address: int) -> int:
    return int.from_bytes(space.read(address, 4), "little")


def _text(space: AddressSpace, address: int, size: int) -> str:
    """A name that the guest chose, safe to print."""
    untrusted = space.read(address, size).partition(b"\0")[0]
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in untrusted)
