# SPDX-License-Identifier: Apache-2.0
"""The wheels of what vmgate depends on: exactly those of the lock, each checked against its SHA-256.

Two of them come as source and are compiled, by tools that are locked as well and without a network. ``lock`` is the
only thing here that chooses versions. Nobody's signatures are looked at: the lock is what is reviewed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path

from deb.programs import BuildBroken, run

LOCK = Path(__file__).parents[1] / "wheels.lock"
TOOLS_LOCK = Path(__file__).parents[1] / "build-tools.lock"
HEAD = "# Made by `make deb-lock` for Python 3.11 on amd64: what the Debian package holds or is made with.\n"
TOOLS = ("cffi", "packaging", "pkgconfig", "pycparser", "setuptools", "setuptools-scm", "wheel")
"""What the two that are compiled say that they are built with."""

COMPILED = {"CFLAGS": "-O2 -g0 -fstack-protector-strong -D_FORTIFY_SOURCE=2", "LDFLAGS": "-Wl,-z,relro,-z,now",
            "SOURCE_DATE_EPOCH": "1767225600"}  # fmt: skip
"""Without debug information nothing of the folder where it was compiled is in the result."""


def lock(wheel: Path) -> None:
    """Choose versions anew: the newest that vmgate's metadata allows.

    Raises:
        BuildBroken: pip found none.
    """
    chosen = _resolve(str(wheel))
    LOCK.write_text(HEAD + "".join(line for name, line in chosen if name != "vmgate"))
    # The same versions where one is both.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as kept:
        kept.write("".join(line.split()[0] + "\n" for _, line in chosen))
        kept.flush()
        TOOLS_LOCK.write_text(HEAD + "".join(line for _, line in _resolve("-c", kept.name, *TOOLS)))


def _resolve(*wanted: str) -> list[tuple[str, str]]:
    """Name and line of each distribution that pip would install, by name."""
    report = json.loads(run(*_pip(Path(sys.executable)), "install", "--dry-run", "--ignore-installed", "--report", "-",
                            "-q", *wanted))  # fmt: skip
    found = []
    for item in report["install"]:
        name = item["metadata"]["name"].lower().replace("_", "-").replace(".", "-")
        digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", "")
        found.append((name, f"{name}=={item['metadata']['version']} --hash=sha256:{digest}\n"))
    return sorted(found)


def fetch(folder: Path) -> None:
    """Have the wheels of the lock in ``folder``; without network when they are there.

    Raises:
        BuildBroken: they could not be had.
    """
    stamp = folder / "manifest"
    locks = "".join(path.read_text() for path in (LOCK, TOOLS_LOCK))
    if stamp.exists() and stamp.read_text() == locks + listed(folder.glob("*.whl")):
        return
    print("deb: fetching what vmgate depends on, and compiling two of them (about a minute)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="vmgate-deb-") as work:
        tools = Path(work, "tools")
        venv.create(tools, with_pip=True)
        pip = _pip(tools / "bin/python")
        run(*pip, "install", "-q", "--require-hashes", "--no-deps", "-r", TOOLS_LOCK)
        run(*pip, "wheel", "-q", "--require-hashes", "--no-deps", "--no-build-isolation", "-r", LOCK, "-w", folder,
            environment={**COMPILED, "PATH": f"{tools}/bin:/usr/bin:/bin"})  # fmt: skip
    stamp.write_text(locks + listed(folder.glob("*.whl")))


def listed(wheels: Iterable[Path]) -> str:
    """One line for each wheel: its name and SHA-256."""
    return "".join(f"{path.name}\t{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in sorted(wheels))


def _pip(python: Path) -> tuple[str | Path, ...]:
    return (python, "-I", "-m", "pip", "--disable-pip-version-check")


if __name__ == "__main__":
    (_, made) = sys.argv
    found = sorted(Path(made).glob("vmgate-*.whl"))
    if len(found) != 1:
        raise BuildBroken(f"there is no wheel in {made}; `make venv` makes it")
    lock(found[0])
