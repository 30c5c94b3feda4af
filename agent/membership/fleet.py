# SPDX-License-Identifier: Apache-2.0
"""This host's place in a fleet: joined by an administrator, kept alive by a thread, told to whoever asks.

Every so often the host fetches a nonce, shows its evidence and brings its audit records. The agent opens no port for
it, and what the fleet answers changes nothing on the host: it is remembered for people. This module judges nothing.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.audit import AuditTrail
from agent.membership.errors import NoFleet
from agent.membership.joining import Invitation, join
from agent.membership.link import Asks, Link
from agent.membership.witness import Witness
from agent.outside import Outside
from agent.paths import HostPaths
from agent.server import Call
from content import durable
from content.errors import Missing
from documents.canonical import Json
from documents.enrolment import Enrolled, Membership
from documents.errors import VmgateError
from documents.evidence import Evidence
from documents.fleet_answers import Appraised
from updater.client.connection import Route
from updater.client.exchange import Exchange

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 60
"""After an attempt that failed, or the interval where that is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What came of the last attempts; goes with the process.

    Attributes:
        appraised: the newest answer; None before the first.
        failure: why the last attempt failed; empty where it did not.
        due: when to attest next, in seconds since 1970 UTC.
    """

    appraised: Appraised | None = None
    failure: str = ""
    due: int = 0


class Fleet:
    """This host's place in a fleet.

    Args:
        outside: of this host.
        evidence: makes evidence over a nonce.
        sign_audit: signs the head of the audit trail, where the host's state allows.
        connect: makes the way to an address, given certificates that alone are believed.
    """

    def __init__(
        self,
        outside: Outside,
        evidence: Callable[[bytes], Evidence],
        sign_audit: Callable[[], None],
        connect: Callable[[str, str], Asks] | None = None,
    ) -> None:
        self._paths: HostPaths = outside.paths
        self._audit: AuditTrail = outside.audit
        self._tpm = outside.tpm
        self._clock = outside.clock
        self._proxy = outside.settings.proxy
        self._evidence = evidence
        self._sign_audit = sign_audit
        self._connect = connect or self._exchange
        self._witness = Witness(outside.paths)
        self._lock = threading.Lock()
        self._standing = Standing()

    def enroll(self, call: Call) -> dict[str, Json]:
        """Join a fleet, in place of the one before."""
        invitation = Invitation(
            url=call.take("url"), token=call.take("token"), ca=call.take("ca"), name=call.take("name", "")
        )
        call.finish()
        invitation.require_sound()
        with self._lock:
            self._audit.append("fleet-join", "started", "host", call.actor, url=invitation.url)
            old = self._certificates()
            new = self._paths.fleet_ca(hashlib.sha256(invitation.ca.encode()).hexdigest())
            try:
                durable.write_file(new, invitation.ca.encode())
                membership = join(self._connect(invitation.url, str(new)), invitation, self._tpm)
                durable.write_file(self._paths.membership, membership.encode())
            except VmgateError as error:
                if new != old:
                    durable.remove(new)
                self._audit.append("fleet-join", "failed", "host", call.actor, cause=error.cause, code=error.code)
                raise
            enrolled = Enrolled.parse(membership.enrolled)
            self._audit.append("fleet-join", "done", "host", call.actor, fleet=enrolled.fleet, host=enrolled.host)
            if old is not None and old != new:
                durable.remove(old)
            self._standing = Standing()
            self._witness.forget()
        return self.show()

    def leave(self, call: Call) -> dict[str, Json]:
        """Forget the fleet."""
        call.finish()
        with self._lock:
            membership = self._membership()
            enrolled = Enrolled.parse(membership.enrolled)
            durable.remove(self._paths.membership)
            durable.remove(self._ca_file(membership))
            self._audit.append("fleet-leave", "done", "host", call.actor, fleet=enrolled.fleet, host=enrolled.host)
            self._standing = Standing()
        return self.show()

    def sync(self) -> dict[str, Json]:
        """Attest now, and bring audit records.

        Raises:
            NoFleet: there is none.
            VmgateError: why it failed; it is tried again by itself.
        """
        with self._lock:
            self._sync()
        return self.show()

    def show(self) -> dict[str, Json]:
        """The fleet, and what it thinks of this host."""
        try:
            membership = self._membership()
        except NoFleet:
            return {"fleet": "", "url": "", "name": "", "host": "", "state": "", "status": "", "level": "",
                    "judged": 0, "expires": 0, "failure": ""}  # fmt: skip
        enrolled, standing = Enrolled.parse(membership.enrolled), self._standing
        found = standing.appraised
        return {
            "fleet": enrolled.fleet,
            "url": membership.url,
            "name": enrolled.name,
            "host": enrolled.host,
            "state": enrolled.state,
            "status": found.status if found else "",
            "level": found.level if found else "",
            "judged": found.time if found else 0,
            "expires": found.expires if found else 0,
            "failure": standing.failure,
        }

    def run(self, stop: threading.Event) -> None:
        """Attest whenever it is due, until told to stop."""
        while not stop.wait(LOOK_SECONDS):
            if self._clock() < self._standing.due or not self._paths.membership.exists():
                continue
            with self._lock:
                try:
                    self._sync()
                except VmgateError as error:
                    log.warning("the fleet was not told: %s", error)

    def _sync(self) -> None:
        membership = self._membership()
        interval = Enrolled.parse(membership.enrolled).interval
        try:
            exchange = self._connect(membership.url, str(self._ca_file(membership)))
            link = Link(exchange, membership, self._tpm, self._clock)
            membership = self._refreshed(link, membership)
            found = link.signed("attestations", lambda nonce: self._evidence(nonce).encode(), Appraised)
            self._standing = Standing(appraised=found, due=self._next(interval))
            self._sign_audit()
            self._witness.bring(link, self._audit.head)
        except VmgateError as error:
            self._witness.forget()
            due = self._clock() + min(RETRY_SECONDS, interval)
            self._standing = Standing(appraised=self._standing.appraised, failure=error.line(), due=due)
            raise

    def _refreshed(self, link: Link, membership: Membership) -> Membership:
        """Where an administrator's approval is awaited, ask whether it came."""
        before = Enrolled.parse(membership.enrolled)
        if before.state == "active":
            return membership
        enrolled = link.signed("membership", lambda _nonce: b"", Enrolled)
        if enrolled.state != before.state:
            membership = Membership(
                url=membership.url, ca=membership.ca, enrolled=enrolled.encode(), public=membership.public,
                private=membership.private,
            )  # fmt: skip
            durable.write_file(self._paths.membership, membership.encode())
        return membership

    def _next(self, interval: int) -> int:
        """Spread: hosts that were switched on together do not come together for ever."""
        return self._clock() + interval - secrets.randbelow(max(1, interval // 10))

    def _membership(self) -> Membership:
        try:
            return Membership.parse(durable.read_file(self._paths.membership, Membership.LIMIT))
        except Missing as error:
            raise NoFleet(
                "the fleet was not asked", cause="this host belongs to none", remedy="run `vmgate host enroll`"
            ) from error

    def _ca_file(self, membership: Membership) -> Path:
        return self._paths.fleet_ca(hashlib.sha256(membership.ca).hexdigest())

    def _certificates(self) -> Path | None:
        """Those of the present fleet."""
        try:
            return self._ca_file(self._membership())
        except NoFleet:
            return None

    def _exchange(self, url: str, ca_file: str) -> Asks:
        return Exchange(url, Route(proxy=self._proxy, ca_file=ca_file))


class Visiting:
    """A thread that keeps the fleet informed.

    Args:
        fleet: of this host.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=fleet.run, args=(self._stop,), name="fleet", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End; a fleet that hangs does not keep the agent from ending."""
        self._stop.set()
        self._thread.join(LOOK_SECONDS)
