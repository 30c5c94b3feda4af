# SPDX-License-Identifier: Apache-2.0
"""What watches over a host's own things and over its boot, handed on together. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from agent.baselines import Baselines
from agent.continuity import Continuity
from agent.inhibit import Kexec
from agent.local_measure import LocalMeasure


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOwn:
    """What is one host's own.

    Attributes:
        local: measures what is local to it.
        baselines: what its administrator approved of that.
        continuity: whether its boot was broken off.
        kexec: whether another kernel waits.
    """

    local: LocalMeasure
    baselines: Baselines
    continuity: Continuity
    kexec: Kexec

    def told(self) -> str:
        """What was approved, and whether the boot is whole, for people."""
        approved = self.baselines.approved()
        if self.continuity.broken:
            return f"the boot was broken off: {self.continuity.broken}"
        if self.baselines.refusal:
            return f"the approved baseline was refused: {self.baselines.refusal}"
        if approved is None:
            return "no approved baseline: see `vmgate config check`"
        return f"approved baseline number {approved.baseline.sequence}"
