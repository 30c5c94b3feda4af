# SPDX-License-Identifier: Apache-2.0
"""The root of the host as a folder: the packages, vmgate, and the files of ``overlay``; nothing in it changes later.

What Debian keeps below /var is turned into a list of folders that the host makes when it boots, so that its /var may
start empty and nothing on it need be believed.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from deb.tree import SITE
from rig.programs import EPOCH, run

OVERLAY = Path(__file__).with_name("overlay")
UNITS = "usr/lib/systemd/system"
ENABLED = ("host-var.service",)
"""What is started besides what the packages start."""
MASKED = (
    # The rig's clock, console and disks need none of these, and each costs a second of an emulated boot.
    "apt-daily.timer", "apt-daily-upgrade.timer", "dev-hugepages.mount", "dev-mqueue.mount", "dpkg-db-backup.timer",
    "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty-static.service", "getty@tty1.service",
    "libvirt-guests.service", "logrotate.timer", "modprobe@drm.service", "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
    "systemd-binfmt.service", "systemd-firstboot.service", "systemd-pstore.service", "systemd-remount-fs.service",
    "systemd-repart.service", "systemd-sysusers.service", "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service", "var-lib-machines.mount",
)  # fmt: skip
GENERATORS = (
    # They would mount what the partition table says, or wait for a root that the initrd has opened already.
    "systemd-cryptsetup-generator", "systemd-getty-generator", "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator", "systemd-integritysetup-generator", "systemd-veritysetup-generator",
)  # fmt: skip
VAR_LIST = "usr/lib/vmgate-rig/var.conf"
UNUSED_VAR = ("var/lib/dpkg", "var/lib/apt", "var/cache/apt", "var/cache/debconf", "var/lib/systemd/deb-systemd-helper")
LIBVIRT_WRITES = ("nwfilter", "qemu", "secrets", "storage")
"""Folders of /etc/libvirt that can be written: what is defined, not what is configured."""
STATE = ("d /state/vmgate 0711 0 0", "d /state/swtpm 0711 0 0", "d /state/domains 0700 0 0")
"""What stays over a boot (tmpfiles.d(5))."""


def build(base: Path, package: Path, target: Path) -> None:
    """Make the folder ``target``.

    Args:
        base: the packed root.
        package: vmgate's Debian package.
        target: must not exist.
    """
    target.mkdir(parents=True)
    run("tar", "-C", target, "-xf", base)
    shutil.copy(package, target / "vmgate.deb")
    run("chroot", target, "dpkg", "--install", "/vmgate.deb", environment={"DEBIAN_FRONTEND": "noninteractive"})
    (target / "vmgate.deb").unlink()
    shutil.copytree(OVERLAY, target, dirs_exist_ok=True, symlinks=True, copy_function=_copy)
    _install_hook(target)
    _empty_etc(target)
    _empty_var(target)
    for unit in ENABLED:
        wants = target / "etc/systemd/system/multi-user.target.wants" / unit
        wants.symlink_to(f"/{UNITS}/{unit}")
    for unit in MASKED:
        link = target / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    for generator in GENERATORS:
        link = target / "etc/systemd/system-generators" / generator
        link.parent.mkdir(exist_ok=True)
        link.symlink_to("/dev/null")
    stop_clock(target)


def stop_clock(tree: Path) -> None:
    """Let everything that was touched since the packages were made be of the one fixed time."""
    for path in (tree, *tree.rglob("*")):
        if path.lstat().st_mtime > EPOCH:
            os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


def kernel(tree: Path) -> Path:
    """The kernel that came with the packages."""
    (path,) = (tree / "boot").glob("vmlinuz-*")
    return path


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    executable = Path(source).stat().st_mode & stat.S_IXUSR
    Path(target).chmod(0o755 if executable else 0o644)


def _install_hook(tree: Path) -> None:
    """The hook, byte for byte as ``vmgate init`` would install it."""
    target = tree / "etc/libvirt/hooks/qemu"
    shutil.copyfile(tree / SITE / "agent/hook_script.py", target)
    target.chmod(0o755)


def _empty_etc(tree: Path) -> None:
    # An empty machine id: systemd makes one for each boot, and does not take this for a first boot (machine-id(5)).
    (tree / "etc/machine-id").write_text("")
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    for name in LIBVIRT_WRITES:
        shutil.rmtree(tree / "etc/libvirt" / name, ignore_errors=True)
        (tree / "etc/libvirt" / name).mkdir(0o755)
    templates = tree / "usr/share/vmgate-rig/apparmor-libvirt"
    shutil.copytree(tree / "etc/apparmor.d/libvirt", templates)
    for name in ("initrd.img", "initrd.img.old", "vmlinuz", "vmlinuz.old"):
        (tree / name).unlink(missing_ok=True)
    for path in (tree / "run").iterdir():
        shutil.rmtree(path)


def _empty_var(tree: Path) -> None:
    """Turn /var's folders into lines of tmpfiles.d(5)."""
    lines = [*STATE, *(f"d /var/lib/libvirt-etc/{name} 0700 0 0" for name in LIBVIRT_WRITES)]
    for path in sorted((tree / "var").rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            lines.append(f"L /{name} - - - - {path.readlink()}")
        elif path.is_dir() and not name.startswith(UNUSED_VAR):
            status = path.stat()
            lines.append(f"d /{name} {stat.S_IMODE(status.st_mode):04o} {status.st_uid} {status.st_gid}")
    shutil.rmtree(tree / "var")
    for name in ("state", "var"):
        (tree / name).mkdir(0o755)
    listed = tree / VAR_LIST
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("\n".join(["d /var/lib/libvirt-etc 0700 0 0", *lines, ""]))
