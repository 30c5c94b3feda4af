# SPDX-License-Identifier: Apache-2.0
"""The files of the package below a folder: vmgate's own Python environment, and what the system looks for elsewhere.

Wheels are unpacked and compiled, nothing else: no installer leaves times or paths behind. Compiled files are of the
kind that is used without a look at the source (PEP 552): nobody but the package writes there.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import time
import zipfile
from pathlib import Path

from deb import manpages
from deb.programs import BuildBroken, run

DEBIAN = Path(__file__).parents[1] / "debian"
PYTHON = "/usr/bin/python3"
"""Debian 12's. It is the interpreter of the environment, and what compiles for it."""

PREFIX = "usr/lib/vmgate"
SITE = f"{PREFIX}/lib/python3.11/site-packages"
UNITS = "usr/lib/systemd/system"
CONFIGURATION = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"
COMMAND = """\
#!/usr/lib/vmgate/bin/python3 -I
import sys

from vmgate.main import main
sys.exit(main())
"""
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/vmgate",
    "fish": "usr/share/fish/vendor_completions.d/vmgate.fish",
    "zsh": "usr/share/zsh/vendor-completions/_vmgate",
}
PLACES = {
    "apparmor": "etc/apparmor.d/vmgate-agent",
    "copyright": "usr/share/doc/vmgate/copyright",
    "lintian-overrides": "usr/share/lintian/overrides/vmgate",
    "70-vmgate-enterprise.rules": "usr/share/vmgate/udev/70-vmgate-enterprise.rules",
}
"""Files of ``packaging/debian``, and where they go."""


def dependencies(wheels: Path) -> Path:
    """What vmgate imports besides itself, unpacked and compiled: made once for a folder of wheels, and kept in it.

    Raises:
        BuildBroken: this machine has not Debian 12's interpreter, or a program failed.
    """
    found = run(PYTHON, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    if found != "3.11":
        raise BuildBroken(f"{PYTHON} is Python {found}; the package is for Debian 12, whose Python is 3.11")
    made = wheels / "unpacked"
    if not made.exists():
        half = wheels / f"unpacked.{os.getpid()}"
        shutil.rmtree(half, ignore_errors=True)
        for wheel in sorted(wheels.glob("*.whl")):
            _unpack(wheel, half / SITE)
        _compile(half, half / SITE)
        half.rename(made)
    return made


def lay(root: Path, wheel: Path, depends: Path, epoch: int) -> None:
    """Make all files of the package.

    Args:
        root: an empty folder.
        wheel: vmgate's own.
        depends: from ``dependencies``.
        epoch: the time of every file, seconds since 1970 UTC.

    Raises:
        BuildBroken: a program failed.
    """
    shutil.copytree(depends, root, dirs_exist_ok=True, symlinks=True)
    _environment(root, wheel)
    _shipped(root)
    _manual(root, epoch)
    _completions(root)
    for source, target in PLACES.items():
        place(root / target, (DEBIAN / source).read_bytes())
    place(root / "usr/share/doc/vmgate/changelog.gz", packed((DEBIAN / "changelog").read_bytes()))
    tidy(root, epoch)


def place(path: Path, data: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def packed(data: bytes) -> bytes:
    """Compressed, without a name and a time."""
    return gzip.compress(data, compresslevel=9, mtime=0)


def tidy(root: Path, epoch: int) -> None:
    """Give every file the one time, and a mode that follows from its kind."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or (path.parent.name == "bin" or path.stat().st_mode & stat.S_IXUSR != 0)
            path.chmod(0o755 if runs and path.suffix not in {".so", ".pyc"} else 0o644)
    for path in (root, *root.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _environment(root: Path, wheel: Path) -> None:
    programs = root / PREFIX / "bin"
    programs.mkdir(parents=True)
    (root / PREFIX / "pyvenv.cfg").write_text(CONFIGURATION)
    (programs / "python3").symlink_to(PYTHON)
    names = _unpack(wheel, root / SITE)
    _compile(root, *(root / SITE / name for name in names))
    (programs / "vmgate").write_text(COMMAND)
    command = root / "usr/bin/vmgate"
    command.parent.mkdir()
    command.symlink_to("../lib/vmgate/bin/vmgate")


def _shipped(root: Path) -> None:
    """What vmgate's own wheel holds for systemd and polkit."""
    units = root / SITE / "agent/units"
    for unit in sorted(units.glob("vmgate*")):
        place(root / UNITS / unit.name, unit.read_bytes())
    place(root / "usr/share/polkit-1/actions/org.vmgate.policy", (units / "org.vmgate.policy").read_bytes())


def _manual(root: Path, epoch: int) -> None:
    folder = root / "usr/share/man/man1"
    folder.mkdir(parents=True)
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    run(PYTHON, "-s", "-P", manpages.__file__, folder, date, environment=_found_in(root))
    for page in sorted(folder.iterdir()):
        place(page.with_name(f"{page.name}.gz"), packed(page.read_bytes()))
        page.unlink()


def _completions(root: Path) -> None:
    for shell, target in COMPLETIONS.items():
        words = f"import sys; sys.argv = ['vmgate', 'completion', '{shell}']; from vmgate.main import main; main()"
        script = run(PYTHON, "-s", "-P", "-c", words, environment=_found_in(root))
        place(root / target, script.encode())


def _found_in(root: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(root / SITE), "PYTHONDONTWRITEBYTECODE": "1"}


def _unpack(wheel: Path, site: Path) -> list[str]:
    """Returns the names of its packages."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".data/" not in name]
        archive.extractall(site, names)
    return sorted({name.split("/")[0] for name in names if ".dist-info/" not in name})


def _compile(root: Path, *folders: Path) -> None:
    """Compile as if it lay where it will lie, so that the paths in tracebacks are right."""
    run(PYTHON, "-I", "-m", "compileall", "-q", "-f", "-j", "1", "-s", root, "-p", "/",
        "--invalidation-mode", "unchecked-hash", *folders)  # fmt: skip
