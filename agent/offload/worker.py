# SPDX-License-Identifier: Apache-2.0
"""Off-loads the audit trail: sends each record, in order, and again where it may not have arrived.

The trail itself is the queue: nothing is held in memory but what was sent and is not settled yet. TLS acknowledges
nothing, so a record counts as settled once its bytes were acknowledged by the server's kernel and the channel lived on
for ``SETTLE_SECONDS``. After a broken channel, and after a restart, all that was not settled is sent again; the server
sees a record twice by its sequence and hash. A server that loses what it took longer ago is found by the gap, and
helped by ``vmgate audit export``. This module opens no socket and writes no record of others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent.audit import AuditTrail
from agent.audit_settings import AuditSettings
from agent.errors import ServerRefused
from agent.offload.message import encode, frame
from agent.trail_reader import TrailReader
from content import durable
from content.errors import ContentError, Missing, TooLarge
from documents.audit import AuditBroken, AuditHead, AuditSent
from documents.errors import DocumentError, DocumentNewer, VmgateError

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
SETTLE_SECONDS = 10.0
BATCH = 256
"""Records that are sent in one step."""

MAX_UNSETTLED = 4_096
"""Records that were sent and are not settled: no more are sent meanwhile, and no more are ever sent twice."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""Seconds between attempts; each pause is twice the one before."""

MAX_AGE = 86_400.0
"""Seconds after which a channel is opened anew, so that a certificate that was revoked or expired meanwhile is seen."""

TELL_SECONDS = 3_600.0
"""After which a failure is recorded again although its cause is the same."""


class Line(Protocol):
    """What the worker needs of a channel; see ``agent.offload.channel``."""

    peer: str
    fingerprint: str

    def send(self, data: bytes) -> None:
        """Hand bytes over."""

    def check(self) -> None:
        """Raise when the channel has ended."""

    def unacknowledged(self) -> int:
        """Bytes that are on their way."""

    def close(self) -> None:
        """End it."""


