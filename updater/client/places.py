# SPDX-License-Identifier: Apache-2.0
"""Where the update state of a host lies. This module touches no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the update state lies."""

    tuf: Path
    generations: Path
    journal: Path
    floor: Path

    @classmethod
    def below(cls, state: Path) -> Places:
        """The places in a state folder such as ``/var/lib/vmgate``."""
        return cls(
            tuf=state / "tuf", generations=state / "generations", journal=state / "journal", floor=state / "floor"
        )
