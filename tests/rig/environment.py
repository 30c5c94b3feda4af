# SPDX-License-Identifier: Apache-2.0
"""vmgate's own Python environment inside a root: ``/usr/lib/vmgate``, with the root's interpreter.

Wheels are unpacked and compiled, nothing else: no installer leaves times or paths behind. Compiled files are of the
kind that is used without a look at the source, since the root is read-only and verified as a whole (PEP 552).
Run as a program, ``environment.py ROOT WHEELS`` prepares a root for vmgate: all of it but vmgate itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

PREFIX = "usr/lib/vmgate"
SITE = f"{PREFIX}/lib/python3.11/site-packages"
STANDARD_LIBRARY = "usr/lib/python3.11"
CONFIGURATION = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"
COMMAND = """\
#!/usr/lib/vmgate/bin/python3 -I
import sys
from vmgate.main import main
sys.exit(main())
"""


def prepare(root: Path, wheels: Path) -> None:
    """The environment with everything that vmgate imports."""
    programs = root / PREFIX / "bin"
    programs.mkdir(parents=True)
    (root / PREFIX / "pyvenv.cfg").write_text(CONFIGURATION)
    (programs / "python3").symlink_to("/usr/bin/python3")
    for wheel in sorted(wheels.glob("*.whl")):
        _unpack(wheel, root / SITE)
    _compile(root, f"/{STANDARD_LIBRARY}", f"/{SITE}")


def install(root: Path, wheel: Path) -> None:
    """vmgate itself, and its command."""
    _unpack(wheel, root / SITE)
    with zipfile.ZipFile(wheel) as archive:
        names = sorted({name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name})
    _compile(root, *(f"/{SITE}/{name}" for name in names))
    command = root / PREFIX / "bin/vmgate"
    command.write_text(COMMAND)
    command.chmod(0o755)
    (root / "usr/bin/vmgate").symlink_to("/usr/lib/vmgate/bin/vmgate")


def _unpack(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".data/" not in name]
        archive.extractall(site, names)


def _compile(root: Path, *folders: str) -> None:
    """Let the root's own interpreter compile, so that the paths in tracebacks are right."""
    compileall = ["-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", *folders]
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    subprocess.run(["chroot", root, "/usr/bin/python3", *compileall], check=True, env=environment)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
