# SPDX-License-Identifier: Apache-2.0
"""What watches over a host's own things and over its boot, handed on together. This module makes nothing."""

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
