# SPDX-License-Identifier: Apache-2.0
"""Programs that the rig runs, under a clock that stands still, and silent unless they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

EPOCH = 1767225600
"""2026-01-01 00:00:00 UTC, in seconds: the date of everything in the image."""

_ENVIRONMENT = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH), "E2FSPROGS_FAKE_TIME": str(EPOCH)}
_CLOCKED = {"sbsign", "objcopy", "mformat", "mmd", "mcopy"}
"""What writes the present time into its output and has no variable against it."""


class RigBroken(Exception):
    """The rig could not be built or booted: what was done, and what the program said."""


def run(*command: str | Path, text: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a program; returns what it printed.

    Raises:
        RigBroken: it is missing or failed.
    """
    clock = ["faketime", "-f", "2026-01-01 00:00:00"] if str(command[0]) in _CLOCKED else []
    words = [*clock, *map(str, command)]
    try:
        done = subprocess.run(
            words,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | _ENVIRONMENT | dict(environment or {}),
        )
    except FileNotFoundError as error:
        raise RigBroken(f"{words[0]} is not installed; .ci/system-packages installs it") from error
    if done.returncode:
        raise RigBroken(f"{' '.join(words)} exited {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout
