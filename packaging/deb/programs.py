# SPDX-License-Identifier: Apache-2.0
"""Programs that the build runs: in one language, one time zone and one order of hashes; silent unless they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}


class BuildBroken(Exception):
    """The package could not be built: what was done, and what the program said."""


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program; returns what it printed.

    Raises:
        BuildBroken: it is missing or failed.
    """
    words = [*map(str, command)]
    given = os.environ | ENVIRONMENT | dict(environment or {})
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True, env=given)
    except FileNotFoundError as error:
        raise BuildBroken(f"{words[0]} is not installed; .ci/system-packages installs it") from error
    if done.returncode:
        raise BuildBroken(f"{' '.join(words)} exited {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout
