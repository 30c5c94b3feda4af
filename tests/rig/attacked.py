# SPDX-License-Identifier: Apache-2.0
"""What an attacker makes of a host that is switched off: another kernel image on its disk, other keys in its firmware.

Disk and TPM are the host's own otherwise. What the attacker has is said by the arguments: the site's signing key, a key
of somebody else's, or none.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rig import disk, layout, uki
from rig.image import Image
from rig.machine import Machine, Snapshot
from rig.programs import RigBroken
from rig.uki import Parts, Signer

VERSION = b"debian-kernel"
"""Stands in the version that a bzImage tells of itself (Linux: Documentation/arch/x86/boot.rst, kernel_version)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What is different when the host is switched on again.

    Attributes:
        parts: of the kernel image; None leaves it as it is.
        signer: who signs it; None is nobody.
        root: an image whose root and kernel image take the place of the host's; None leaves them.
        variables: of the firmware; None leaves them.
    """

    parts: Parts | None = None
    signer: Signer | None = None
    root: Image | None = None
    variables: Path | None = None


@contextmanager
def switched_on(snapshot: Snapshot, attack: Attack, below: Path) -> Iterator[Machine]:
    """The host after an attack on it, switched on and not waited for."""
    machine = Machine(snapshot.image, snapshot.hardware)
    try:
        changed = _partitions(attack, below)
        disk.with_parts(snapshot.folder / "disk.qcow2", "qcow2", machine.folder / "disk.qcow2", changed)
        shutil.copy(attack.variables or snapshot.folder / "vars.fd", machine.folder / "vars.fd")
        shutil.copytree(snapshot.folder / "tpm", machine.tpm.state)
        machine.adopt()
        machine.switch_on()
        yield machine
    finally:
        machine.close()


def _partitions(attack: Attack, below: Path) -> dict[layout.Partition, Path]:
    if attack.root is not None:
        return {part: cut(attack.root.disk, part, below) for part in (layout.ESP, layout.ROOT, layout.VERITY)}
    if attack.parts is None:
        return {}
    kernel_image = uki.build(attack.parts, below / "kernel-image.efi", attack.signer)
    disk.system_partition(kernel_image, below / "esp")
    return {layout.ESP: below / "esp"}


def cut(whole: Path, partition: layout.Partition, below: Path) -> Path:
    """One partition out of a raw disk, as a sparse file in a folder."""
    target = below / partition.name
    first, count = partition.start // layout.MIB, partition.size // layout.MIB
    subprocess.run(
        ["dd", f"if={whole}", f"of={target}", "bs=1M", f"skip={first}", f"count={count}", "conv=sparse", "status=none"],
        check=True,
    )
    return target


def with_other_kernel(parts: Parts, below: Path) -> Parts:
    """A kernel that boots as well and is another one: a letter of a text in its header is changed."""
    content = parts.kernel.read_bytes()
    if VERSION not in content:
        raise RigBroken("the kernel has not the text that was to be changed")
    below.mkdir(parents=True, exist_ok=True)
    kernel = below / "kernel"
    kernel.write_bytes(content.replace(VERSION, VERSION.upper(), 1))
    return replace(parts, kernel=kernel)


def with_words(parts: Parts, *words: str) -> Parts:
    """Further words on the command line."""
    return parts.with_command_line(" ".join((parts.command_line, *words)))
