# SPDX-License-Identifier: Apache-2.0
"""The host's image, built once for each state of its sources and kept in the cache.

``build`` gives the image that boots as signed. What an attacker makes of it is the business of ``variants``. Run as a
program, this module fetches and builds: ``make rig``.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deb import wheels as locked
from deb.build import NONE
from deb.build import build as package
from deb.tree import DEBIAN
from lab.guest_image import cache_folder
from rig import base, debs, disk, initrd, layout, secure_boot, tree, uki
from rig.programs import EPOCH, RigBroken
from rig.secure_boot import Owner
from rig.uki import Parts, Signer

HERE = Path(__file__).parent
BUILDERS = (
    "base", "debs", "disk", "image", "initrd", "layout", "programs", "secure_boot", "tree", "uki"
)  # fmt: skip
"""Modules whose change makes another image."""
KEPT = 4
"""Images in the cache; each takes 1.1 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image and what it was made of.

    Attributes:
        disk, disk_format: the whole disk, never written to: ``raw`` or ``qcow2``.
        kernel_image: the unified kernel image on it, signed or not.
        parts: what the kernel image was made of.
        root_hash: dm-verity root hash of the root on the disk, hexadecimal.
        tree: the root as a folder, as it was before anybody changed it.
        owner: whose keys the firmware trusts: PK, KEK and db certificates, GUID, and the signing key.
        other: somebody whom it does not trust.
        firmware: OVMF's code.
        variables: firmware variables with ``owner``'s keys and Secure Boot on.
        variables_other: the same with ``other``'s keys.
        variables_off: firmware variables as OVMF ships them: no keys, Secure Boot off.
        tpm_ca: folder of the CA that certifies the machines' TPMs; ``issuercert.pem`` is its certificate.
        debs: the Debian packages, with their manifest.
        wheel: vmgate's.
        base: the root before vmgate was in it, as a tar file.
        locked: folder of the wheels that vmgate depends on.
        package: vmgate's Debian package, as it was installed.
    """

    disk: Path
    disk_format: str
    kernel_image: Path
    parts: Parts
    root_hash: str
    tree: Path
    owner: Owner
    other: Owner
    firmware: Path
    variables: Path
    variables_other: Path
    variables_off: Path
    tpm_ca: Path
    debs: Path
    wheel: Path
    base: Path
    locked: Path
    package: Path

    @property
    def command_line(self) -> str:
        """The kernel's command line, as /proc/cmdline shows it."""
        return self.parts.command_line


def build(cache: Path | None = None) -> Image:
    """The image for the present sources; without network when the packages are there.

    Args:
        cache: holds ``wheel/`` and ``tools/`` as ``.ci/venv`` and ``.ci/fetch`` made them.

    Raises:
        RigBroken: it could not be built.
    """
    cache = cache or cache_folder()
    home = cache / "rig"
    wheels = sorted((cache / "wheel").glob("vmgate-*.whl"))
    if len(wheels) != 1:
        raise RigBroken(f"there is no wheel in {cache}/wheel; `make venv` makes it")
    with _locked(home):
        debs.fetch(home / "debs")
        locked.fetch(home / "wheels")
        owner, other = (secure_boot.create(home / "keys" / name) for name in ("own", "other"))
        packed = home / f"base-{_base_key(home)}.tar"
        if not packed.exists():
            for old in home.glob("base-*.tar*"):
                old.unlink()
            base.build(home / "debs", packed)
        folder = home / "images" / _key(packed, wheels[0], home)
        if not (folder / "disk").exists():
            _make_room(folder)
            folder.mkdir(parents=True)
            shutil.copy(wheels[0], folder)
            # Not compressed: it is unpacked at once.
            deb = package(wheels[0], home / "wheels", folder, EPOCH, NONE)
            _build(folder, packed, deb, (owner, other), cache / "tools/bin/virt-fw-vars")
        return _described(folder, packed, owner, other)


