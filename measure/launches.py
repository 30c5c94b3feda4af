# SPDX-License-Identifier: Apache-2.0
"""Which VMs were started in this boot, and whether each was one that an accepted release defines (check 8).

This module judges definitions by digest; whether what they name was there is the gate's to check before a start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from documents.release import Release
from documents.verdict import Finding
from measure.cel import CelRecord
from measure.pcr import LAUNCH_PCR


def launch_findings(
    records: Iterable[CelRecord], workloads: tuple[Release, ...], earlier: tuple[Release, ...], gone: set[str]
) -> Iterator[Finding]:
    """One finding for each definition that a VM was started from.

    Args:
        records: the measurement log.
        workloads: the workload releases that are active.
        earlier: those that were active before in this boot.
        gone: digests that must not run any more.
    """
    running: dict[tuple[str, str], bool] = {}
    for event in (entry.content for entry in records if entry.pcr == LAUNCH_PCR):
        if event.event == "vm-start":
            running[event.subject, event.fsverity] = True
        elif event.event == "vm-stop":
            running |= {started: False for started in running if started[0] == event.subject}
    for (name, digest), runs in running.items():
        now, before = _definitions(name, workloads), _definitions(name, earlier)
        outcome = "fail"
        if digest in now and digest not in gone:
            outcome = "pass"
        elif not runs or (digest in before and digest not in gone):
            # It stopped, or it goes on as it was started: the update came later, and its next start is judged anew.
            outcome = "warn"
        expected = " or ".join(sorted(now - gone)) or "a definition of a workload release"
        found = digest if outcome == "pass" else f"{digest}, {'still running' if runs else 'stopped'}"
        yield Finding(check="vm-start", subject=name, outcome=outcome, expected=expected[:500], found=found)


def _definitions(name: str, releases: Iterable[Release]) -> set[str]:
    artifacts = (artifact for release in releases for artifact in release.of_kind("definition"))
    return {artifact.fsverity for artifact in artifacts if artifact.name == f"vm/{name}"}
