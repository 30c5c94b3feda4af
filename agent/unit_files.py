# SPDX-License-Identifier: Apache-2.0
"""The systemd units that vmgate ships: the agent's, and the timer by which a host updates itself.

They are files of the package, so a release measures them with it. This module enables and starts nothing.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from agent.setup import write_new
from content import durable

NAMES = ("vmgate.service", "vmgate-update.service", "vmgate-update.timer")
FOLDER = Path("etc/systemd/system")


def install_units(root: Path) -> tuple[str, ...]:
    """Write the units below ``root``; returns what was done, for people.

    Raises:
        ContentError: one could not be written.
    """
    folder = root / FOLDER
    durable.make_directory(folder, 0o755)
    for name in NAMES:
        write_new(folder / name, files("agent").joinpath("units", name).read_bytes(), 0o644)
    return (
        f"systemd units in {folder}: {', '.join(NAMES)}",
        "`systemctl enable --now vmgate.service vmgate-update.timer` lets this host update itself",
    )
