# SPDX-License-Identifier: Apache-2.0
"""Wheel and source archive, built twice in places that differ in all that must not matter, and compared byte by byte.

It builds what it is given and signs nothing. Time, time zone, language, umask, folder and order of files differ between
the two builds; machine and tools do not, which ``verify-release --rebuild`` on another machine makes up for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TARGETS = ("wheel", "sdist")


class NotReproducible(Exception):
    """Two builds of one source differ; the message names the file."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a build might wrongly depend on."""

    folder: str
    umask: int
    zone: str
    language: str
    time: int
    """Of every source file, Unix seconds."""


PLACES = (
    Place("a", 0o022, "UTC", "C", 1_000_000_000),
    Place("somewhere else/b", 0o077, "Pacific/Chatham", "C.UTF-8", 1_900_000_000),
)


def build_twice(source: Path, work: Path, out: Path, targets: tuple[str, ...] = TARGETS) -> list[Path]:
    """Build from a clean copy of the source; the files lie in ``out`` afterwards.

    Raises:
        NotReproducible: the two builds differ.
    """
    built = [_build(source, work, place, targets) for place in PLACES]
    names = [sorted(path.name for path in folder.iterdir()) for folder in built]
    if names[0] != names[1]:
        raise NotReproducible(f"one build has {names[0]}, the other {names[1]}")
    for name in names[0]:
        if (built[0] / name).read_bytes() != (built[1] / name).read_bytes():
            raise NotReproducible(f"{name} is not the same bytes twice")
    out.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(built[0] / name, out / name)) for name in names[0]]


def _build(source: Path, work: Path, place: Place, targets: tuple[str, ...]) -> Path:
    tree, out = work / place.folder / "tree", work / place.folder / "out"
    shutil.copytree(source, tree)
    for path in sorted(tree.rglob("*"), reverse=place.umask == 0o077):
        if not path.is_symlink():
            os.utime(path, (place.time, place.time))
    environment = {"PATH": os.environ["PATH"], "TZ": place.zone, "LC_ALL": place.language, "HOME": str(work)}
    for target in targets:
        command = [sys.executable, "-I", "-m", "hatchling", "build", "-t", target, "-d", str(out)]
        subprocess.run(command, cwd=tree, env=environment, check=True, umask=place.umask, stdout=subprocess.DEVNULL)
    return out
