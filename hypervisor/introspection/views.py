# SPDX-License-Identifier: Apache-2.0
"""What runs in a guest, as its kernel's lists tell it: tasks and modules.

The lists are the guest's word. What was taken out of them is told where ``elsewhere`` still finds it. Each list is
followed for a bounded number of steps and ends where it comes back to something that it had; how it ended is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from documents.canonical import Json
from hypervisor.errors import MemoryUnreadable
from hypervisor.introspection.elsewhere import MAX_MODULES, MAX_TASKS, by_address, by_number
from hypervisor.introspection.kernel import Kernel
from hypervisor.introspection.pages import AddressSpace

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
    """The processes and kernel threads, beginning with the idle task, then those that only their numbers lead to.

    Threads of a process are not listed. A task that was taken out of the kernel's list alone hides.

    Returns: ``tasks``: ``pid``, ``name``, ``kernel`` (whether it has no memory of its own), ``uid`` and ``listed``;
    ``ended``; ``compared``, whether the numbers could be looked at.

    Raises:
        KernelMissing, TypesMalformed: the kernel cannot be read.
    """
    init, at = kernel.symbol("init_task"), kernel.types.offset("task_struct", "tasks")
    walk = Walk(kernel.space, init + at, MAX_TASKS)
    listed = [init, *(entry - at for entry in walk)]
    compared = "init_pid_ns" in kernel.symbols
    found, ended = _described(kernel, listed, by_number if compared else None, _task)
    return {"tasks": found, "ended": ended or walk.ended, "compared": compared}


def _described(
    kernel: Kernel,
    listed: list[int],
    elsewhere: Callable[[Kernel], set[int]] | None,
    describe: Callable[[Kernel, int], dict[str, Json]],
) -> tuple[list[Json], str]:
    """What is in a list, then what is only known elsewhere; ``broken`` if some of it could not be read."""
    ended, hidden = "", list[int]()
    try:
        hidden = sorted(elsewhere(kernel) - set(listed)) if elsewhere else []
    except MemoryUnreadable:
        ended = "broken"
    found: list[Json] = []
    for number, place in enumerate((*listed, *hidden)):
        try:
            found.append({**describe(kernel, place), "listed": number < len(listed)})
        except MemoryUnreadable:
            ended = "broken"
    return found, ended


def _task(kernel: Kernel, task: int) -> dict[str, Json]:
    types, space = kernel.types, kernel.space
    at = {name: types.offset("task_struct", name) for name in ("pid", "comm", "mm", "cred")}
    credentials = space.word(task + at["cred"])
    return {
        "pid": _number(space, task + at["pid"]),
        "name": _text(space, task + at["comm"], COMM),
        "kernel": space.word(task + at["mm"]) == 0,
        "uid": _number(space, credentials + types.offset("cred", "uid")),
    }


def modules(kernel: Kernel) -> dict[str, Json]:
    """The loaded modules: those in the kernel's list, then those that only its tree of addresses knows.

    Linux keeps each module twice: in the list that it shows, and in a tree by which it finds whose code an address is.
    A module that was taken out of the list alone hides.

    Returns: ``modules``: ``name``, ``state`` (0: live) and ``listed``; ``ended``; ``compared``, whether there is such a
    tree.

    Raises:
        KernelMissing, TypesMalformed: the kernel cannot be read.
    """
    at = kernel.types.offset("module", "list")
    walk = Walk(kernel.space, kernel.symbol("modules"), MAX_MODULES)
    listed = [entry - at for entry in walk]
    compared = "mod_tree" in kernel.symbols
    found, ended = _described(kernel, listed, by_address if compared else None, _module)
    return {"modules": found, "ended": ended or walk.ended, "compared": compared}


def _module(kernel: Kernel, module: int) -> dict[str, Json]:
    name, state = (kernel.types.offset("module", member) for member in ("name", "state"))
    return {"name": _text(kernel.space, module + name, MODULE_NAME), "state": _number(kernel.space, module + state)}


def _number(space: AddressSpace, address: int) -> int:
    return int.from_bytes(space.read(address, 4), "little")


def _text(space: AddressSpace, address: int, size: int) -> str:
    """A name that the guest chose, safe to print."""
    untrusted = space.read(address, size).partition(b"\0")[0]
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in untrusted)
