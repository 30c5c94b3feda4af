# SPDX-License-Identifier: Apache-2.0
"""Finding the kernel in a guest's memory, wherever KASLR put it.

CR3 and CR4 give the page tables; the kernel's image is what they map between -2 GiB and -1 GiB (Linux
``Documentation/arch/x86/x86_64/mm.rst``). Symbols and types are found in the image by their form. This module judges
nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from hypervisor.errors import KernelMissing, MemoryUnreadable, TypesMalformed
from hypervisor.introspection import btf
from hypervisor.introspection.elf_core import ElfCore
from hypervisor.introspection.kallsyms import find_symbols
from hypervisor.introspection.memory import PhysicalMemory, Processor
from hypervisor.introspection.pages import LA57, AddressSpace

START, END = 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_C000_0000
MAX_IMAGE = 192 * 1024 * 1024
"""Bytes of a kernel; Debian's takes some 40 MiB."""
LEAST_IMAGE = 4 * 1024 * 1024
MAX_TRIES = 64
"""Places that may look like BTF."""
MAX_PROCESSORS = 8
"""Processors that are asked."""
_USER_TABLES = 1 << 12
"""In CR3 with page table isolation: the tables of user mode, which lie behind the kernel's."""

SYMBOLS = frozenset(
    {
        "init_task",
        "modules",
        "sys_call_table",
        "early_idt_handler_array",
        "mod_tree",
        "init_pid_ns",
        "_stext",
        "_etext",
        "__start_rodata",
        "__end_rodata",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel in memory.

    Attributes:
        space: virtual memory as the kernel sees it.
        image: the bytes that are mapped from ``base`` on; holes are zeros.
        base: virtual address.
        symbols: addresses of those of ``SYMBOLS`` that there are.
        types: its BTF.
    """

    space: AddressSpace
    image: bytes
    base: int
    symbols: dict[str, int]
    types: btf.Types

    def symbol(self, name: str) -> int:
        """The address of a symbol.

        Raises:
            KernelMissing: the kernel has none of that name.
        """
        if name not in self.symbols:
            raise _missing(f"it has no symbol {name}")
        return self.symbols[name]


def find_kernel(core: ElfCore, btf_digest: str = "") -> Kernel:
    """Find the kernel.

    Args:
        core: the guest.
        btf_digest: SHA-256 of the only BTF that is taken, lower case hex; empty: any.

    Raises:
        KernelMissing: there is none.
        TypesMalformed: its BTF is damaged or not the one wanted.
    """
    space, image, base = _find_image(core, core.processors)
    return Kernel(
        space=space,
        image=image,
        base=base,
        symbols=find_symbols(image, base, SYMBOLS),
        types=find_types(image, btf_digest),
    )


def _find_image(memory: PhysicalMemory, processors: tuple[Processor, ...]) -> tuple[AddressSpace, bytes, int]:
    """What the first processor that maps a kernel maps of it.

    In user mode, page table isolation leaves part of the kernel mapped: the tables that map most are the kernel's.
    """
    for processor in processors[:MAX_PROCESSORS]:
        best: tuple[AddressSpace, bytes, int] | None = None
        for root in dict.fromkeys((processor.cr3, processor.cr3 & ~_USER_TABLES)):
            space = AddressSpace(memory, root, five_levels=bool(processor.cr4 & LA57))
            with suppress(MemoryUnreadable):
                image, base = _image(memory, space)
                if len(image) >= LEAST_IMAGE and (best is None or len(image) > len(best[1])):
                    best = space, image, base
        if best is not None:
            return best
    raise _missing("no processor's page tables map one")


def _image(memory: PhysicalMemory, space: AddressSpace) -> tuple[bytes, int]:
    base, image = 0, bytearray()
    for address, physical, size in space.mapped(START, END):
        base = base or address
        if address + size - base > MAX_IMAGE:
            raise _missing("what is mapped in its place is too large")
        image += bytes(address - base - len(image))
        image += memory.read(physical, size)
    return bytes(image), base


def find_types(image: bytes, digest: str = "") -> btf.Types:
    """The largest BTF in an image: the kernel's own, for a module's is smaller and rests on it.

    Raises:
        TypesMalformed: there is none, or another one is wanted.
    """
    best, most, at = -1, 0, image.find(btf.MAGIC)
    for _ in range(MAX_TRIES):
        if at < 0:
            break
        try:
            size = btf.extent(image, at)
        except TypesMalformed:
            size = 0
        best, most = (at, size) if size > most else (best, most)
        at = image.find(btf.MAGIC, at + 1)
    if best < 0:
        raise TypesMalformed("the kernel's types were not read", cause="no BTF was found", remedy="is it a Linux?")
    types = btf.Types(image[best : best + most])
    if digest and types.digest != digest:
        raise TypesMalformed(
            "the kernel's types were not taken",
            cause=f"their digest is {types.digest}, and the VM's definition wants {digest}",
            remedy="the guest runs another kernel than its publisher says",
        )
    return types


def _missing(cause: str) -> KernelMissing:
    return KernelMissing("the guest's kernel was not found", cause=cause, remedy="wait until the guest has booted")
