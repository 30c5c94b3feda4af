# SPDX-License-Identifier: Apache-2.0
"""Folders whose content the agent's unit hides from it (``PrivateTmp=``), so that the error says why a file is missing.

This module opens nothing, and what it lets through may still be missing.
"""

from __future__ import annotations

from pathlib import Path

from agent.errors import OutOfSight

OWN = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - named, and not written to
"""Folders of which a service has its own."""


def require_sight(path: Path, own: tuple[Path, ...] = OWN) -> None:
    """Refuse a file that the agent does not see, in a folder of which it may have its own.

    Args:
        path: absolute, as the caller named it.
        own: folders.

    Raises:
        OutOfSight: so it is.
    """
    if any(path.is_relative_to(folder) for folder in own) and not path.exists():
        raise OutOfSight(
            "the file was not read",
            cause=f"the agent sees no {path}; its service has a folder for temporary files of its own",
            remedy="put it elsewhere, such as below /root or /home",
        )
