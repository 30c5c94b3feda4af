# SPDX-License-Identifier: Apache-2.0
"""The processes of a VM are told by their arguments, and their programs by what the kernel says that they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.vm_processes import stranger, told

UUID = "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d21"
QEMU = f"/run/vmgate/vmm/0/bin/qemu\0-name\0guest=hello\0-uuid\0{UUID}\0".encode()
SWTPM = f"swtpm\0socket\0--tpmstate\0dir=/var/lib/libvirt/swtpm/{UUID}/tpm2,mode=0600\0".encode()


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (QEMU, "QEMU"),
        (SWTPM, "swtpm"),
        (QEMU.replace(b"7d1a", b"8d1a"), ""),
        (SWTPM.replace(b"7d1a", b"8d1a"), ""),
        (f"virsh\0start\0{UUID}\0".encode(), ""),
        (b"", ""),
        (b"\xff\0\0", ""),
    ],
)
def test_a_command_line_tells_whose_it_is(command: bytes, program: str) -> None:
    assert told(command, UUID) == program


class Processes:
    """A folder like /proc, with an image beside it that lies on another file system: /dev is one."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.image = Path("/dev/shm")
        self.proc.mkdir()
        (self.proc / "self").symlink_to("1")

    def add(self, number: int, command: bytes, program: Path) -> None:
        place = self.proc / str(number)
        place.mkdir()
        (place / "cmdline").write_bytes(command)
        (place / "exe").symlink_to(program)


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


def test_a_vm_of_the_image_has_no_stranger(processes: Processes) -> None:
    processes.add(1, b"init\0", Path("/bin/true"))
    processes.add(2, QEMU, processes.image)
    processes.add(3, SWTPM, processes.image)
    assert stranger(UUID, processes.image, processes.proc) == ""


def test_a_program_from_elsewhere_is_named(processes: Processes) -> None:
    processes.add(2, QEMU, processes.image)
    processes.add(3, SWTPM, Path("/bin/true"))
    assert stranger(UUID, processes.image, processes.proc) == "swtpm is /bin/true"


def test_a_second_one_does_not_hide_behind_the_first(processes: Processes) -> None:
    for number, program in enumerate((processes.image, Path("/bin/true"))):
        processes.add(number, QEMU, program)
    processes.add(3, SWTPM, processes.image)
    assert stranger(UUID, processes.image, processes.proc) == "QEMU is /bin/true"


def test_what_is_not_there_or_not_known_is_no_pass(processes: Processes) -> None:
    processes.add(2, QEMU, processes.image)
    assert stranger(UUID, processes.image, processes.proc) == "swtpm was not found"
    processes.add(3, SWTPM, Path("/nothing/here"))
    assert stranger(UUID, processes.image, processes.proc) == "swtpm of process 3 is not known"
    assert stranger(UUID, Path("/nothing/here"), processes.proc) == "nothing at /nothing/here"
