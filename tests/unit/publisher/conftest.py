# SPDX-License-Identifier: Apache-2.0
"""Real packages and wheels, made on the spot."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

MakeDeb = Callable[..., Path]
MakeWheel = Callable[..., Path]


@pytest.fixture
def make_deb(tmp_path: Path) -> MakeDeb:
    """A .deb with these files (path below the root: content), hard links and symbolic links (path: target)."""

    def make(
        name: str,
        files: Mapping[str, bytes],
        *,
        version: str = "1.0-1",
        links: Mapping[str, str] | None = None,
        symlinks: Mapping[str, str] | None = None,
    ) -> Path:
        tree = tmp_path / f"{name}-tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n"
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
