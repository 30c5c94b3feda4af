# SPDX-License-Identifier: Apache-2.0
"""Real packages, wheels and host images, made on the spot."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from publisher.firmware import SecureBootKeys
from publisher.host_image import ImageParts
from publisher.signing import ImageKey, create_image_key, sign_image

MakeDeb = Callable[..., Path]
MakeWheel = Callable[..., Path]
MakeUki = Callable[..., Path]

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
PASSPHRASE = b"secret"
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def make_deb(tmp_path: Path) -> MakeDeb:
    """A .deb with these files (path below the root: content), hard links, symbolic links and more control fields."""

    def make(
        name: str,
        files: Mapping[str, bytes],
        *,
        version: str = "1.0-1",
        links: Mapping[str, str] | None = None,
        symlinks: Mapping[str, str] | None = None,
        control: str = "",
    ) -> Path:
        tree = tmp_path / f"{name}-tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\n"
            f"Description: t\n{control}"
        )
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        for path, target in (links or {}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).hardlink_to(tree / target)
        for path, target in (symlinks or {}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).symlink_to(target)
        deb = tmp_path / f"{name}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(tree), str(deb)]
        subprocess.run(command, check=True, capture_output=True)
        return deb

    return make


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """A wheel with these files, and the metadata of a distribution."""

    def make(
        files: Mapping[str, bytes] | None = None, *, name: str = "vmgate", version: str = "0.1.0", file: str = "w.whl"
    ) -> Path:
        path = tmp_path / file
        content = {"agent/__init__.py": b"", "agent/hook_script.py": b"hook\n", "vmgate/main.py": b"main\n"}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
            for member, data in (content if files is None else files).items():
                wheel.writestr(member, data)
            info = f"{name}-{version}.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\nText\n")
            wheel.writestr(f"{info}/RECORD", "")
        return path

    return make


@pytest.fixture(scope="session")
def image_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageKey]:
    """Keys of our own: PK, KEK, db, and one that no firmware knows."""
    return {
        name: create_image_key(tmp_path_factory.mktemp(name), PASSPHRASE, name, NOW)
        for name in ("PK", "KEK", "db", "other")
    }


@pytest.fixture(scope="session")
def make_uki(tmp_path_factory: pytest.TempPathFactory, image_keys: dict[str, ImageKey]) -> MakeUki:
    """A kernel image of these sections behind systemd's real stub, signed with one of the keys, or with none."""

    def make(sections: Mapping[str, bytes], signer: str | None = "db") -> Path:
        folder = tmp_path_factory.mktemp("uki")
        options: list[str | Path] = []
        address = 0x100000
        for name, content in sections.items():
            part = folder / f"part{name}"
            part.write_bytes(content)
            options += ["--add-section", f"{name}={part}", "--change-section-vma", f"{name}={address:#x}"]
            address += -(-len(content) // 4096) * 4096
        uki = folder / "host.efi"
        subprocess.run(["objcopy", *options, STUB, uki], check=True, capture_output=True)
        if signer is not None:
            sign_image(uki, image_keys[signer], PASSPHRASE, uki)
        return uki

    return make


@pytest.fixture(scope="session")
def host_parts(tmp_path_factory: pytest.TempPathFactory, make_uki: MakeUki) -> Path:
    """A folder with a small root, its file system and hash tree, and the kernel image that starts it."""
    folder = tmp_path_factory.mktemp("host")
    root = folder / "root"
    files = {
        "usr/bin/[": b"test",
        "usr/lib/systemd/system/dev-\\x2d.device": b"",
        "usr/lib/libx.so": bytes(range(256)) * 9_000,
        "usr/share/doc/text": b"nobody runs this",
        "usr/share/tool/run": b"#!/bin/sh\n",
        "etc/passwd": b"root:x:0:0::/:/bin/sh\n",
        "var/lib/state": b"no part of what was signed",
    }
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / "usr/share/tool/run").chmod(0o755)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc/mtab").symlink_to("/proc/mounts")
    (root / "usr/bin/test").hardlink_to(root / "usr/bin/[")
    image, tree = folder / "root.ext4", folder / "root.verity"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, image, "8M"], check=True, capture_output=True)
    said = subprocess.run(["veritysetup", "format", image, tree], check=True, capture_output=True, text=True).stdout
    found = re.search(r"Root hash:\s+([0-9a-f]{64})", said)
    assert found
    parts = {
        ".osrel": b"ID=test\n",
        ".cmdline": f"quiet roothash={found[1]}\n".encode(),
        ".initrd": b"initrd" * 1_000,
        ".linux": b"kernel" * 1_001,
    }
    shutil.copy(make_uki(parts), folder / "host.efi")
    return folder


@pytest.fixture
def image_parts(tmp_path: Path, image_keys: dict[str, ImageKey], host_parts: Path) -> ImageParts:
    """All that a small host image is described from; a copy of its own for each test."""
    folder = tmp_path / "host"
    subprocess.run(["cp", "-a", host_parts, folder], check=True)
    return ImageParts(
        kernel=folder / "host.efi",
        root=folder / "root",
        root_image=folder / "root.ext4",
        hash_tree=folder / "root.verity",
        keys=SecureBootKeys(
            platform=image_keys["PK"].certificate,
            exchange=image_keys["KEK"].certificate,
            database=image_keys["db"].certificate,
            owner=uuid.UUID("5b4f7e52-8f0a-4f7e-9d3c-6f1f0a3c9b11"),
        ),
    )
