# SPDX-License-Identifier: Apache-2.0
"""Makes the Debian package of one wheel of vmgate; the same inputs make the same bytes.

    python -m deb.build WHEEL WHEELS OUT

WHEEL is vmgate's, WHEELS the folder of the locked wheels (made if need be), OUT where the package goes. The time of all
files is SOURCE_DATE_EPOCH, else that of the checkout's last commit. No file of this machine gets into the package but
what its Python makes of the wheels.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from email.parser import Parser
from pathlib import Path

from deb import wheels
from deb.programs import BuildBroken, run
from deb.tree import DEBIAN, dependencies, lay, tidy

SCRIPTS = ("postinst", "prerm", "postrm")
CONFFILES = ("/etc/apparmor.d/vmgate-agent",)
COMPRESSION = ("-Zxz", "-z3", "--threads-max=1")
"""One thread: what several make of a file depends on their number."""

NONE = ("-Znone",)
"""For who unpacks it at once."""


def build(wheel: Path, locked: Path, out: Path, epoch: int, compression: Sequence[str] = COMPRESSION) -> Path:
    """Make the package; returns it.

    Args:
        wheel: of vmgate.
        locked: folder of the wheels that it depends on.
        out: folder of the package.
        epoch: the time of every file, seconds since 1970 UTC.
        compression: options of dpkg-deb.

    Raises:
        BuildBroken: something is missing or failed.
    """
    version, machine = version_of(wheel), run("dpkg", "--print-architecture").strip()
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"vmgate_{version}_{machine}.deb"
    with tempfile.TemporaryDirectory(prefix="vmgate-deb-") as name:
        root = Path(name, "root")
        root.mkdir()
        lay(root, wheel, dependencies(locked), epoch)
        _control(root, version, machine)
        tidy(root / "DEBIAN", epoch)
        for script in SCRIPTS:
            (root / "DEBIAN" / script).chmod(0o755)
        half = target.with_name(f"{target.name}.{os.getpid()}.new")
        run("dpkg-deb", "--root-owner-group", *compression, "--build", root, half,
            environment={"SOURCE_DATE_EPOCH": str(epoch)})  # fmt: skip
        half.rename(target)
    return target


def version_of(wheel: Path) -> str:
    """The version in a wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return str(Parser().parsestr(archive.read(name).decode())["Version"])


def _control(root: Path, version: str, machine: str) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(-(-path.stat().st_size // 1024) for path in files)
    sums = "".join(f"{_md5(path)}  {path.relative_to(root)}\n" for path in files)
    folder = root / "DEBIAN"
    folder.mkdir()
    control = (DEBIAN / "control").read_text()
    for word, value in (("VERSION", version), ("ARCHITECTURE", machine), ("SIZE", str(size))):
        control = control.replace(f"@{word}@", value)
    (folder / "control").write_text(control)
    (folder / "md5sums").write_text(sums)
    (folder / "conffiles").write_text("".join(f"{path}\n" for path in CONFFILES))
    for script in SCRIPTS:
        shutil.copyfile(DEBIAN / script, folder / script)


def _md5(path: Path) -> str:
    """For dpkg --verify, which knows no other: it finds accidents."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def epoch_of_checkout() -> int:
    """SOURCE_DATE_EPOCH, else the time of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(given or run("git", "-C", DEBIAN, "log", "-1", "--format=%ct"))


def main(arguments: list[str]) -> int:
    """Run as a program."""
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    made, locked, out = map(Path, arguments)
    found = [made] if made.is_file() else sorted(made.glob("vmgate-*.whl"))
    if len(found) != 1:
        raise BuildBroken(f"there is no wheel in {made}; `make venv` makes it")
    wheels.fetch(locked)
    print(f"deb: {build(found[0], locked, out, epoch_of_checkout())}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BuildBroken as broken:
        sys.exit(f"deb: {broken}")
