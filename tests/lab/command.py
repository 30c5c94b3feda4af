# SPDX-License-Identifier: Apache-2.0
"""The real command, run as a user would, and what every refusal of it must look like."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.host import Result
from lab.publisher import VMGATE

GUARD = 60
"""Seconds after which a command that does not end is taken for hung."""

_LINE = re.compile(r"error\[([A-Z]{2}[0-9]{3})\]: (.+)")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The one line that a user sees."""

    code: str
    what: str
    cause: str
    remedy: str


def run(
    *arguments: str | Path,
    before: tuple[str, ...] = (),
    cwd: Path | None = None,
    guard: int = GUARD,
    **environment: str,
) -> Result:
    """Run ``vmgate``, by a program ``before`` it if so asked; nobody types anything."""
    command = [*before, str(VMGATE), *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment() | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=guard,
    )
    return Result(done)


def clean_environment() -> dict[str, str]:
    """This process's environment without what would change the command's ways."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("VMGATE_", "_VMGATE", "TSS2"))}


def refused(result: Result, exit_code: int) -> Refusal:
    """Require exactly one line that says what, why and what to do, and the exit code."""
    assert len(result.err.splitlines()) == 1, result.err
    found = _LINE.fullmatch(result.err)
    assert found is not None, result.err
    code, text = found.groups()
    parts = text.split("; ")
    assert len(parts) == 3, result.err
    assert all(part.strip() == part != "" for part in parts), result.err
    assert "Traceback" not in text
    assert text.isprintable()
    assert result.exit == exit_code, f"exit {result.exit}: {result.err}"
    return Refusal(code, *parts)


def state(*folders: Path, without: tuple[str, ...] = ()) -> Mapping[str, str]:
    """What the files below some folders are: a digest or a link's target, by path; the lock names who holds it."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.name in ("lock", ".lock") or name.startswith(without):
                continue
            if path.is_symlink():
                found[str(path)] = f"-> {path.readlink()}"
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            elif path.is_dir():
                found[str(path)] = "folder"
    return found
