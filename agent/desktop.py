# SPDX-License-Identifier: Apache-2.0
"""What vmgate asks and tells the desktop around it: whether the connection is metered, and a word before a restart.

Both go through programs of the system that may be missing; then nothing is metered, and nobody hears the word. This
module decides nothing.
"""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

BUSCTL = Path("/usr/bin/busctl")
WALL = Path("/usr/bin/wall")
SECONDS = 15

_MANAGER = "org.freedesktop.NetworkManager"
_METERED = ("u 1", "u 3")
"""NetworkManager's NMMetered: 1 is yes, 3 is guessed yes; 0, 2 and 4 are unknown, no and guessed no."""


def on_metered(busctl: Path = BUSCTL) -> bool:
    """Whether NetworkManager says that the connection is metered. Where it does not run, nobody says so."""
    command: list[str | Path] = [
        busctl, "--system", "get-property", _MANAGER, "/" + _MANAGER.replace(".", "/"), _MANAGER, "Metered"
    ]  # fmt: skip
    return _said(command, "") in _METERED


def announce(text: str, wall: Path = WALL) -> None:
    """Write a line to every terminal on which somebody is logged in (wall(1))."""
    _said([wall], text + "\n")


def _said(command: list[str | Path], text: str) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        log.info("%s did not answer: %s", command[0], error)
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
