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
    """Folders like /proc and libvirt's, and an image beside them that lies on another file system: /dev is one."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.image = Path("/dev/shm")
        self.started = folder / "libvirt"
        self.proc.mkdir()
        (self.started / "swtpm").mkdir(parents=True)
        (self.proc / "self").symlink_to("1")

    def add(self, number: int, command: bytes, program: Path, *, by_libvirt: bool = True) -> None:
        if by_libvirt:
            below = "swtpm" if command.startswith(b"swtpm") else "."
            (self.started / below / f"{number}-hello.pid").write_text(f"{number}\n")
        place = self.proc / str(number)
        place.mkdir()
        (place / "cmdline").write_bytes(command)
        (place / "exe").symlink_to(program)

    def stranger(self, image: Path | None = None) -> str:
        return stranger(UUID, image or self.image, self.proc, self.started)


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


def test_a_vm_of_the_image_has_no_stranger(processes: Processes) -> None:
    processes.add(1, b"init\0", Path("/bin/true"))
    processes.add(2, QEMU, processes.image)
    processes.add(3, SWTPM, processes.image)
    assert processes.stranger() == ""


def test_a_program_from_elsewhere_is_named(processes: Processes) -> None:
    processes.add(2, QEMU, processes.image)
    processes.add(3, SWTPM, Path("/bin/true"))
    assert processes.stranger() == "swtpm is /bin/true"


def test_a_second_one_does_not_hide_behind_the_first(processes: Processes) -> None:
    for number, program in enumerate((processes.image, Path("/bin/true"))):
        processes.add(number, QEMU, program)
    processes.add(3, SWTPM, processes.image)
    assert processes.stranger() == "QEMU is /bin/true"


def test_what_is_not_there_or_not_known_is_no_pass(processes: Processes) -> None:
    processes.add(2, QEMU, processes.image)
    assert processes.stranger() == "swtpm was not found"
    processes.add(3, SWTPM, Path("/nothing/here"))
    assert processes.stranger() == "swtpm of process 3 is not known"
    assert processes.stranger(Path("/nothing/here")) == "nothing at /nothing/here"


def test_what_anybody_can_start_is_nobodys_vm_and_hinders_none(processes: Processes) -> None:
    processes.add(2, QEMU, processes.image)
    processes.add(3, SWTPM, processes.image)
    processes.add(4, QEMU, Path("/bin/true"), by_libvirt=False)
    assert processes.stranger() == ""


@pytest.mark.parametrize("untrusted", ["", "x", "../1", "-1", "9" * 40])
def test_what_is_no_number_of_a_process_is_none(processes: Processes, untrusted: str) -> None:
    processes.add(2, QEMU, processes.image)
    (processes.started / "odd.pid").write_text(untrusted)
    assert processes.stranger() == "swtpm was not found"
