# SPDX-License-Identifier: Apache-2.0
"""The folder ``release`` as a package, without the checkout on sys.path, and a release as tests make one.

The project's own packages still come from the wheel.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
VERIFY = ROOT / "release/verify-release"
SOURCES = (
    "vmgate", "publisher", "agent", "fleet", "updater", "measure", "hypervisor", "keys", "content", "documents",
    "pyproject.toml", "README.md", "LICENSE",
)  # fmt: skip
REPORT = {
    "version": "1",
    "install": [
        {
            "download_info": {"url": "file:///tmp/vmgate-0.1.0-py3-none-any.whl", "archive_info": {"hashes": {}}},
            "metadata": {
                "name": "vmgate", "version": "0.1.0", "license_expression": "Apache-2.0",
                "requires_dist": ["tuf<8,>=7.0.1", 'pytest>=9; extra == "test"', "backports.zstd>=1.1"],
            },
        },
        {
            "download_info": {
                "url": "https://files.example.org/tuf-7.0.1-py3-none-any.whl",
                "archive_info": {"hashes": {"sha256": "11" * 32}},
            },
            "metadata": {"name": "tuf", "version": "7.0.1", "license": "MIT", "requires_dist": ["urllib3<3"]},
        },
        {
            "download_info": {
                "url": "https://files.example.org/backports_zstd-1.1.0.tar.gz",
                "archive_info": {"hashes": {"sha256": "22" * 32}},
            },
            "metadata": {"name": "backports.zstd", "version": "1.1.0"},
        },
    ],
}  # fmt: skip
"""A report of pip, shortened; the wheel's own digest is filled in by who uses it."""


def load_release() -> None:
    """Make ``import release`` work, and change nothing else of what can be imported."""
    if "release" in sys.modules:
        return
    folder = ROOT / "release"
    spec = importlib.util.spec_from_file_location(
        "release", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["release"] = module
    spec.loader.exec_module(module)


def write_public(key: ec.EllipticCurvePrivateKey, path: Path) -> Path:
    """The public half, as ``verify-release`` reads it."""
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(key.public_key().public_bytes(*form))
    return path


def verified(folder: Path, key: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``verify-release`` as somebody would who has nothing of vmgate."""
    command = [sys.executable, "-I", str(VERIFY), "--key", str(key), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)
