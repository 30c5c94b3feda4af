# SPDX-License-Identifier: Apache-2.0
"""What the readers of a guest need of its physical memory. This module reads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

PAGE = 4096
"""Bytes of the smallest page of x86-64."""


class PhysicalMemory(Protocol):
    """The memory of a guest, by physical address."""

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes from ``address`` on.

        Raises:
            MemoryUnreadable: not all of them are memory, or they are too many.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What one virtual processor says of itself.

    Attributes:
        cr3: where its page tables begin, with flags.
        cr4: its features; bit 12 is LA57, five levels of page tables.
        idt: where its interrupt descriptor table begins (virtual).
        idt_limit: the offset of the table's last byte.
    """

    cr3: int
    cr4: int
    idt: int
    idt_limit: int
