# SPDX-License-Identifier: Apache-2.0
"""Reads what the doctor looks at: small files, modes and owners, names in folders. It judges nothing.

What cannot be read is absent, which each check has to take as the worse case.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from content.mounts import Mounts
from content.verity_ioctl import support

MAX_FILE: Final = 1_000_000
MAX_NAMES: Final = 1_000

FILES: Final = (
    "/etc/group",
    "/etc/libvirt/qemu.conf",
    "/etc/libvirt/libvirtd.conf",
    "/etc/libvirt/virtqemud.conf",
    "/proc/cmdline",
    "/proc/swaps",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/kexec_load_disabled",
    "/sys/devices/system/cpu/smt/active",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/security/lockdown",
    "/sys/module/apparmor/parameters/enabled",
    "/sys/module/kvm_amd/parameters/nested",
    "/sys/module/kvm_intel/parameters/nested",
    "/sys/fs/selinux/enforce",
)
"""Files that are read as text."""

PLACES: Final = (
    "/dev/kvm",
    "/dev/tpm0",
    "/dev/tpmrm0",
    "/etc/libvirt/hooks/qemu",
    "/etc/vmgate",
    "/sys/firmware/efi",
    "/usr/sbin/dnsmasq",
    "/var/lib/vmgate",
    "/var/lib/vmgate/networks.json",
)
"""Places whose mode and owner are looked at."""

FOLDERS: Final = (
    "/etc/libvirt/hooks/qemu.d",
    "/etc/libvirt/qemu/autostart",
    "/sys/class/iommu",
    "/sys/devices/system/cpu/vulnerabilities",
)
"""Folders whose names are listed; the files of the last are read as well."""

VULNERABILITIES: Final = FOLDERS[-1]
SECURE_BOOT: Final = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file, folder or device.

    Attributes:
        mode: as in ``stat``, kind included.
        uid, gid: owner.
    """

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found, by path.

    Attributes:
        files: texts.
        places: modes and owners.
        folders: names, sorted.
        swaps: devices that are swapped to, and whether each is encrypted or memory.
        secure_boot: True, False, or None where there is no such variable.
        free: part of the space that is free where the state lies, 0 to 1; None where it is not known.
        store: file system of the content store, and what ``content.verity_ioctl.support`` says of a file in it; None
            where the store is empty or not readable.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    swaps: Mapping[str, bool] = field(default_factory=dict)
    secure_boot: bool | None = None
    free: float | None = None
    store: tuple[str, str] | None = None


def collect(root: Path) -> Facts:
    """Look at a host, below ``root``; ``/`` but for tests and images that are being made."""
    folders = {name: names for name in FOLDERS if (names := _names(root / name[1:])) is not None}
    wanted = [*FILES, *(f"{VULNERABILITIES}/{name}" for name in folders.get(VULNERABILITIES, ()))]
    files = {name: text for name in wanted if (text := _text(root / name[1:])) is not None}
    return Facts(
        files=files,
        places={name: place for name in PLACES if (place := _place(root / name[1:])) is not None},
        folders=folders,
        swaps={name: _covered(root, name) for name in _swaps(files.get("/proc/swaps", ""))},
        secure_boot=_secure_boot(root / SECURE_BOOT[1:]),
        free=_free(root / "var/lib/vmgate"),
        store=_store(root / "var/lib/vmgate/store"),
    )


def _bytes(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        data = os.read(descriptor, MAX_FILE + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data if len(data) <= MAX_FILE else None


def _text(path: Path) -> str | None:
    data = _bytes(path)
    return None if data is None else data.decode(errors="replace")


def _place(path: Path) -> Place | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return Place(mode=status.st_mode, uid=status.st_uid, gid=status.st_gid)


def _names(path: Path) -> tuple[str, ...] | None:
    try:
        return tuple(sorted(entry.name for entry in path.iterdir())[:MAX_NAMES])
    except OSError:
        return None


def _store(path: Path) -> tuple[str, str] | None:
    """One file tells of all: they are sealed when they come in, where the file system can."""
    sample = next((entry for entry in sorted(path.glob("[0-9a-f][0-9a-f]/*")) if not entry.is_symlink()), None)
    if sample is None:
        return None
    try:
        descriptor = os.open(sample, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        mount = Mounts().of(descriptor)
        return (mount.filesystem if mount else "unknown", support(descriptor))
    finally:
        os.close(descriptor)


def _swaps(text: str) -> tuple[str, ...]:
    """The devices in ``/proc/swaps``; its first line is a heading."""
    return tuple(line.split()[0] for line in text.splitlines()[1:] if line.split())


def _covered(root: Path, device: str) -> bool:
    """Whether what is swapped there is encrypted, or stays in memory."""
    name = Path(device).resolve().name
    kind = _text(root / f"sys/block/{name}/dm/uuid") or ""
    return name.startswith("zram") or kind.startswith("CRYPT-")


def _secure_boot(path: Path) -> bool | None:
    data = _bytes(path)
    # Four bytes of attributes, one of value (UEFI 2.10, 3.3 and 8.2).
    return bool(data[4]) if data is not None and len(data) == 5 else None


def _free(path: Path) -> float | None:
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return status.f_bavail / status.f_blocks if status.f_blocks else None
