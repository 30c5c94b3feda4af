# SPDX-License-Identifier: Apache-2.0
"""Which VMs were started in this boot, which of them run, and whether each was one that a release defines (check 8).

What runs follows from the starts and stops that the TPM was told of, and from nothing else: the appraisal, the list of
VMs and a host's own book-keeping all ask here. This module judges definitions by digest; whether what they name was
there is the gate's to check before a start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from documents.event import MeasuredEvent
from documents.local_set import PSEUDONYM
from documents.release import Origin, Release
from documents.security_policy import LOCAL_VMS
from documents.verdict import Finding
from measure.cel import CelRecord
from measure.findings import NOTHING
from measure.pcr import LAUNCH_PCR


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One start of a VM.

    Attributes:
        event: the ``vm-start``.
        runs: whether the VM was not said to have stopped since.
    """

    event: MeasuredEvent
    runs: bool

    @property
    def name(self) -> str:
        """Of the VM."""
        return self.event.subject


def launches(records: Iterable[CelRecord]) -> tuple[Launch, ...]:
    """Every start of this boot, in its order.

    A stop ends all earlier starts of its VM; a start ends none: what was not said to have stopped may still run.
    """
    found: list[Launch] = []
    for event in (entry.content for entry in records if entry.pcr == LAUNCH_PCR):
        if event.event == "vm-start":
            found.append(Launch(event=event, runs=True))
        elif event.event == "vm-stop":
            found = [replace(one, runs=one.runs and one.name != event.subject) for one in found]
    return tuple(found)


def running(records: Iterable[CelRecord]) -> dict[str, Launch]:
    """What runs now, by the VM's name: the newest start of each that has not stopped."""
    return {launch.name: launch for launch in launches(records) if launch.runs}


def launch_findings(
    records: Iterable[CelRecord],
    workloads: tuple[Release, ...],
    earlier: tuple[Release, ...],
    gone: set[str],
    *,
    local: bool = False,
) -> Iterator[Finding]:
    """One finding for each definition that a VM was started from.

    Args:
        records: the measurement log.
        workloads: the workload releases that are active.
        earlier: those that were active before in this boot.
        gone: digests that must not run any more.
        local: whether the security policy allows VMs that were made on the host.
    """
    started: dict[tuple[str, str, Origin | None], bool] = {}
    for launch in launches(records):
        key = (launch.name, launch.event.fsverity, launch.event.origin)
        started[key] = started.get(key, False) or launch.runs
    for (name, digest, origin), runs in started.items():
        if origin is None and name.startswith(PSEUDONYM):
            yield _judge_local(name, digest, allowed=local, runs=runs)
            continue
        now, before = _definitions(name, workloads), _definitions(name, earlier)
        outcome, claimed = "fail", ""
        if _is_forged(origin, digest, now, before):
            claimed = f" of {origin.target if origin else NOTHING}"
        elif digest in now.values() and digest not in gone:
            outcome = "pass"
        elif not runs or (digest in before.values() and digest not in gone):
            # It stopped, or it goes on as it was started: the update came later, and its next start is judged anew.
            outcome = "warn"
        expected = " or ".join(sorted(set(now.values()) - gone)) or "a definition of a workload release"
        found = digest if outcome == "pass" else f"{digest}{claimed}, {'still running' if runs else 'stopped'}"
        yield Finding(check="vm-start", subject=name, outcome=outcome, expected=expected[:500], found=found)


def _judge_local(pseudonym: str, digest: str, *, allowed: bool, runs: bool) -> Finding:
    """A VM that no release defines: never better than a warning, and a failure while it runs and nobody allowed it.

    One that stopped ran perhaps under a policy before, which allowed it; the gate asks at each start.
    """
    return Finding(
        check="vm-start",
        subject=pseudonym,
        outcome="warn" if allowed or not runs else "fail",
        expected=f"{LOCAL_VMS} in the security policy",
        found=f"a local VM, {digest}, {'still running' if runs else 'stopped'}",
        authority="local",
    )


def _definitions(name: str, releases: Iterable[Release]) -> dict[Origin, str]:
    """The digest of a VM's definition by the release that has it."""
    return {
        release.origin: artifact.fsverity
        for release in releases
        for artifact in release.of_kind("definition")
        if artifact.name == f"vm/{name}"
    }


def _is_forged(origin: Origin | None, digest: str, now: dict[Origin, str], before: dict[Origin, str]) -> bool:
    """Whether the release that a start names cannot be the one that its definition came with.

    A verifier does not have every release that a VM may have been started from; of a release that is not known here,
    only the channel can be checked.
    """
    known = before | now
    if origin is None:
        return True
    if origin in known:
        return known[origin] != digest
    channels = {other.target.rpartition("/")[0] for other, found in known.items() if found == digest}
    return bool(channels) and origin.target.rpartition("/")[0] not in channels
