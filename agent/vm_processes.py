# SPDX-License-Identifier: Apache-2.0
"""Whether the processes of a VM run from its VMM image: libvirt names QEMU's program, but finds swtpm by itself.

Which processes libvirt started stands in its own folder, where no user writes; whose they are is told by the arguments
that it gave them, and the program that each runs by the kernel's word (/proc/PID/exe, proc(5)). Anybody can start one
that looks like these, and it counts for nothing. It is looked once, when the VM has started; this module ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

PROC = Path("/proc")
STARTED = Path("/run/libvirt/qemu")
"""Where libvirt, or virtqemud, keeps the numbers of the processes that it started."""
_LONGEST_NUMBER = 20
_LONGEST = 100_000
"""Bytes of a command line that are looked at; libvirt's for QEMU has about 5,000."""


def stranger(uuid: str, image: Path, proc: Path = PROC, started: Path = STARTED) -> str:
    """What of a running VM is not of its image; empty where QEMU and swtpm both are.

    Args:
        uuid: of the VM.
        image: where its VMM image is mounted.
        proc: the processes.
        started: libvirt's folder of their numbers.
    """
    try:
        device = image.stat().st_dev
    except OSError:
        return f"nothing at {image}"
    seen = set()
    for program, process in _processes(uuid, proc, started):
        try:
            found = (process / "exe").stat().st_dev
        except OSError:
            return f"{program} of process {process.name} is not known"
        if found != device:
            return f"{program} is {(process / 'exe').readlink()}"
        seen.add(program)
    missing = {"QEMU", "swtpm"} - seen
    return f"{min(missing)} was not found" if missing else ""


def _processes(uuid: str, proc: Path, started: Path) -> Iterator[tuple[str, Path]]:
    for number in _numbers(started):
        process = proc / number
        # It may have ended meanwhile.
        with suppress(OSError), (process / "cmdline").open("rb") as file:
            program = told(file.read(_LONGEST), uuid)
            if program:
                yield program, process


def _numbers(started: Path) -> Iterator[str]:
    for path in (*started.glob("*.pid"), *started.glob("swtpm/*.pid")):
        with suppress(OSError), path.open("rb") as file:
            number = file.read(_LONGEST_NUMBER).strip()
            if number.isdigit():
                yield number.decode()


def told(command: bytes, uuid: str) -> str:
    """Which program of a VM a command line starts: ``QEMU``, ``swtpm`` or none."""
    arguments = command.decode(errors="replace").split("\0")
    if ("-uuid", uuid) in pairwise(arguments):
        return "QEMU"
    states = (argument for argument in arguments if argument.startswith("dir="))
    return "swtpm" if any(f"/{uuid}/tpm2" in state for state in states) else ""