class Offload:
    """The worker of one trail.

    Args:
        settings: with a server.
        audit: the trail.
        directory: its folder.
        sent: where it keeps how far it came.
        hostname: of this host, for the messages.
        clock: gives seconds since 1970 UTC.
        connect: opens a channel.
        monotonic: gives seconds since any time.
    """

    def __init__(
        self, settings: AuditSettings, audit: AuditTrail, directory: Path, sent: Path, hostname: str,
        clock: Callable[[], int], connect: Callable[[AuditSettings], Line],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._audit = audit
        self._path = sent
        self._hostname = hostname
        self._clock = clock
        self._connect = connect
        self._monotonic = monotonic
        self._reader = TrailReader(directory)
        self._line: Line | None = None
        self._opened = 0.0
        self._unsettled: deque[tuple[AuditHead, float]] = deque()
        self._pause = FIRST_PAUSE
        self._due = 0.0
        self._trouble = ""
        self._told = ("", 0.0)
        self._alarmed = False
        self._sent = self._recover()

    def _recover(self) -> AuditSent:
        """How far an earlier worker came; what is damaged or does not fit the trail is told, and all is sent again."""
        try:
            sent = AuditSent.parse(durable.read_file(self._path, AuditSent.LIMIT))
        except Missing:
            return self._keep(AuditHead())
        except DocumentNewer:
            raise
        except (DocumentError, TooLarge) as error:
            return self._distrust("?", "?", f"it is damaged: {error.cause}")
        try:
            self._reader.go_after(sent.head.sequence)
        except AuditBroken:
            found = AuditHead()
        else:
            found = self._reader.at
        if found == sent.head:
            return sent
        cause = "the trail has no such record: it was cut or exchanged after it was off-loaded"
        return self._distrust(str(sent.head.sequence), sent.head.hash, cause)

    def _distrust(self, sequence: str, digest: str, cause: str) -> AuditSent:
        self._record("audit-sent", "refused", sent=sequence, hash=digest, cause=cause)
        return self._keep(AuditHead())

    def _keep(self, head: AuditHead) -> AuditSent:
        sent = AuditSent(head=head, time=max(0, self._clock()))
        durable.write_file(self._path, sent.encode())
        return sent

    def run(self, stop: threading.Event) -> None:
        """Off-load until told to stop; then once more what is there, and the end of the channel."""
        while not stop.wait(POLL_SECONDS):
            self.step()
        self.close()

    def step(self) -> None:
        """Do what there is to do now; what fails is recorded and tried again later."""
        try:
            if self._line is None and self._monotonic() >= self._due:
                self._open()
            if self._line is not None:
                self._work(self._line)
        except VmgateError as error:
            self._lose(error)
        self._look()

    def _open(self) -> None:
        line = self._connect(self._settings)
        try:
            self._record("audit-channel-open", "done", peer=line.peer, certificate=line.fingerprint)
            self._reader.go_after(self._sent.head.sequence)
        except VmgateError:
            line.close()
            raise
        self._unsettled.clear()
        self._line, self._opened = line, self._monotonic()
        self._trouble, self._told = "", ("", 0.0)
        self._heard(self._sent.head)

    def _work(self, line: Line) -> None:
        line.check()
        if self._monotonic() - self._opened > MAX_AGE:
            self._end("done", cause="it is opened anew, to check the server's certificate again")
            return
        # What is in the trail and not yet durable is announced by nobody: only up to its head.
        ready = self._audit.head.sequence - self._reader.at.sequence
        for record in self._reader.read(min(BATCH, MAX_UNSETTLED - len(self._unsettled), ready)):
            line.send(frame(encode(record, self._hostname)))
            self._unsettled.append((AuditHead(sequence=record.sequence, hash=record.hash()), self._monotonic()))
        self._settle(line)

    def _settle(self, line: Line) -> None:
        now, head = self._monotonic(), self._sent.head
        if now - self._opened >= SETTLE_SECONDS:
            # Only now: a server that ends each channel at once would be asked every second.
            self._pause = FIRST_PAUSE
        if line.unacknowledged():
            return
        while self._unsettled and now - self._unsettled[0][1] >= SETTLE_SECONDS:
            head, _ = self._unsettled.popleft()
        if head != self._sent.head or self._clock() - self._sent.time > TELL_SECONDS:
            self._heard(head)

    def _heard(self, head: AuditHead) -> None:
        """The server is there. Where that cannot be written down, more is sent again one day: no reason to stop now."""
        self._sent = AuditSent(head=head, time=max(0, self._clock()))
        try:
            self._keep(head)
        except ContentError as error:
            log.warning("%s", error)

    def _end(self, outcome: str, cause: str) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()
            self._heard(self._sent.head)
            self._record("audit-channel-close", outcome, peer=line.peer, cause=cause)

    def _lose(self, error: VmgateError) -> None:
        """The channel, or an attempt at one, failed. The same cause again is not recorded for an hour."""
        log.warning("%s", error)
        self._trouble = error.cause
        now = self._monotonic()
        self._due, self._pause = now + self._pause, min(LONGEST_PAUSE, self._pause * 2)
        try:
            if self._line is not None:
                self._end("failed", cause=error.cause)
                return
            cause, told = self._told
            if cause == error.cause and now - told < TELL_SECONDS:
                return
            outcome = "refused" if isinstance(error, ServerRefused) else "failed"
            self._record("audit-channel-open", outcome, code=error.code, cause=error.cause)
            self._told = (error.cause, now)
        except VmgateError as failure:
            log.warning("%s", failure)

    def _record(self, event: str, outcome: str, **details: str) -> None:
        self._audit.append(event, outcome, "audit", "agent", server=self._settings.server, **details)

    def _look(self) -> None:
        """Record the alarm once for each silence."""
        alarm = self.alarm()
        if alarm and not self._alarmed:
            try:
                last, hours = str(self._sent.time), str(self._settings.alarm_hours)
                self._record("audit-silence", "failed", last=last, hours=hours, waiting=str(self.waiting()))
            except VmgateError as error:
                log.warning("%s", error)
                return
        self._alarmed = alarm

    def alarm(self) -> bool:
        """Whether the server was out of reach for too long. A clock well before the last word tells no age."""
        silence = self._clock() - self._sent.time
        return self._line is None and (silence > self._settings.alarm_hours * 3_600 or silence < -86_400)

    def waiting(self) -> int:
        """Records that are not settled."""
        return max(0, self._audit.head.sequence - self._sent.head.sequence)

    def told(self) -> str:
        """One line for ``vmgate status``."""
        there = "connected" if self._line is not None else self._trouble or "not connected yet"
        return f"{self._settings.server}: {there}; {self.waiting()} records not settled"

    def close(self) -> None:
        """Send what is there, and end the channel; what it says of its end is sent by the next worker."""
        if self._line is not None:
            self.step()
        try:
            self._end("done", cause="the agent stops")
        except VmgateError as error:
            log.warning("%s", error)
