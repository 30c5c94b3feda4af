# SPDX-License-Identifier: Apache-2.0
"""The evaluator's steps for FPT_DVD_EXT.1, FPT_VDP_EXT.1, FPT_VIV_EXT.1 and FDP_RIP_EXT.1, against the devices that
vmgate gives to a VM. What the guest would do is done by QEMU's test protocol, so all of it is shown in emulation only.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.qtest import NOTHING, Machine, chipset

ENTROPY = ("-device", "virtio-rng-pci,addr=5,disable-legacy=on")
DISK = ("-blockdev", "null-co,node-name=n,read-zeroes=on", "-device", "virtio-blk-pci,drive=n,addr=6,disable-legacy=on")
SERIAL = ("-chardev", "null,id=c", "-device", "isa-serial,chardev=c")
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
TOP = 1 << 32
MIB = 1024**2
CANARY = b"canary of somebody else's memory"
CANARY_WRITER = f"p = {CANARY!r} * 4096\nkeep = [bytearray(p) for _ in range(1024)]\nprint(len(keep))"


@pytest.mark.parametrize(
    ("device", "place", "identity"),
    [(ENTROPY, (5, 0), "1af4:1044"), (DISK, (6, 0), "1af4:1042")],
    ids=["entropy", "disk"],
)
def test_a_device_that_is_removed_has_no_interface_left(
    device: tuple[str, ...], place: tuple[int, int], identity: str
) -> None:
    """FPT_DVD_EXT.1: attach it and scan, it is there; remove it and scan, it is not, and nothing else came or went."""
    with Machine(*device) as machine:
        assert machine.devices() == {**chipset(), place: identity}
    with Machine() as machine:
        assert machine.devices() == chipset()
        assert machine.pci(*place, 0x10) == NOTHING


def test_a_port_whose_device_is_removed_answers_nothing() -> None:
    """The scratch register of a serial port (16550, 7.8) keeps what is written, where there is one."""
    for arguments, kept in ((SERIAL, 0x5A), ((), 0xFF)):
        with Machine(*arguments) as machine:
            machine.tell("outb 0x3ff 0x5a")
            assert machine.ask("inb 0x3ff") == kept


def test_illegal_values_get_the_documented_answer_and_harm_nothing() -> None:
    """FPT_VDP_EXT.1, one illegal value per interface that vmgate's VMs have, and the machine goes on."""
    with Machine(*ENTROPY, *DISK, *SERIAL) as machine:
        # PCI 3.0, 3.2.2.3.4 and 6.1: a function that is not there reads as ones; writes to it are dropped.
        machine.set_pci(17, 0x04, 0xFFFFFFFF)
        assert machine.pci(17, 0) == NOTHING
        # Identity is read-only (6.2.1).
        machine.set_pci(5, 0x00, 0xDEADBEEF)
        assert machine.pci(5, 0) == 0x10441AF4
        # QEMU, docs/specs/fw_cfg: a selector that is not known reads as zeros.
        machine.tell("outw 0x510 0x7fff")
        assert machine.ask("inb 0x511") == 0
        # 16550: a divisor of zero, and a word length with reserved bits.
        for port, value in ((0x3FB, 0xFF), (0x3F8, 0), (0x3F9, 0), (0x3FB, 0x03)):
            machine.tell(f"outb {port:#x} {value:#x}")
        machine.tell("outb 0x3ff 0xa5")
        assert machine.ask("inb 0x3ff") == 0xA5
        # The clock's registers end at 0x7f (MC146818A); the index has no more bits.
        machine.tell("outb 0x70 0xff")
        assert 0 <= machine.ask("inb 0x71") <= 0xFF
        assert machine.runs


@pytest.mark.parametrize("slot", [5, 6], ids=["entropy", "disk"])
def test_a_virtio_device_bears_what_no_driver_would_say(slot: int) -> None:
    """Virtio 1.1, 4.1.4.3: features beyond the words that exist read as 0; QEMU selects no queue that is not there."""
    with Machine(*ENTROPY, *DISK) as machine:
        base = 0xFE000000
        machine.set_pci(slot, 0x20, base)
        machine.set_pci(slot, 0x24, 0)
        machine.set_pci(slot, 0x04, 0x6)
        machine.tell(f"writew {base + 0x16:#x} 0xffff")
        assert machine.ask(f"readw {base + 0x16:#x}") == 0
        machine.tell(f"writel {base:#x} 0xffffffff")
        assert machine.ask(f"readl {base + 4:#x}") == 0
        machine.tell(f"writew {base + 0x16:#x} 0x0")
        assert machine.ask(f"readw {base + 0x18:#x}") > 0
        # Rings outside the guest's memory, switched on: the device asks to be reset, or does nothing.
        for offset in range(0x20, 0x38, 8):
            machine.tell(f"writeq {base + offset:#x} 0xfffffffffffff000")
        machine.tell(f"writew {base + 0x1C:#x} 0x1")
        machine.tell(f"writeb {base + 0x14:#x} 0xf")
        machine.tell(f"writew {base + 0x3000:#x} 0x0")
        # Written to status, zero resets it (4.1.4.3.1).
        machine.tell(f"writeb {base + 0x14:#x} 0x0")
        assert machine.ask(f"readb {base + 0x14:#x}") == 0
        assert machine.runs


def test_no_guest_writes_the_firmware_that_all_share(tmp_path: Path) -> None:
    """FPT_VIV_EXT.1.2: what changes one VM's variables changes neither the code nor another VM's variables."""
    code, own, other = (Path(shutil.copy(source, tmp_path / name)) for source, name in (
        (FIRMWARE, "code"), (VARIABLES, "own"), (VARIABLES, "other")))  # fmt: skip
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (code, own, other)}
    flash = [f"if=pflash,format=raw,unit=0,readonly=on,file={code}", f"if=pflash,format=raw,unit=1,file={own}"]
    with Machine(*(part for drive in flash for part in ("-drive", drive))) as machine:
        start = TOP - code.stat().st_size
        for address in (start, start - own.stat().st_size):
            # Intel's commands for flash: program a byte (of the identity in the header), and back to reading.
            for value in (0x40, 0x00, 0xFF):
                machine.tell(f"writeb {address + 0x12:#x} {value:#x}")
        assert machine.runs
    after = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (code, own, other)}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"own"}, "the probe works, and reaches nothing but this VM's own variables"


def test_memory_is_empty_when_a_guest_gets_it() -> None:
    """FDP_RIP_EXT.1, by proxy: a process fills memory and ends; a VM that starts after it finds zeros only."""
    filled = subprocess.run([sys.executable, "-c", CANARY_WRITER], check=True, capture_output=True, text=True)
    assert filled.stdout == "1024\n", "128 MiB held the canary"
    with Machine(memory_mib=64) as machine:
        seen = 0
        for address in range(MIB, 64 * MIB, MIB):
            piece = machine.memory(address, MIB)
            assert CANARY not in piece
            seen += piece.count(0)
        assert seen == 63 * MIB
        machine.tell(f"write {MIB:#x} {len(CANARY)} 0x{CANARY.hex()}")
        assert machine.memory(MIB, len(CANARY)) == CANARY, "what is there would have been seen"