def seal(tree_folder: Path, folder: Path, parts: Parts, signer: Signer | None) -> str:
    """Make ``folder/kernel-image.efi`` and ``folder/disk`` for a root: hash tree, signed kernel image, partitions.

    Args:
        tree_folder: the root.
        folder: where to work.
        parts: of the kernel image; the command line is added.
        signer: of the kernel image, if any.

    Returns:
        The root hash.
    """
    disk.root_filesystem(tree_folder, folder / "root")
    root_hash = disk.hash_tree(folder / "root", folder / "verity")
    uki.build(parts.with_command_line(layout.command_line(root_hash)), folder / "kernel-image.efi", signer)
    disk.system_partition(folder / "kernel-image.efi", folder / "esp")
    disk.state_filesystem(folder / "state")
    files = {layout.ESP: "esp", layout.ROOT: "root", layout.VERITY: "verity", layout.STATE: "state"}
    disk.assemble(folder / "disk.new", {partition: folder / name for partition, name in files.items()})
    for name in files.values():
        (folder / name).unlink()
    (folder / "root-hash").write_text(root_hash)
    (folder / "disk.new").rename(folder / "disk")
    return root_hash


def _build(folder: Path, packed: Path, deb: Path, owners: tuple[Owner, Owner], tool: Path) -> None:
    print("rig: building the image", end="", flush=True)
    began = time.monotonic()
    tree.build(packed, deb, folder / "tree")
    shutil.move(tree.kernel(folder / "tree"), folder / "kernel")
    for path in (folder / "tree/boot").iterdir():
        path.unlink()
    for name in ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.fd"):
        shutil.copy(folder / "tree/usr/share/OVMF" / name, folder)
    for name, owner in zip(("variables", "variables-other"), owners, strict=True):
        secure_boot.variables(folder / "OVMF_VARS_4M.fd", folder / name, owner, tool)
    initrd.build(folder / "tree", folder, layout.ROOT.size // layout.BLOCK)
    tree.stop_clock(folder / "tree")
    seal(folder / "tree", folder, _parts(folder, ""), owners[0].signer)
    print(f", {time.monotonic() - began:.0f} s", flush=True)


def _parts(folder: Path, command_line: str) -> Parts:
    return Parts(
        release=folder / "tree/usr/lib/os-release",
        command_line=command_line,
        initrd=folder / "initrd",
        kernel=folder / "kernel",
    )


def _described(folder: Path, packed: Path, owner: Owner, other: Owner) -> Image:
    home = packed.parent
    (wheel,) = folder.glob("vmgate-*.whl")
    (deb,) = folder.glob("vmgate_*.deb")
    root_hash = (folder / "root-hash").read_text()
    return Image(
        disk=folder / "disk",
        disk_format="raw",
        kernel_image=folder / "kernel-image.efi",
        parts=_parts(folder, layout.command_line(root_hash)),
        root_hash=root_hash,
        tree=folder / "tree",
        owner=owner,
        other=other,
        firmware=folder / "OVMF_CODE_4M.secboot.fd",
        variables=folder / "variables",
        variables_other=folder / "variables-other",
        variables_off=folder / "OVMF_VARS_4M.fd",
        tpm_ca=home / "keys/tpm-ca",
        debs=home / "debs",
        wheel=wheel,
        base=packed,
        locked=home / "wheels",
        package=deb,
    )


def _base_key(home: Path) -> str:
    return _digest([home / "debs/manifest", *(HERE / f"{name}.py" for name in ("base", "debs"))])


def _key(packed: Path, wheel: Path, home: Path) -> str:
    overlay = sorted(path for path in tree.OVERLAY.rglob("*") if path.is_file())
    certificates = [home / "keys" / owner / f"{name}.pem" for owner in ("own", "other") for name in secure_boot.NAMES]
    builders = [HERE / f"{name}.py" for name in BUILDERS]
    packaging = sorted(path for path in DEBIAN.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    wheels = home / "wheels/manifest"
    return _digest([wheel, wheels, uki.STUB, *overlay, *packaging, *certificates, *builders], packed.name)


def _digest(files: list[Path], more: str = "") -> str:
    digest = hashlib.sha256(more.encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest() + path.name.encode())
    return digest.hexdigest()[:16]


def _make_room(folder: Path) -> None:
    """The newest images are kept: snapshots of hosts lie upon them."""
    old = sorted(folder.parent.glob("*"), key=lambda path: path.stat().st_mtime)
    for path in {folder, *old[: 1 - KEPT]}:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One builder at a time."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    print(f"rig: the image is {build().disk}")
