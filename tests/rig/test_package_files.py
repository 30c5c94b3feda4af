# SPDX-License-Identifier: Apache-2.0
"""The package in a root that is not booted: what it puts where, and that removing and purging leave what was promised.

The agent does not run here; ``test_package`` has a host that does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deb.build import NONE, build
from deb.tree import SITE
from lab.packages import next_version
from rig.image import Image
from rig.programs import EPOCH
from rig.variants import edited

pytestmark = pytest.mark.timeout(600)

HOOK = "etc/libvirt/hooks/qemu"
STATE = "var/lib/vmgate"
NOT_OURS = ("var/lib/dpkg/", "var/log/dpkg.log", "dev/", "root/vmgate.deb")
WANTS = "etc/systemd/system/multi-user.target.wants/vmgate.service"


@pytest.fixture
def root(image: Image, tmp_path: Path) -> Iterator[Path]:
    """The packages of the rig's host as Debian's tools left them, without vmgate, to be changed at will."""
    plain = tmp_path / "plain"
    plain.mkdir()
    subprocess.run(["tar", "-C", plain, "-xf", image.base], check=True)
    with edited(plain, tmp_path / "edited") as changed:
        # The rig's image leaves manual pages out; here they are looked at too.
        (changed / "etc/dpkg/dpkg.cfg.d/99mmdebstrap").unlink()
        yield changed


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dpkg(root: Path, *arguments: str) -> str:
    """Run dpkg in the root; returns what it and the package's scripts said."""
    done = subprocess.run(
        ["chroot", root, "dpkg", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def command(root: Path, *arguments: str) -> str:
    """What the installed command prints."""
    return subprocess.run(["chroot", root, "vmgate", *arguments], capture_output=True, text=True, check=True).stdout


def installed(root: Path, package: Path) -> str:
    """Install a package."""
    shutil.copy(package, root / "root/vmgate.deb")
    return dpkg(root, "--install", "/root/vmgate.deb")


def files(root: Path) -> set[str]:
    """Everything in the root that vmgate could have to do with, but what dpkg and its helpers note for themselves."""
    found = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    return {name for name in found if not name.startswith(NOT_OURS)}


def set_up(root: Path) -> None:
    """What ``vmgate init --units`` and a year of use leave on a host."""
    shutil.copy(root / SITE / "agent/hook_script.py", root / HOOK)
    for name in ("root.json", "tuf/root.json", "store/ab/cd", "audit/trail", "tpm/host-key.json", "vms/web/disk"):
        path = root / STATE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for name in ("etc/vmgate/vmgate.toml", "etc/vmgate/hooks/update-before.d/mine", "run/vmgate/boot.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / "etc/systemd/sleep.conf.d").mkdir()
    shutil.copy(root / SITE / "agent/units/sleep.conf", root / "etc/systemd/sleep.conf.d/vmgate.conf")
    (root / "etc/systemd/system/soft-reboot.target").symlink_to("/dev/null")


def test_the_same_sources_make_the_same_bytes(image: Image, tmp_path: Path) -> None:
    """In another folder, by somebody with other habits, from wheels that are unpacked and compiled anew."""
    locked = tmp_path / "locked"
    locked.mkdir()
    for wheel in image.locked.glob("*.whl"):
        shutil.copy(wheel, locked)
    habit = os.umask(0o007)
    try:
        again = build(image.wheel, locked, tmp_path / "out", EPOCH, NONE)
    finally:
        os.umask(habit)
    assert again.name == image.package.name
    assert digest(again) == digest(image.package)


def test_install_upgrade_remove_purge(root: Path, image: Image, tmp_path: Path) -> None:
    before = files(root)
    (root / "etc/libvirt/qemu").mkdir(exist_ok=True)
    (root / "etc/libvirt/qemu/mine.xml").write_text("<domain/>")
    said = installed(root, image.package)
    assert "libvirt defines 1 VMs here" in said
    assert not (root / HOOK).exists()
    assert (root / WANTS).is_symlink()
    assert dpkg(root, "--verify", "vmgate") == ""
    assert command(root, "version") == "vmgate 0.1.0\n"

    set_up(root)
    hook = (root / HOOK).read_bytes()
    newer = build(next_version(image.wheel, tmp_path), image.locked, tmp_path, EPOCH, NONE)
    said = installed(root, newer)
    assert "libvirt defines" not in said
    assert "0.1.1" in dpkg(root, "--status", "vmgate")
    assert ((root / HOOK).read_bytes(), (root / STATE / "vms/web/disk").read_text()) == (hook, "x")

    said = dpkg(root, "--remove", "vmgate")
    assert "its hook stays" in said
    assert (root / HOOK).read_bytes() == hook
    assert (root / STATE / "tuf/root.json").exists()
    assert not (root / "usr/lib/vmgate").exists()

    said = dpkg(root, "--purge", "vmgate")
    kept = {f"{STATE}/audit/trail", f"{STATE}/tpm/host-key.json", f"{STATE}/vms/web/disk"}
    for name in ("audit", "tpm", "vms"):
        assert f"kept /{STATE}/{name}" in said
    assert files(root) - before == kept | {"etc/libvirt/qemu/mine.xml"}
    assert before <= files(root)


def test_a_hook_of_somebody_else_outlives_a_purge(root: Path, image: Image) -> None:
    installed(root, image.package)
    (root / HOOK).parent.mkdir(parents=True, exist_ok=True)
    (root / HOOK).write_text("#!/bin/sh\n# mine\n")
    dpkg(root, "--purge", "vmgate")
    assert (root / HOOK).read_text().endswith("# mine\n")
    assert not (root / STATE).exists()
