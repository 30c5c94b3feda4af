# SPDX-License-Identifier: Apache-2.0
"""QEMU processes and other users of KVM on this host that are not this libvirt's domains.

Found are programs that are called like QEMU, and whatever holds a virtual machine of KVM's (kvm(4): its descriptor is
called ``anon_inode:kvm-vm``). A program of another name that emulates a machine without KVM looks like any other
program; one that ends before the second look is not told. This module ends nothing and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

PROC = Path("/proc")
PID_FILES = Path("/run/libvirt/qemu")
"""Where the system's libvirt notes which process is which domain; only root writes there."""

PROGRAM = re.compile(r"qemu-(system-[a-z0-9_]+|kvm)|kvm")
MACHINE = "anon_inode:kvm-vm"
MAX_PROCESSES = 100_000
MAX_DESCRIPTORS = 10_000
"""Of one process; what has more is looked at as far as that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One process that runs a machine.

    Attributes:
        process: its id.
        started: in the kernel's clock ticks since the boot; with the id it names one process.
        uid: whose it is.
        program: the name of its file, or of the process where that cannot be read.
        kvm: whether it holds a virtual machine of KVM's.
    """

    process: int
    started: int
    uid: int
    program: str
    kvm: bool


def machines(proc: Path = PROC, pid_files: Path = PID_FILES, *, same_mounts: bool = False) -> tuple[Machine, ...]:
    """All that run now and are not domains of this libvirt.

    Args:
        proc: the kernel's.
        pid_files: of this libvirt's domains.
        same_mounts: look only at processes that see the same files as this one: a host that is staged in a folder is
            not all of its machine.
    """
    here = _link(proc / "self/ns/mnt") if same_mounts else None
    domains = set(_domains(pid_files))
    found = (_machine(proc / name) for name in _processes(proc) if int(name) not in domains)
    return tuple(one for one in found if one and (here is None or _link(proc / f"{one.process}/ns/mnt") == here))


def _processes(proc: Path) -> list[str]:
    return sorted((path.name for path in proc.iterdir() if path.name.isdecimal()), key=int)[:MAX_PROCESSES]


def _domains(pid_files: Path) -> Iterator[int]:
    for path in pid_files.glob("*.pid"):
        try:
            text = path.read_text()[:20].strip()
        except OSError:
            continue
        if text.isdecimal():
            yield int(text)


def _machine(folder: Path) -> Machine | None:
    """A process as a machine; None where it is none, or is gone, or nobody may look at it."""
    program = _link(folder / "exe").rpartition("/")[2].removesuffix(" (deleted)")
    kvm = any(link == MACHINE for link in _descriptors(folder / "fd"))
    if not kvm and not PROGRAM.fullmatch(program):
        return None
    try:
        fields = (folder / "stat").read_bytes()[:4_096].rpartition(b")")[2].split()
        uid = folder.stat().st_uid
        started = int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
    return Machine(process=int(folder.name), started=started, uid=uid, program=program or "unknown", kvm=kvm)


def _descriptors(folder: Path) -> Iterator[str]:
    try:
        paths = tuple(islice(folder.iterdir(), MAX_DESCRIPTORS))
    except OSError:
        return
    yield from map(_link, paths)


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
