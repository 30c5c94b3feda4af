# SPDX-License-Identifier: Apache-2.0
"""A QEMU driven by its test protocol: what a guest could do to its devices, without a guest.

``qtest`` (QEMU's docs/devel/testing/qtest): a line in, a line out. The machine is one without defaults, as vmgate's
are. It shows what QEMU's devices do with what a guest sends them; it shows nothing about KVM.
"""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Self

QEMU = "qemu-system-x86_64"
MACHINE = ("-machine", "q35,accel=tcg", "-nodefaults", "-no-user-config", "-display", "none")
NOTHING = 0xFFFFFFFF
"""What a bus answers where no device is."""


class Machine:
    """One machine, and the devices that it was given."""

    def __init__(self, *arguments: str, memory_mib: int = 32, running: bool = False) -> None:
        still = () if running else ("-S",)
        self._process = subprocess.Popen(
            [QEMU, *MACHINE, *still, "-m", str(memory_mib), "-qtest", "stdio", "-qtest-log", "/dev/null", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def runs(self) -> bool:
        """It neither crashed nor gave up."""
        return self.ask("readb 0x0") >= 0 and self._process.poll() is None

    def tell(self, line: str) -> str:
        """One command of the protocol; what stands behind OK."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer.startswith("OK"), f"{line}: {answer!r}"
        return answer[2:].strip()

    def ask(self, line: str) -> int:
        """One command that reads."""
        return int(self.tell(line), 16)

    def memory(self, address: int, size: int) -> bytes:
        """Guest memory as it stands."""
        return bytes.fromhex(self.tell(f"read {address:#x} {size}").removeprefix("0x"))

    def pci(self, slot: int, function: int, offset: int = 0) -> int:
        """Four bytes of a function's configuration on the first bus (PCI 3.0, 3.2.2.3.2)."""
        self._select(slot, function, offset)
        return self.ask("inl 0xcfc")

    def set_pci(self, slot: int, offset: int, value: int) -> None:
        """Write four bytes of a function's configuration."""
        self._select(slot, 0, offset)
        self.tell(f"outl 0xcfc {value:#x}")

    def _select(self, slot: int, function: int, offset: int) -> None:
        self.tell(f"outl 0xcf8 {0x80000000 | slot << 11 | function << 8 | offset:#x}")

    def devices(self) -> dict[tuple[int, int], str]:
        """All that answers on the first bus: slot and function to vendor and device."""
        found = {}
        for slot in range(32):
            for function in range(8):
                value = self.pci(slot, function)
                if value != NOTHING:
                    found[slot, function] = f"{value & 0xFFFF:04x}:{value >> 16:04x}"
        return found


def chipset() -> dict[tuple[int, int], str]:
    """What every q35 has: the host bridge, and the ISA bridge with the disk and SMBus functions beside it."""
    return {(0, 0): "8086:29c0", (31, 0): "8086:2918", (31, 2): "8086:2922", (31, 3): "8086:2930"}
