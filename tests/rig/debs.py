# SPDX-License-Identifier: Apache-2.0
"""The Debian packages of the rig's host: fetched once, kept, and from then on just those.

``fetch`` needs the network once. apt checks each package against the archive's signed lists; what came is written
into a manifest with version and SHA-256, and a build uses what the manifest names and nothing else.
To follow the archive, remove ``.cache/rig/debs``.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from rig.programs import RigBroken, run

PACKAGES = (
    # a host that boots
    "apparmor", "dbus", "dmsetup", "e2fsprogs", "iproute2", "kmod", "linux-image-cloud-amd64", "login", "procps",
    "systemd", "systemd-sysv", "udev", "usr-is-merged",
    # what vmgate stands on
    "libtss2-esys-3.0.2-0", "libtss2-fapi1", "libtss2-mu0", "libtss2-tcti-device0", "libtss2-tctildr0", "python3",
    # the VMM
    "libvirt-clients", "libvirt-daemon-system", "ovmf", "qemu-system-x86", "qemu-utils", "swtpm", "swtpm-tools",
    # what tests look with
    "busybox-static", "fsverity", "tpm2-tools",
)  # fmt: skip
SOURCES = """\
deb [signed-by={key}] http://deb.debian.org/debian bookworm main
deb [signed-by={key}] http://deb.debian.org/debian bookworm-updates main
deb [signed-by={key}] http://deb.debian.org/debian-security bookworm-security main
"""
ARCHIVE_KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
LISTED = ("Package", "Version", "Architecture", "Multi-Arch", "Essential", "Priority", "Pre-Depends", "Depends",
          "Conflicts", "Breaks", "Replaces", "Provides")  # fmt: skip
"""What apt must know of a package to install it."""


def fetch(folder: Path) -> Path:
    """Have all packages and their manifest in ``folder``; without network when they are there.

    Raises:
        RigBroken: they could not be fetched, or one of them is not what the manifest says.
    """
    manifest = folder / "manifest"
    if manifest.exists() and manifest.read_text().startswith(_header()):
        _verify(folder)
        return manifest
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"rig: fetching {len(PACKAGES)} packages and what they depend on", flush=True)
    with tempfile.TemporaryDirectory(prefix="vmgate-rig-apt-") as state:
        _download(folder, Path(state))
    _write_lists(folder)
    return manifest


def _header() -> str:
    return f"# {' '.join(sorted(PACKAGES))}\n"


def _download(folder: Path, state: Path) -> None:
    """Let apt choose and fetch for a machine on which nothing is installed."""
    for name in ("lists/partial", "archives/partial", "parts"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(SOURCES.format(key=ARCHIVE_KEY))
    options = {
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Keep-Downloaded-Packages": "true",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::Cache": str(state),
        "Dir::Etc::sourcelist": str(state / "sources.list"),
        "Dir::Etc::sourceparts": str(state / "parts"),
        "Dir::Etc::preferencesparts": str(state / "parts"),
        "Dir::State": str(state),
        "Dir::State::status": str(state / "status"),
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    run("apt-get", *given, "-q", "update")
    run("apt-get", *given, "-q", "-y", "--download-only", "install", "?essential", *PACKAGES)
    for package in (state / "archives").glob("*.deb"):
        shutil.move(package, folder / package.name)


def _write_lists(folder: Path) -> None:
    """The manifest, and ``Packages``, which makes the folder an archive for apt (deb822, man 5 deb-control)."""
    manifest, entries = [], []
    for package in sorted(folder.glob("*.deb")):
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        fields = run("dpkg-deb", "-f", package, *LISTED)
        named = dict(line.split(": ", 1) for line in fields.splitlines() if ": " in line)
        manifest.append(f"{named['Package']}\t{named['Version']}\t{digest}\t{package.name}\n")
        entries.append(f"{fields}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n")
    (folder / "Packages").write_text("\n".join(entries))
    (folder / "manifest").write_text(_header() + "".join(manifest))


def _verify(folder: Path) -> None:
    for line in (folder / "manifest").read_text().splitlines()[1:]:
        name, version, digest, file = line.split("\t")
        path = folder / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise RigBroken(f"{name} {version} in {folder} is not what the manifest says: remove that folder")
