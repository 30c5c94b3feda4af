# SPDX-License-Identifier: Apache-2.0
"""Make a release of this checkout: ``make release KEY=FILE``.

The passphrase stands in VMGATE_RELEASE_PASSPHRASE, or is asked for. It takes what is committed, and nothing else; it
publishes nothing.
"""

from __future__ import annotations

import argparse
import getpass
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from keys.files import load_key
from keys.roles import P384
from release.building import build_twice
from release.folder import describe, seal, sha256
from release.provenance import Built
from release.resolved import read
from release.tag import FILE, ROOT, swid_tag, version

PIP = (sys.executable, "-I", "-m", "pip", "--disable-pip-version-check")


def main() -> int:
    """Build, describe, sign."""
    parser = argparse.ArgumentParser(prog="release", description="make a release of what is committed")
    parser.add_argument(
        "--key", required=True, type=Path, help="encrypted P-384 key, as docs/guide/release.md makes one"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist", help="folder of the release; what is there is removed"
    )
    arguments = parser.parse_args()
    if changed := git("status", "--porcelain"):
        print(f"release: not made: there are changes that are not committed:\n{changed}", file=sys.stderr)
        return 1
    if FILE.read_bytes() != swid_tag(version()):
        print("release: not made: the SWID tag is of another version: python -m release.tag", file=sys.stderr)
        return 1
    passphrase = os.environ.get("VMGATE_RELEASE_PASSPHRASE") or getpass.getpass("passphrase of the release key: ")
    key = load_key(arguments.key, P384, passphrase.encode())
    shutil.rmtree(arguments.out, ignore_errors=True)
    commit, seconds, moment = git("log", "-1", "--format=%H %ct %cI").split()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"
        source.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
        built = build_twice(source, Path(name), arguments.out)
    wheel = next(path for path in built if path.suffix == ".whl")
    resolved = read(json.loads(subprocess.run(
        [*PIP, "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", str(wheel)],
        check=True, capture_output=True, text=True,
    ).stdout))  # fmt: skip
    describe(arguments.out, resolved, version(), int(seconds))
    subjects = {path.name: sha256(path) for path in built}
    seal(arguments.out, version(), Built(subjects=subjects, commit=commit, tools=tools(), source_time=moment), key)
    for path in sorted(arguments.out.iterdir()):
        print(
            f"{path.stat().st_size:>10,}  {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}"
        )
    return 0


def git(*arguments: str) -> str:
    """What git says of this checkout."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def tools() -> dict[str, str]:
    """What had a say in the bytes."""
    return {"hatchling": importlib.metadata.version("hatchling"), "python": platform.python_version()}


if __name__ == "__main__":
    sys.exit(main())
