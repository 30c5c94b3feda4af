# SPDX-License-Identifier: Apache-2.0
"""Where a kernel knows its tasks and modules besides its lists, so that what left a list alone is still found.

A guest's kernel can be changed here too: what was taken out of both places is not found. Every walk is bounded and
takes nothing twice.
"""

from __future__ import annotations

from hypervisor.introspection.kernel import Kernel

MAX_TASKS = 32_768
MAX_MODULES = 4_096
SLOTS = 64
"""Slots of a node (XA_CHUNK_SIZE of a kernel without CONFIG_BASE_SMALL)."""
LEADERS = 1
"""PIDTYPE_TGID: of a number's tasks, the one that leads its process."""
_ADDRESS = 2**64


def by_number(kernel: Kernel) -> set[int]:
    """Addresses of the tasks that the first name space of process numbers knows (``init_pid_ns.idr``).

    Sources: Linux ``include/linux/xarray.h`` (an entry that ends in binary 10 is a node) and ``include/linux/pid.h``.

    Raises:
        MemoryUnreadable, KernelMissing, TypesMalformed: it cannot be read.
    """
    types, space = kernel.types, kernel.space
    head = kernel.symbol("init_pid_ns") + types.offset("pid_namespace", "idr")
    head += types.offset("idr", "idr_rt") + types.offset("xarray", "xa_head")
    slots = types.offset("xa_node", "slots")
    tasks = types.offset("pid", "tasks") + 8 * LEADERS
    links = types.offset("task_struct", "pid_links") + 16 * LEADERS
    found: set[int] = set()
    seen: set[int] = set()
    waiting = [space.word(head)]
    while waiting and len(seen) < 2 * MAX_TASKS and len(found) < MAX_TASKS:
        entry = waiting.pop()
        if entry == 0 or entry in seen:
            continue
        seen.add(entry)
        if entry & 3 == 2:
            node = space.read(entry - 2 + slots, 8 * SLOTS)
            waiting += [int.from_bytes(node[at : at + 8], "little") for at in range(0, len(node), 8)]
        elif entry & 3 == 0:
            link = space.word(entry + tasks)
            if link:
                found.add((link - links) % _ADDRESS)
    return found


def by_address(kernel: Kernel) -> set[int]:
    """Addresses of the modules in ``mod_tree``, by the first of its two copies.

    Source: Linux ``kernel/module/tree_lookup.c``.

    Raises:
        MemoryUnreadable, KernelMissing, TypesMalformed: it cannot be read.
    """
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
        found.add(space.word((node + owner) % _ADDRESS))
        waiting += [space.word((node + side) % _ADDRESS) for side in sides]
    return found
