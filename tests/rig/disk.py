# SPDX-License-Identifier: Apache-2.0
"""The host's disk: file systems out of folders, the hash tree of the root, the partition table. No mounts, no loops.

The same tree gives the same bytes.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from rig import layout
from rig.programs import EPOCH, RigBroken, run

_EXT4 = ("mke2fs", "-q", "-t", "ext4", "-b", str(layout.BLOCK), "-m", "0", "-F")
_OPTIONS = f"hash_seed={layout.HASH_SEED},root_owner=0:0,lazy_itable_init=0,nodiscard"


def root_filesystem(tree: Path, target: Path) -> None:
    """A read-only ext4 with the content of ``tree``: no journal, nothing to grow."""
    _blank(target, layout.ROOT.size)
    features = "^has_journal,^resize_inode"
    run(*_EXT4, "-O", features, "-U", layout.ROOT_UUID, "-L", "root", "-E", _OPTIONS, "-d", tree, target)
    _stop_clock(target)


def _stop_clock(filesystem: Path) -> None:
    """Set the times that mke2fs takes over from a folder and nobody can set there: of the last change and access."""
    told = dict(line.split(":", 1) for line in run("dumpe2fs", "-h", filesystem).splitlines() if ":" in line)
    used = int(told["Inode count"]) - int(told["Free inodes"])
    # Those below 11 but for 2, the root folder, are not files (ext4: special inodes).
    numbers = (2, *range(11, used + 1))
    lines = [f"set_inode_field <{number}> {name} @{EPOCH}\n" for number in numbers for name in ("atime", "ctime")]
    run("debugfs", "-w", "-f", "-", filesystem, text="".join(lines))


def hash_tree(root: Path, target: Path) -> str:
    """The dm-verity hash tree of a file system (Linux: Documentation/admin-guide/device-mapper/verity.rst).

    Returns:
        The root hash, in hexadecimal.
    """
    _blank(target, layout.VERITY.size)
    said = run("veritysetup", "format", "--salt", layout.SALT, "--uuid", layout.VERITY_UUID, root, target)
    found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", said, re.MULTILINE)
    if found is None:
        raise RigBroken(f"veritysetup gave no root hash: {said}")
    return found[1]


def state_filesystem(target: Path) -> None:
    """An empty ext4 on which fs-verity can be used; the host fills it when it boots."""
    _blank(target, layout.STATE.size)
    run(*_EXT4, "-O", "verity", "-U", layout.STATE_UUID, "-L", "state", "-E", _OPTIONS, target)


def system_partition(kernel_image: Path, target: Path) -> None:
    """A FAT file system with the kernel image where firmware looks for it."""
    target.unlink(missing_ok=True)
    run("mformat", "-C", "-i", target, "-T", str(layout.ESP.size // layout.SECTOR), "-h", "64", "-s", "32",
        "-N", layout.VOLUME_ID, "-v", "VMGATE", "::")  # fmt: skip
    run("mmd", "-i", target, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", target, kernel_image, "::/EFI/BOOT/BOOTX64.EFI")


def assemble(target: Path, parts: dict[layout.Partition, Path]) -> None:
    """The whole disk, sparse."""
    _blank(target, layout.PARTITIONS[-1].end + layout.MIB)
    sector = layout.SECTOR
    lines = [
        f'start={p.start // sector}, size={p.size // sector}, type={p.type}, uuid={p.uuid}, name="{p.name}"'
        for p in layout.PARTITIONS
    ]
    script = "\n".join(["label: gpt", f"label-id: {layout.DISK_ID}", *lines, ""])
    run("sfdisk", "--quiet", target, text=script)
    with target.open("r+b") as whole:
        for partition, content in parts.items():
            _lay_in(content, whole.fileno(), partition.start)


def with_parts(base: Path, base_format: str, target: Path, parts: dict[layout.Partition, Path]) -> None:
    """A disk like ``base`` in which some partitions are others: only the difference is stored."""
    target.unlink(missing_ok=True)
    overlay(base, base_format, target)
    for partition, content in parts.items():
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -s {content} {partition.start} {content.stat().st_size}", target)


def write(target: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a qcow2 disk."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -s {file.name} {offset} {len(data)}", target)


def overlay(base: Path, base_format: str, target: Path) -> None:
    """A qcow2 disk that starts as ``base`` is and never changes it."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.absolute(), "-F", base_format, target)


def _lay_in(content: Path, target: int, start: int) -> None:
    """Copy a file into another one, but for its holes (lseek(2), SEEK_DATA)."""
    with content.open("rb") as file:
        size, place = content.stat().st_size, 0
        while place < size:
            try:
                place = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(file.fileno(), place, os.SEEK_HOLE)
            while place < end:
                place += os.copy_file_range(file.fileno(), target, end - place, place, start + place)


def _blank(target: Path, size: int) -> None:
    with target.open("wb") as file:
        file.truncate(size)
