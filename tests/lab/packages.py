# SPDX-License-Identifier: Apache-2.0
"""A later version of vmgate, to upgrade to: the same code with another number, and one word more in one module."""

from __future__ import annotations

import zipfile
from pathlib import Path

OLD, NEW = "0.1.0", "0.1.1"
MARK = b"\n# a later version\n"


def next_version(wheel: Path, folder: Path) -> Path:
    """Make the wheel of the version after a wheel's.

    Args:
        wheel: of vmgate.
        folder: where it goes.
    """
    target = folder / wheel.name.replace(OLD, NEW)
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("/METADATA"):
                data = data.replace(f"Version: {OLD}".encode(), f"Version: {NEW}".encode(), 1)
            elif entry.filename == "agent/gate.py":
                data += MARK
            new.writestr(zipfile.ZipInfo(entry.filename.replace(OLD, NEW), entry.date_time), data)
    return target
