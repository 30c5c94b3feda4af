# SPDX-License-Identifier: Apache-2.0
"""Is what runs what the gate let start? Pure: what libvirt has, what the log says and what was noted in; faults out.

It cannot see what somebody with root's power does inside a QEMU process without libvirt. This module answers nothing
(``agent.watch`` does).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from agent.launched import Launched
from hypervisor.compare import live_differences
from hypervisor.libvirt import Live

DRIFT, UNGATED, BY_HAND = "vm-drift", "vm-ungated", "vm-by-hand"
"""A VM is not what was let start; a domain of libvirt's that nobody let start; a QEMU that is not libvirt's."""

HARMLESS_TAINTS = ("deprecated config", "tainted: use of deprecated configuration", "host-cpu")
"""Beginnings of what libvirt says of any domain of its kind, and that nobody did to it while it ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that runs and that the gate did not let run like this.

    Attributes:
        kind: ``DRIFT``, ``UNGATED`` or ``BY_HAND``.
        name: of the domain, or of the program.
        run: libvirt's number of the run, or the process's.
        why: for people; parts of it are what somebody else wrote.
    """

    kind: str
    name: str
    run: int
    why: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What stays the same while the fault is told in other words."""
        return self.kind, self.name, self.run


def faults(
    found: Iterable[Live], started: Collection[str], launched: Callable[[str], Launched | None]
) -> tuple[Fault, ...]:
    """What is wrong with what runs; what is being started now is looked at later.

    Args:
        found: all active domains.
        started: names of the VMs that run by this boot's log, read after ``found``.
        launched: gives what each was let start as.
    """
    told = ((live, _fault(live, started, launched)) for live in found if not live.starting)
    return tuple(Fault(kind=fault[0], name=live.name, run=live.run, why=fault[1]) for live, fault in told if fault)


def _fault(live: Live, started: Collection[str], launched: Callable[[str], Launched | None]) -> tuple[str, str] | None:
    if live.name not in started:
        return UNGATED, "no start of it is in this boot's log"
    noted = launched(live.name)
    if noted is None:
        return UNGATED, "nobody noted what it was let start as"
    if noted.run != live.run:
        return UNGATED, f"run {live.run} of it was not let start, run {noted.run} was"
    taint = next((taint for taint in live.taints if not any(word in taint for word in HARMLESS_TAINTS)), None)
    if taint is not None:
        return DRIFT, taint
    found = live_differences(noted.xml, live.xml)
    if not found:
        return None
    first, more = found[0], f", and {len(found) - 1} more" if len(found) > 1 else ""
    return DRIFT, f"{first.xpath}: expected {first.expected}, found {first.found}{more}"
