# SPDX-License-Identifier: Apache-2.0
"""The root before vmgate is in it: Debian's packages in a tar file, made once and kept.

The same packages give the same file. Nothing of the machine that builds gets into it.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from rig import environment
from rig.debs import PACKAGES
from rig.programs import run

LEFT_OUT = ("man", "locale", "doc", "info", "lintian")
"""Folders of /usr/share that nobody reads on the host."""


def build(debs: Path, wheels: Path, target: Path) -> None:
    """Install the packages into an empty root and pack it.

    Args:
        debs: the packages, with the list that makes the folder an archive.
        wheels: what vmgate depends on.
        target: the tar file to make.

    Raises:
        RigBroken: mmdebstrap failed.
    """
    print("rig: installing the packages into an empty root (about a minute)", flush=True)
    half = target.with_name(f"{target.name}.{os.getpid()}.new")
    prepare = shlex.join([sys.executable, "-I", environment.__file__])
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--format=tar", "--architectures=amd64",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
        f"--include={','.join(PACKAGES)}",
        f'--customize-hook={prepare} "$1" {shlex.quote(str(wheels))}',
        # It names a folder of the machine that builds.
        '--customize-hook=rm "$1/etc/apt/sources.list"',
        "", half, f"deb [trusted=yes] copy:{debs} ./",
        # The host starts with an initrd of our own.
        environment={"INITRD": "No"},
    )  # fmt: skip
    half.rename(target)
