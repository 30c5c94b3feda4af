# SPDX-License-Identifier: Apache-2.0
"""Folders whose content the agent's unit hides from it (``PrivateTmp=``), so that the error says why a file is missing.

This module opens nothing, and what it lets through may still be missing.
"""

from __future__ import annotations

from pathlib import Path

from agent.errors import OutOfSight
from agent.porter import STATUS, is_boxed

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


def require_seen(path: Path, own: tuple[Path, ...] = OWN, status: Path = STATUS) -> None:
    """Refuse to write a file where nobody but the agent would see it.

    Args:
        path: absolute, as the caller named it.
        own: folders.
        status: the agent's (proc(5)), which tells whether it is boxed.

    Raises:
        OutOfSight: so it is.
    """
    if any(path.is_relative_to(folder) for folder in own) and is_boxed(status.read_text()):
        raise OutOfSight(
            "the file was not written",
            cause=f"the agent's service has another {path.parent} than you",
            remedy="name a place below /var/lib/vmgate",
        )
