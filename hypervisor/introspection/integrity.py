# SPDX-License-Identifier: Apache-2.0
"""What a running kernel should not change: its code, its constants, and where calls and interrupts go.

Digests of one moment are compared with those of an earlier one: nobody signed them, and what was changed before the
first look is not seen. Data that the kernel may change is not looked at.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from documents.canonical import Json
from hypervisor.errors import KernelMissing
from hypervisor.introspection.kernel import Kernel
from hypervisor.introspection.memory import PAGE, Processor

MAX_CALLS = 600
"""Entries of a syscall table that are looked at; Linux has some 450."""
MAX_TABLES = 1_024
"""Processors whose interrupt descriptor tables are looked at."""
REGIONS = {"text": ("_stext", "_etext"), "rodata": ("__start_rodata", "__end_rodata")}
EXCEPTIONS = 32
"""Vectors of the processor's own."""
_GATE = struct.Struct("<HHBBHII")
_PRESENT = 0x80
_MAX_REGION = 64 * 1024 * 1024


def integrity(kernel: Kernel, processors: Iterable[Processor]) -> dict[str, Json]:
    """Digests of all pages, and what points outside the kernel's code.

    Returns:
        ``base``: virtual address of the kernel; ``text`` and ``rodata``: each ``start`` and SHA-256 of each page;
        ``syscalls`` and ``interrupts``: each ``count`` and ``outside``, numbers with targets, hex;
        ``interrupts`` also ``early``, how many still have their handler of the early boot.

    Raises:
        KernelMissing: the kernel lacks a symbol, or its code is not where its symbols say.
        MemoryUnreadable: a table is not mapped.
    """
    regions = {name: _pages(kernel, *symbols) for name, symbols in REGIONS.items()}
    return {
        "base": f"{kernel.base:x}",
        **regions,
        "syscalls": _syscalls(kernel),
        "interrupts": _interrupts(kernel, processors),
    }


def _pages(kernel: Kernel, first: str, last: str) -> dict[str, Json]:
    start, end = (kernel.symbol(name) - kernel.base for name in (first, last))
    if not 0 <= start < end <= len(kernel.image) or end - start > _MAX_REGION:
        raise KernelMissing(
            "the kernel's code was not looked at",
            cause=f"{first} and {last} are not in its image",
            remedy="the guest changed its own table of symbols",
        )
    pages: list[Json] = [
        hashlib.sha256(kernel.image[at : min(at + PAGE, end)]).hexdigest() for at in range(start, end, PAGE)
    ]
    return {"start": f"{kernel.base + start:x}", "pages": pages}


def _syscalls(kernel: Kernel) -> dict[str, Json]:
    """The table has no length: it ends before the first entry that is no address at all."""
    at = kernel.symbol("sys_call_table") - kernel.base
    if not 0 <= at <= len(kernel.image) - 8 * MAX_CALLS:
        raise KernelMissing(
            "the syscall table was not looked at",
            cause="it is not in the image",
            remedy="the guest changed its symbols",
        )
    targets = struct.unpack_from(f"<{MAX_CALLS}Q", kernel.image, at)
    count = next((number for number, target in enumerate(targets) if target >> 47 != (1 << 17) - 1), MAX_CALLS)
    return _outside(kernel, list(enumerate(targets[:count])))


def _interrupts(kernel: Kernel, processors: Iterable[Processor]) -> dict[str, Json]:
    """All gates of all tables. Vectors that Linux never sets keep the handlers of its early boot: told apart."""
    gates: list[tuple[int, int]] = []
    early = 0
    tables = sorted({(processor.idt, processor.idt_limit) for processor in processors})
    for base, limit in tables[:MAX_TABLES]:
        table = kernel.space.read(base, min(limit + 1, PAGE) // 16 * 16)
        for number, (low, _, _, kind, middle, high, _) in enumerate(_GATE.iter_unpack(table)):
            target = high << 32 | middle << 16 | low
            if not kind & _PRESENT:
                continue
            if number < EXCEPTIONS and target in _early(kernel, number):
                early += 1
            else:
                gates.append((number, target))
    return {**_outside(kernel, gates), "early": early}


def _early(kernel: Kernel, number: int) -> tuple[int, ...]:
    """Where early_idt_handler_array has its entry (``arch/x86/include/asm/segment.h``), without and with ENDBR."""
    array = kernel.symbols.get("early_idt_handler_array")
    return () if array is None else (array + 9 * number, array + 13 * number)


def _outside(kernel: Kernel, targets: list[tuple[int, int]]) -> dict[str, Json]:
    first, last = kernel.symbol("_stext"), kernel.symbol("_etext")
    outside: list[Json] = [f"{number}:{target:x}" for number, target in targets if not first <= target < last]
    return {"count": len(targets), "outside": outside[:MAX_CALLS]}
