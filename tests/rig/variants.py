# SPDX-License-Identifier: Apache-2.0
"""Other roots than the signed one: files changed and all made to fit again, bytes changed and nothing made to fit.

Each lies in a folder of its own; the image itself is never touched. What an attacker does to the kernel image alone is
in ``attacked``.
"""

from __future__ import annotations

import mmap
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rig import disk, initrd, layout
from rig.image import Image, seal
from rig.programs import RigBroken
from rig.uki import Parts, Signer

_VERIFIED, _UNVERIFIED = "mount -t ext4 -o ro /dev/dm-0", 'mount -t ext4 -o rw "/dev/$data"'


def with_root(image: Image, folder: Path, edit: Callable[[Path], None], signer: Signer | None) -> Image:
    """A root in which files were changed, with all that then must change: hash tree, command line, kernel image.

    Args:
        image: to start from.
        folder: must not exist.
        edit: is given the root as a folder and changes it in place.
        signer: of the kernel image.
    """
    folder.mkdir(parents=True)
    with edited(image.tree, folder) as root:
        edit(root)
        root_hash = seal(root, folder, image.parts, signer)
    return replace(
        image,
        disk=folder / "disk",
        disk_format="raw",
        kernel_image=folder / "kernel-image.efi",
        parts=image.parts.with_command_line(layout.command_line(root_hash)),
        root_hash=root_hash,
    )


def with_unverified_root(image: Image, folder: Path) -> Parts:
    """The parts of a kernel image whose initrd opens the verified root, and then mounts what the disk holds."""
    folder.mkdir(parents=True, exist_ok=True)
    if initrd.INIT.count(_VERIFIED) != 1:
        raise RigBroken("the initrd's script has no such line any more")
    script = initrd.INIT.replace(_VERIFIED, _UNVERIFIED).replace("dmsetup create", ": dmsetup create")
    return replace(image.parts, initrd=initrd.build(image.tree, folder, layout.ROOT.size // layout.BLOCK, script))


def with_changed_bytes(image: Image, folder: Path, content: bytes, changed: bytes) -> Image:
    """The same disk, but the first place of the root partition that holds ``content`` holds ``changed``.

    Args:
        image: on a raw disk.
        folder: must not exist.
        content: to look for.
        changed: as long.
    """
    if len(content) != len(changed):
        raise RigBroken("the changed bytes are not as many")
    folder.mkdir(parents=True)
    with image.disk.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        place = whole.find(content, layout.ROOT.start, layout.ROOT.end)
    if place < 0:
        raise RigBroken("the root partition does not hold these bytes")
    disk.overlay(image.disk, image.disk_format, folder / "disk")
    disk.write(folder / "disk", place, changed)
    return replace(image, disk=folder / "disk", disk_format="qcow2")


@contextmanager
def edited(tree: Path, folder: Path) -> Iterator[Path]:
    """A copy of a folder to change, at no cost: an overlay in the mount namespace of a program that only waits.

    However this process ends, the program ends with it, and with the program the mount.
    """
    upper, work, merged = (folder / name for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        path.mkdir(parents=True)
        path.chmod(0o755)
    options = f"lowerdir={tree.absolute()},upperdir={upper.absolute()},workdir={work.absolute()}"
    script = 'mount --make-rprivate /; mount -t overlay overlay -o "$1" "$2"; echo ready; exec cat'
    command = ["unshare", "-m", "sh", "-ec", script, "sh", options, merged.absolute()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        if holder.stdout is None or holder.stdout.readline() != b"ready\n":
            raise RigBroken("no overlay could be mounted; this needs root")
        yield Path(f"/proc/{holder.pid}/root{merged.absolute()}")
