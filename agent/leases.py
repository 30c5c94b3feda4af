# SPDX-License-Identifier: Apache-2.0
"""Leases of VMs: so much powered-on time of the TPM, in so many boots, until a day. What is over takes the VM back.

A lease is a record of the audit trail and lies nowhere else, so that the newest counts and none can be copied back
without the trail. Powered-on time is the TPM's clock, which nobody sets back; boots are its resets; the day is judged
by the host's clock, but never before the floor's time, the latest that signed metadata has shown. A TPM that was
cleared, a lease that cannot be read and a clock that cannot be asked are a lease that is over. A VM that never had one
needs none. This module does nothing to a VM: it is a source of causes (``agent.taken_back.Source``), which the gate
asks at each start and the watch at each look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.audit import AuditTrail, records
from agent.paths import HostPaths
from agent.revocation import LEASE
from agent.set_errors import LeaseWrong
from documents.audit import AuditRecord
from documents.errors import VmgateError

log = logging.getLogger(__name__)

EVENT = "vm-lease"
MOST_SECONDS = 10 * 366 * 86_400
MOST_BOOTS = 100_000
MAX_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a VM may have until its lease is over.

    Attributes:
        seconds: of the TPM's powered-on time, from the grant on.
        boots: resets of the TPM after the grant.
        until: seconds since 1970 UTC; 0 for no day.
    """

    seconds: int
    boots: int
    until: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a lease is judged by.

    Attributes:
        clock: the TPM's, milliseconds.
        resets: the TPM's resetCount.
        time: seconds since 1970 UTC: the host's clock or the floor's time, whichever is later.
    """

    clock: int
    resets: int
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease that was granted.

    Attributes:
        terms: what it gives.
        clock, resets: of the TPM when it was granted.
    """

    terms: Terms
    clock: int
    resets: int

    def over(self, now: Moment) -> str:
        """Why it is over, for people; empty while it is not. Pure."""
        if now.clock < self.clock or now.resets < self.resets:
            return "the TPM is another one, or was cleared"
        if now.clock - self.clock > self.terms.seconds * 1_000:
            return f"its {self.terms.seconds} seconds of powered-on time are over"
        if now.resets - self.resets > self.terms.boots:
            return f"its {self.terms.boots} boots are over"
        if self.terms.until and now.time >= self.terms.until:
            return "its day is over"
        return ""


class Lender(Protocol):
    """A fleet, as far as it lends VMs to a host. ``renew`` asks it; nobody fulfils it yet."""

    def terms(self, uuid: str) -> Terms | None:
        """What a VM may have from now on; None where the fleet says nothing new."""


class Leases:
    """Of one host.

    Args:
        paths, audit: of the host.
        moment: gives what leases are judged by now.
    """

    def __init__(self, paths: HostPaths, audit: AuditTrail, moment: Callable[[], Moment]) -> None:
        self._paths = paths
        self._audit = audit
        self._moment = moment
        self._known: dict[str, Lease | None] | None = None
        audit.observers.append(self.see)

    def grant(self, name: str, uuid: str, terms: Terms, actor: str) -> None:
        """Let a VM have a lease from now on, in the place of the one before.

        Raises:
            LeaseWrong: the terms are none.
            VmgateError: the TPM's clock cannot be asked, or it cannot be recorded; the one before counts.
        """
        if not (0 <= terms.seconds <= MOST_SECONDS and 0 <= terms.boots <= MOST_BOOTS and 0 <= terms.until < 2**40):
            raise LeaseWrong(
                "no lease was granted", cause="its terms are out of bounds", remedy="see docs/guide/gate.md"
            )
        now = self._moment()
        self._audit.append(
            EVENT, "done", name, actor, uuid=uuid, seconds=str(terms.seconds), boots=str(terms.boots),
            until=str(terms.until), clock=str(now.clock), resets=str(now.resets),
        )  # fmt: skip

    def renew(self, lender: Lender, vms: Mapping[str, str], actor: str) -> None:
        """Ask a fleet for each VM; what it does not answer stays as it is.

        Args:
            lender: the fleet.
            vms: UUIDs by names.
            actor: for the record.
        """
        for name, uuid in vms.items():
            terms = lender.terms(uuid)
            if terms is not None:
                self.grant(name, uuid, terms, actor)

    def cause(self, name: str) -> str:
        """``LEASE`` where the VM's lease is over; else empty (``agent.taken_back.Source``)."""
        return LEASE if self.over(name) else ""

    def over(self, name: str) -> str:
        """Why a VM's lease is over; empty where it is not, or where the VM never had one."""
        known = self._all()
        if name not in known:
            return ""
        lease = known[name]
        if lease is None:
            return "it cannot be read"
        try:
            return lease.over(self._moment())
        except VmgateError as error:
            log.warning("whether the lease of %s is over is not known: %s", name, error)
            return "the TPM's clock cannot be asked"

    def _all(self) -> dict[str, Lease | None]:
        if self._known is None:
            self._known = {}
            for record in records(self._paths.audit):
                self.see(record)
        return self._known

    def see(self, record: AuditRecord) -> None:
        """Take note of an audit record."""
        if self._known is not None and record.event == EVENT:
            self._known[record.subject] = read_lease(dict(record.details))


def read_lease(details: Mapping[str, str]) -> Lease | None:
    """The lease in a record's details; None for what is none. Pure."""
    try:
        numbers = {name: _number(details[name]) for name in ("seconds", "boots", "until", "clock", "resets")}
    except (KeyError, ValueError):
        return None
    terms = Terms(seconds=numbers["seconds"], boots=numbers["boots"], until=numbers["until"])
    return Lease(terms=terms, clock=numbers["clock"], resets=numbers["resets"])


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise ValueError(text)
    return int(text)
