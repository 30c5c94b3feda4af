# SPDX-License-Identifier: Apache-2.0
"""Processes that run a machine and are no domain of libvirt's are found, in a /proc of the tests' own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hypervisor.by_hand import Machine, machines


class Proc:
    """A /proc with the processes that a test adds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "proc"
        self.pid_files = folder / "qemu"
        self.pid_files.mkdir()
        self.add("self", "/usr/bin/python3", mounts="mnt:[1]")
        (self.folder / "meminfo").write_text("no process")

    def add(self, name: str, program: str, *, mounts: str = "mnt:[1]", links: tuple[str, ...] = ()) -> Path:
        place = self.folder / name
        (place / "fd").mkdir(parents=True)
        (place / "ns").mkdir()
        (place / "exe").symlink_to(program)
        (place / "ns/mnt").symlink_to(mounts)
        for number, link in enumerate(links):
            (place / "fd" / str(number)).symlink_to(link)
        fields = ["S", *["0"] * 18, "4711", *["0"] * 30]
        (place / "stat").write_text(f"{name} (a) b) {' '.join(fields)}\n")
        return place

    def found(self, *, same_mounts: bool = False) -> list[Machine]:
        return list(machines(self.folder, self.pid_files, same_mounts=same_mounts))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.mark.parametrize(
    "program",
    ["/usr/bin/qemu-system-x86_64", "/home/x/qemu-kvm", "/usr/bin/kvm", "/tmp/qemu-system-aarch64 (deleted)"],
)
def test_a_program_that_is_called_like_qemu_is_one(proc: Proc, program: str) -> None:
    proc.add("7", program)
    (one,) = proc.found()
    assert (one.process, one.started, one.uid, one.kvm) == (7, 4711, os.getuid(), False)
    assert one.program == program.rpartition("/")[2].removesuffix(" (deleted)")


def test_whatever_holds_a_machine_of_kvms_is_one_by_any_name(proc: Proc) -> None:
    proc.add("7", "/usr/bin/firefox", links=("/dev/null", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"))
    (one,) = proc.found()
    assert (one.program, one.kvm) == ("firefox", True)


@pytest.mark.parametrize("program", ["/usr/bin/vim", "/usr/bin/qemu-img", "/usr/bin/qemu-system-x86_64-not/sh"])
def test_others_are_none(proc: Proc, program: str) -> None:
    proc.add("7", program, links=("/dev/kvm", "socket:[3]"))
    assert proc.found() == []


def test_a_domain_of_libvirts_is_none(proc: Proc) -> None:
    proc.add("7", "/usr/bin/qemu-system-x86_64")
    proc.add("8", "/usr/bin/qemu-system-x86_64")
    (proc.pid_files / "hello.pid").write_text("7\n")
    (proc.pid_files / "other.pid").write_text("not a number")
    assert [one.process for one in proc.found()] == [8]


def test_what_is_gone_meanwhile_is_left_out(proc: Proc) -> None:
    place = proc.add("7", "/usr/bin/qemu-system-x86_64")
    (place / "stat").unlink()
    proc.add("9", "/usr/bin/qemu-system-x86_64")
    (proc.folder / "9/stat").write_text("9 (half")
    assert proc.found() == []


def test_a_host_that_is_staged_in_a_folder_looks_at_its_own_files_only(proc: Proc) -> None:
    proc.add("7", "/usr/bin/qemu-system-x86_64", mounts="mnt:[2]")
    proc.add("8", "/usr/bin/qemu-system-x86_64", mounts="mnt:[1]")
    assert [one.process for one in proc.found()] == [7, 8]
    assert [one.process for one in proc.found(same_mounts=True)] == [8]
