# SPDX-License-Identifier: Apache-2.0
"""The page tables of x86-64: four and five levels, pages of 4 KiB, 2 MiB and 1 GiB.

Source: Intel SDM volume 3A, chapter 4.5. Permissions are not looked at: what is mapped can be read. Each walk takes at
most five steps, so that tables that point at themselves end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hypervisor.errors import MemoryUnreadable
from hypervisor.introspection.memory import PAGE, PhysicalMemory

LA57 = 1 << 12
"""In CR4: five levels."""
MAX_READ = 16 * 1024 * 1024
"""Bytes of one read."""
MAX_CACHED = 4_096
"""Tables that are kept, 4 KiB each."""

_PRESENT, _LARGE = 1, 1 << 7
_FRAME = 0x000F_FFFF_FFFF_F000
_SPACE = 1 << 64
_TABLE = struct.Struct("<512Q")


class AddressSpace:
    """Virtual memory as one processor sees it.

    Args:
        memory: the guest's physical memory.
        root: CR3; its flags are left out.
        five_levels: whether LA57 is on.
    """

    def __init__(self, memory: PhysicalMemory, root: int, *, five_levels: bool) -> None:
        self._memory = memory
        self._root = root & _FRAME
        self._levels = 5 if five_levels else 4
        self._tables: dict[int, tuple[int, ...]] = {}

    def translate(self, address: int) -> tuple[int, int]:
        """The physical address, and how many bytes from there on lie in the same page.

        Raises:
            MemoryUnreadable: it is not mapped, not canonical, or its tables are not memory.
        """
        bits = 12 + 9 * self._levels
        # Canonical: all bits above are copies of the highest that counts.
        if not 0 <= address < _SPACE or (address >> (bits - 1)) not in (0, (1 << (65 - bits)) - 1):
            raise _unmapped(address)
        table = self._root
        for level in range(self._levels, 0, -1):
            shift = 12 + 9 * (level - 1)
            entry = self._table(table)[address >> shift & 511]
            if not entry & _PRESENT:
                raise _unmapped(address)
            if level == 1 or (level in (2, 3) and entry & _LARGE):
                size = 1 << shift
                inside = address & (size - 1)
                return (entry & _FRAME & ~(size - 1)) + inside, size - inside
            table = entry & _FRAME
        raise _unmapped(address)

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes of virtual memory.

        Raises:
            MemoryUnreadable: not all of them are mapped, or they are too many.
        """
        if not 0 <= size <= MAX_READ:
            raise _unmapped(address)
        parts = []
        while size:
            physical, there = self.translate(address)
            length = min(size, there)
            parts.append(self._memory.read(physical, length))
            address, size = address + length, size - length
        return b"".join(parts)

    def word(self, address: int) -> int:
        """Eight bytes as a number.

        Raises:
            MemoryUnreadable: they are not mapped.
        """
        return int.from_bytes(self.read(address, 8), "little")

    def mapped(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """What is mapped between two addresses: virtual address, physical address and bytes of each page.

        Addresses are multiples of 4 KiB. A hole is skipped by 2 MiB where it begins there, else by 4 KiB.
        """
        address = start
        while address < end:
            try:
                physical, there = self.translate(address)
            except MemoryUnreadable:
                address += self._hole(address)
                continue
            length = min(there, end - address)
            yield address, physical, length
            address += length

    def _hole(self, address: int) -> int:
        """How far the next page can be: a whole large page where not even its table is there."""
        large = 512 * PAGE
        if address % large:
            return PAGE
        table = self._root
        try:
            for level in range(self._levels, 1, -1):
                entry = self._table(table)[address >> (12 + 9 * (level - 1)) & 511]
                if not entry & _PRESENT:
                    return large
                table = entry & _FRAME
        except MemoryUnreadable:
            return large
        return PAGE

    def _table(self, address: int) -> tuple[int, ...]:
        found = self._tables.get(address)
        if found is None:
            found = _TABLE.unpack(self._memory.read(address, PAGE))
            if len(self._tables) < MAX_CACHED:
                self._tables[address] = found
        return found


def _unmapped(address: int) -> MemoryUnreadable:
    return MemoryUnreadable("the guest's memory was not read", cause=f"{address:#x} is not mapped", remedy="try again")
