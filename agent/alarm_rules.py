# SPDX-License-Identifier: Apache-2.0
"""A rule over what was recorded (FAU_SAA.1): many refusals in a short time are flagged (FAU_ARP.1).

Somebody may be trying out the gate, or a host is set up wrongly; both want a person. What was refused stays refused,
and VMs that run go on. The rule is always on; what it has seen goes with the agent. This module refuses nothing.
"""

from __future__ import annotations

import logging
from collections import deque

from agent.audit import AuditTrail
from content.errors import ContentError
from documents.audit import AuditRecord

log = logging.getLogger(__name__)

REFUSALS = 5
SECONDS = 600
"""So many refusals within so long are an alarm."""

LASTS = 3_600
"""Seconds that it stays in the status after the last refusal."""


class Refusals:
    """Counts refusals of one trail; an observer of it."""

    def __init__(self, audit: AuditTrail) -> None:
        self._audit = audit
        self._times: deque[int] = deque(maxlen=REFUSALS)
        self._alarm = False

    def see(self, record: AuditRecord) -> None:
        """Take note of a record. Never raises: what is recorded already must not fail because of this."""
        if record.outcome != "refused":
            return
        # A clock that was set back makes old refusals count: better once too often.
        quiet = bool(self._times) and record.time - self._times[-1] > LASTS
        self._times.append(record.time)
        many = len(self._times) == REFUSALS and record.time - self._times[0] <= SECONDS
        if quiet:
            self._alarm = False
        if many and not self._alarm:
            self._alarm = True
            log.warning("%d refusals within %d seconds: see `vmgate audit list --outcome refused`", REFUSALS, SECONDS)
            try:
                self._audit.append(
                    "audit-alarm", "done", "audit", "agent",
                    rule="refusals", count=str(REFUSALS), seconds=str(SECONDS), last=str(record.sequence),
                )  # fmt: skip
            except ContentError as error:
                log.warning("the alarm was not recorded: %s", error)

    def alarm(self, now: int) -> bool:
        """Whether there is an alarm; it ends when nothing was refused for ``LASTS`` seconds."""
        return self._alarm and now - self._times[-1] <= LASTS
