# SPDX-License-Identifier: Apache-2.0
"""The root before vmgate is in it: Debian's packages in a tar file, made once and kept.

The same packages give the same file. Nothing of the machine that builds gets into it.
"""

from __future__ import annotations

import os
from pathlib import Path

from rig.debs import PACKAGES
from rig.programs import run

LEFT_OUT = ("man", "locale", "doc", "info", "lintian")
"""Folders of /usr/share that nobody reads on the host."""


COMPILE = "/usr/bin/python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.11"
"""Compiled files that are used without a look at the source: the root is verified as a whole (PEP 552)."""


def build(debs: Path, target: Path) -> None:
    """Install the packages into an empty root and pack it.

    Args:
        debs: the packages, with the list that makes the folder an archive.
        target: the tar file to make.

    Raises:
        RigBroken: mmdebstrap failed.
    """
    print("rig: installing the packages into an empty root (about a minute)", flush=True)
    half = target.with_name(f"{target.name}.{os.getpid()}.new")
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--format=tar", "--architectures=amd64",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
        f"--include={','.join(PACKAGES)}",
        f'--customize-hook=PYTHONHASHSEED=0 LC_ALL=C.UTF-8 chroot "$1" {COMPILE}',
        # It names a folder of the machine that builds.
        '--customize-hook=rm "$1/etc/apt/sources.list"',
        "", half, f"deb [trusted=yes] copy:{debs} ./",
        # The host starts with an initrd of our own.
        environment={"INITRD": "No"},
    )  # fmt: skip
    half.rename(target)
