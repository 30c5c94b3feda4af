# SPDX-License-Identifier: Apache-2.0
"""Watches what runs: each look compares it with what the gate let start, and answers by the signed policy.

A domain of libvirt's that is not what was let start, or that nobody let start, is suspended or killed; a QEMU by hand
is recorded and told, for it has no key, no store and no network of ours. A fault is recorded once, and again when
somebody undid the answer. Nothing is answered on one look alone where a VM may just have stopped. This module does not
find out what is wrong (``agent.drift`` does).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from agent.audit import AuditTrail
from agent.drift import BY_HAND, DRIFT, UNGATED, Fault, faults
from agent.findings import make_finding
from agent.launched import Launched
from documents.canonical import Json
from documents.errors import VmgateError
from documents.verdict import Finding
from hypervisor.by_hand import Machine
from hypervisor.libvirt import Live
from measure.launches import Launch

log = logging.getLogger(__name__)

CONFIRM_SECONDS = 1.0
"""Between the two looks at a domain that nobody let start: libvirt lists one that stops a little longer than we do."""

MAX_BY_HAND = 100
"""QEMU processes by hand that are told at once; more are as bad as that many."""


class Domains(Protocol):
    """What the watch needs of libvirt (``hypervisor.libvirt.Hypervisor``)."""

    def active(self) -> tuple[Live, ...]:
        """All that runs."""

    def suspend(self, name: str) -> None:
        """Stop its processors."""

    def kill(self, name: str) -> None:
        """Switch it off."""


class Watch:
    """Looks at what runs.

    Args:
        domains: libvirt.
        running: gives what runs by this boot's log.
        launched: gives what a VM was let start as.
        by_hand: gives the QEMU processes that are not libvirt's.
        answer: gives what the signed policy says: ``suspend`` or ``kill``.
        audit: every fault and every answer is recorded.
        gone: told of a run that the log has and libvirt has not.
    """

    def __init__(
        self,
        domains: Domains,
        running: Callable[[], Mapping[str, Launch]],
        launched: Callable[[str], Launched | None],
        by_hand: Callable[[], tuple[Machine, ...]],
        answer: Callable[[], str],
        audit: AuditTrail,
        gone: Callable[[str, int], None],
    ) -> None:
        self._domains = domains
        self._running = running
        self._launched = launched
        self._by_hand = by_hand
        self._policy = answer
        self._audit = audit
        self._gone = gone
        self._lock = threading.Lock()
        self._standing: tuple[Fault, ...] = ()
        self._told: set[Fault] = set()
        self._failed: set[Fault] = set()
        self._seen: frozenset[Machine] = frozenset()

    def look(self) -> None:
        """Compare and answer. One look at a time; where it cannot look it says so in the log, and the next one comes.

        Nobody whom libvirt's hook waits for may call it.
        """
        with self._lock:
            try:
                standing = self._confirmed()
            except VmgateError as error:
                log.warning("what runs was not looked at: %s", error)
                return
            by_hand = self._look_by_hand()
            for fault, state in standing.items():
                self._answer(fault, state)
            for fault in by_hand:
                self._tell_by_hand(fault)
            self._standing = (*standing, *by_hand)
            self._told &= set(self._standing)
            self._failed &= set(self._standing)

    def standing(self) -> tuple[Fault, ...]:
        """What the last look found."""
        return self._standing

    def findings(self) -> tuple[Finding, ...]:
        """The same for the host's verdict: each is a warning, for it was answered and is no part of the platform."""
        return tuple(
            make_finding(fault.kind.removeprefix("vm-"), fault.name, "warn", "what the gate let start", fault.why)
            for fault in self._standing
        )

    def told(self) -> list[Json]:
        """The same for people and programs."""
        return [
            {"kind": fault.kind, "name": fault.name, "run": fault.run, "why": fault.why} for fault in self._standing
        ]

    def _confirmed(self) -> dict[Fault, str]:
        """Faults that two looks found, with the state of the domain: between them a VM that stops is said to."""
        first, missing = self._found()
        if not first and not missing:
            return {}
        if missing or any(fault.kind == UNGATED for fault in first):
            time.sleep(CONFIRM_SECONDS)
        second, still = self._found()
        for name, run in still & missing:
            self._gone(name, run)
        known = {fault.key for fault in first}
        return {fault: state for fault, state in second.items() if fault.key in known}

    def _found(self) -> tuple[dict[Fault, str], set[tuple[str, int]]]:
        """Faults with the state of their domain; and runs that the log has and libvirt has not."""
        before = {name: noted.run if (noted := self._launched(name)) else -1 for name in self._running()}
        active = self._domains.active()
        # Read after libvirt was asked: a start is in the log before its domain runs. And before: a domain that is being
        # started is libvirt's before it is in the log.
        found = faults(active, self._running().keys(), self._launched)
        states = {(live.name, live.run): live.state for live in active}
        missing = {(name, run) for name, run in before.items() if name not in {live.name for live in active}}
        return {fault: states[fault.name, fault.run] for fault in found}, missing

    def _answer(self, fault: Fault, state: str) -> None:
        answer = self._policy()
        if answer == "suspend" and state == "paused" and fault in self._told:
            return
        # Told once: where the answer fails, the next look comes in seconds.
        quiet = fault in self._failed
        if not quiet:
            self._tell(fault, "started", answer=answer)
        try:
            if answer == "kill":
                self._domains.kill(fault.name)
            else:
                self._domains.suspend(fault.name)
        except VmgateError as error:
            self._failed.add(fault)
            if not quiet:
                self._tell(fault, "failed", answer=answer, cause=error.cause)
            return
        self._failed.discard(fault)
        self._told.add(fault)
        self._tell(fault, "done", answer=answer)

    def _tell(self, fault: Fault, outcome: str, **details: str) -> None:
        """Without room for the record the answer is given all the same: to let it run would be worse."""
        name = "vm-drift" if fault.kind == DRIFT else "vm-ungated"
        try:
            self._audit.append(name, outcome, fault.name[:300], "agent", found=fault.why[:1_000], **details)
        except VmgateError as error:
            log.warning("%s of %s was not recorded: %s", name, fault.name, error)

    def _look_by_hand(self) -> tuple[Fault, ...]:
        """What was there at the last look, too: libvirt itself runs QEMU for a moment to learn what it can do."""
        try:
            found = frozenset(self._by_hand())
        except VmgateError as error:
            log.warning("who else runs QEMU was not looked at: %s", error)
            return ()
        both, self._seen = found & self._seen, found
        first = sorted(both, key=lambda machine: machine.process)[:MAX_BY_HAND]
        return tuple(
            Fault(
                kind=BY_HAND,
                name=machine.program,
                run=machine.process,
                why=f"process {machine.process} of user {machine.uid}, {'with' if machine.kvm else 'without'} KVM",
            )
            for machine in first
        )

    def _tell_by_hand(self, fault: Fault) -> None:
        if fault in self._told:
            return
        try:
            self._audit.append("vm-by-hand", "done", fault.name[:300], "agent", found=fault.why)
        except VmgateError as error:
            log.warning("a QEMU by hand was not recorded: %s", error)
            return
        self._told.add(fault)
