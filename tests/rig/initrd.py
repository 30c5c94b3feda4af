# SPDX-License-Identifier: Apache-2.0
"""The initrd: busybox, dmsetup and a script that opens the verified root, or stops the machine.

The root hash comes from the kernel command line alone, which is part of the signed kernel image; the geometry is in the
script. The superblock on the disk is not read: everything that decides was signed. It measures nothing; the stub
measured it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

from rig import layout
from rig.programs import EPOCH, RigBroken, run

MODULES = ("virtio_pci", "virtio_blk", "dm_verity")
"""What is not built in and stands between the kernel and its root."""
FOLDERS = ("bin", "dev", "lib64", "proc", "root", "sys")

INIT = """\
#!/bin/sh
# Opens the root that the kernel command line names by its hash; anything else ends in a panic.
export PATH=/bin
stop() { echo "rig: $*"; exit 1; }
mount -t devtmpfs dev /dev && mount -t proc proc /proc && mount -t sysfs sys /sys || stop "no /dev, /proc, /sys"
for module in @MODULES@; do insmod "/$module" || stop "no module $module"; done
hash=
for word in $(cat /proc/cmdline); do
    case $word in roothash=*) [ -z "$hash" ] || stop "two root hashes"; hash=${word#roothash=} ;; esac
done
[ "${#hash}" -eq 64 ] || stop "no root hash"
# Whose name it bears decides nothing: what is found is verified.
partition() { sed -n "s/^DEVNAME=//p" $(grep -lx "PARTNAME=$1" /sys/class/block/*/uevent) | head -n 1; }
for second in 0 1 2 3 4 5 6 7 8 9; do
    data=$(partition @ROOT@) tree=$(partition @VERITY@)
    [ -z "$data" ] || [ -z "$tree" ] || break
    sleep 1
done
[ -n "$data" ] && [ -n "$tree" ] || stop "no partitions"
blocks=$(($(cat /sys/class/block/"$data"/size) / 8))
[ "$blocks" -eq @BLOCKS@ ] || stop "the root has $blocks blocks"
dmsetup create root --readonly --noudevsync --noudevrules --table \\
    "0 $((blocks * 8)) verity 1 /dev/$data /dev/$tree 4096 4096 $blocks 1 sha256 $hash @SALT@ 1 panic_on_corruption" ||
    stop "no verified root"
mount -t ext4 -o ro /dev/dm-0 /root || stop "the root was not mounted"
umount /proc && umount /sys && mount --move /dev /root/dev || stop "no way to the root"
exec switch_root /root /sbin/init
"""


def build(tree: Path, folder: Path, blocks: int, script: str = INIT) -> Path:
    """Make ``folder/initrd``.

    Args:
        tree: the root whose kernel modules and programs it takes.
        folder: where to work.
        blocks: of 4096 bytes, of the root file system.
        script: what it runs.
    """
    stage = folder / "initrd.d"
    shutil.rmtree(stage, ignore_errors=True)
    for name in FOLDERS:
        (stage / name).mkdir(parents=True)
    os.mknod(stage / "dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1))
    shutil.copy(tree / "usr/bin/busybox", stage / "bin/busybox")
    for name in ("cat", "grep", "head", "insmod", "mount", "sed", "sh", "sleep", "switch_root", "umount"):
        (stage / "bin" / name).symlink_to("busybox")
    _copy_program(tree, "usr/sbin/dmsetup", stage)
    modules = _in_order(tree)
    for module in modules:
        # Where the root has them: the kernel lists what it loads by this path, and a verifier looks it up in the root.
        place = stage / module.relative_to(tree)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, place)
    words = {
        "MODULES": " ".join(str(module.relative_to(tree)) for module in modules),
        "ROOT": layout.ROOT.name,
        "VERITY": layout.VERITY.name,
        "BLOCKS": str(blocks),
        "SALT": layout.SALT,
    }
    init = stage / "init"
    init.write_text(re.sub(r"@(\w+)@", lambda match: words[match[1]], script))
    init.chmod(0o755)
    return _pack(stage, folder / "initrd")


def _copy_program(tree: Path, program: str, stage: Path) -> None:
    """A program and the libraries that its loader finds for it in the tree."""
    shutil.copy(tree / program, stage / "bin")
    libraries = re.findall(r"(/\S+) \(0x", run("chroot", tree, "ldd", f"/{program}"))
    (stage / "lib").symlink_to("lib64")
    for library in libraries:
        target = stage / "lib64" / Path(library).name
        shutil.copy(tree / library.lstrip("/"), target)


def _in_order(tree: Path) -> list[Path]:
    """The modules and those that they need, each after what it needs (modules.dep(5))."""
    (folder,) = (tree / "usr/lib/modules").iterdir()
    needs: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {Path(path).stem.replace("-", "_"): path for path in needs}
    found: list[str] = []

    def add(path: str) -> None:
        for other in needs[path]:
            add(other)
        if path not in found:
            found.append(path)

    for name in MODULES:
        if name not in by_name:
            raise RigBroken(f"the kernel has no module {name}")
        add(by_name[name])
    return [folder / path for path in found]


def _pack(stage: Path, target: Path) -> Path:
    """A compressed archive in cpio's ``newc`` form whose bytes depend on the content only."""
    paths = sorted(stage.rglob("*"))
    for path in paths:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    names = b"".join(str(path.relative_to(stage)).encode() + b"\0" for path in paths)
    command = ["cpio", "--quiet", "--reproducible", "--null", "--create", "--format=newc", "--owner=+0:+0"]
    archive = subprocess.run(command, input=names, cwd=stage, capture_output=True, check=True).stdout
    packed = subprocess.run(["zstd", "-q", "-10", "-c"], input=archive, capture_output=True, check=True).stdout
    target.write_bytes(packed)
    shutil.rmtree(stage)
    return target
