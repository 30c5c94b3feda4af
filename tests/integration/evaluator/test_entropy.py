# SPDX-License-Identifier: Apache-2.0
"""The evaluator's step for FCS_ENT_EXT.1: draw from several VMs at the same time; nothing comes twice.

The queue of the entropy device is driven as a guest's driver would (virtio 1.1, 2.6 and 5.4), by QEMU's test protocol;
the device and its source are those that vmgate renders. That a guest's own kernel draws from it is shown where a guest
boots (`test_hypervisor_guest.py`).
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from pathlib import Path

from hypervisor.domain import ENTROPY_BYTES, ENTROPY_PERIOD_MS, ENTROPY_SOURCE
from lab.qtest import Machine

DEVICE = (
    "-object", f"rng-random,id=source,filename={ENTROPY_SOURCE}", "-device",
    f"virtio-rng-pci,addr=5,disable-legacy=on,rng=source,max-bytes={ENTROPY_BYTES},period={ENTROPY_PERIOD_MS}",
)  # fmt: skip
REGISTERS, DOORBELL = 0xFE000000, 0xFE003000
DESCRIPTORS, AVAILABLE, USED, BUFFER = 0x100000, 0x101000, 0x102000, 0x200000
WAITS = bytes(0xFFF0) + b"\xfa\xf4\xeb\xfd" + bytes(12)
"""Firmware that does nothing: cli, hlt, and again, at the reset vector."""

DRAWN = 64
"""Bytes of one draw."""


class Drawing:
    """A guest's driver for the entropy device of one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.draws = 0
        machine.set_pci(5, 0x20, REGISTERS)
        machine.set_pci(5, 0x24, 0)
        machine.set_pci(5, 0x04, 0x6)
        for status in (0x0, 0x1, 0x3):
            self._set("b", 0x14, status)
        # Features: VIRTIO_F_VERSION_1, and nothing else.
        self._set("l", 0x08, 1)
        self._set("l", 0x0C, 1)
        self._set("b", 0x14, 0xB)
        self._set("w", 0x16, 0)
        self._set("w", 0x18, 8)
        for offset, place in ((0x20, DESCRIPTORS), (0x28, AVAILABLE), (0x30, USED)):
            self._set("q", offset, place)
        self._set("w", 0x1C, 1)
        self._set("b", 0x14, 0xF)

    def _set(self, width: str, offset: int, value: int) -> None:
        self.machine.tell(f"write{width} {REGISTERS + offset:#x} {value:#x}")

    def draw(self) -> bytes:
        """What the device writes into the next buffer."""
        descriptor = struct.pack("<QIHH", BUFFER, DRAWN, 2, 0)
        self.machine.tell(f"write {DESCRIPTORS:#x} {len(descriptor)} 0x{descriptor.hex()}")
        self.machine.tell(f"writew {AVAILABLE + 4 + 2 * (self.draws % 8):#x} 0x0")
        self.draws += 1
        self.machine.tell(f"writew {AVAILABLE + 2:#x} {self.draws:#x}")
        self.machine.tell(f"writew {DOORBELL:#x} 0x0")
        while self.machine.ask(f"readw {USED + 2:#x}") != self.draws:
            pass  # what never comes is ended by the test's own guard
        length = self.machine.ask(f"readl {USED + 8 + 8 * ((self.draws - 1) % 8):#x}")
        assert 0 < length <= DRAWN
        return self.machine.memory(BUFFER, length)


def test_machines_that_are_alike_draw_different_values_at_the_same_time(tmp_path: Path) -> None:
    # The device gives nothing while the machine stands still: its processor runs, and waits.
    firmware = tmp_path / "waits"
    firmware.write_bytes(WAITS)
    alike = (*DEVICE, "-bios", str(firmware))
    with ExitStack() as machines:
        guests = [Drawing(machines.enter_context(Machine(*alike, running=True))) for _ in range(3)]
        drawn = [guest.draw() for _ in range(4) for guest in guests]
    assert all(len(value) == DRAWN for value in drawn)
    assert len(set(drawn)) == len(drawn) == 12
    assert all(len(set(value)) > DRAWN // 2 for value in drawn), "it is no pattern"
