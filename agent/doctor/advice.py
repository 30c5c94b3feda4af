# SPDX-License-Identifier: Apache-2.0
"""What the doctor says: one thing looked at, what was found, and what to do. This module looks at nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

LEVELS = ("fail", "warn", "note", "pass")
"""fail: VMs are not isolated, or vmgate cannot work. warn: weaker than the best. note: worth knowing. pass: fine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing.

    Attributes:
        check: its name, such as ``ksm``; one check may give several.
        level: one of ``LEVELS``.
        found: what is there.
        why: what could happen; empty where all is well.
        fix: what to do, a command where one does it; empty where all is well.
        sfr: requirements that it serves.
    """

    check: str
    level: str
    found: str
    why: str = ""
    fix: str = ""
    sfr: str = ""

    def members(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def sort(advice: Iterable[Advice]) -> tuple[Advice, ...]:
    """The worst first; equal ones in their order."""
    return tuple(sorted(advice, key=lambda one: LEVELS.index(one.level)))
