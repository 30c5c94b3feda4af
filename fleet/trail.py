# SPDX-License-Identifier: Apache-2.0
"""The fleet's own audit trail: chained records in the database, written with what they are about or not at all.

Records of attacks are as many as the attackers like; each process keeps at most some a minute of one kind, and says how
many it left out. This module does not decide what is recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, insert, select, update

from documents.audit import GENESIS, AuditRecord, verify_chain
from documents.fields import TEXT
from fleet.tables import audit, host_audit, state

EVENTS: Final = frozenset(
    {
        "admin-create", "admin-lock", "admin-lockout", "admin-log-in", "admin-log-out", "admin-password",
        "admin-proof", "admin-remove", "admin-role", "admin-session-end", "admin-unlock", "assignment-publish",
        "assignment-remove", "assignment-set", "audit-alarm", "audit-export", "audit-refused", "enrolment",
        "fleet-backup", "fleet-init", "fleet-restore", "host-approve", "host-label", "host-lock", "host-readmit",
        "host-remove", "host-revoke", "host-unlock", "host-verdict", "page-refused", "reference-add",
        "reference-withdraw", "request-refused", "rollout-pause", "rollout-remove", "rollout-resume", "rollout-start",
        "rollout-step", "rollout-withdraw", "rules-change", "token-create", "token-withdraw",
    }
)  # fmt: skip
"""All that is recorded."""

A_MINUTE: Final = 20
"""Most records of refusals of one kind in a minute, for one process."""

SEARCHED: Final = 100_000
"""Most records that one search looks at, or one export has."""

_NAME: Final = "audit"
_LONGEST: Final = 900


class Trail:
    """Writes records.

    Args:
        boot: an id of this process, in the form of a UUID.
    """

    def __init__(self, boot: str) -> None:
        self._boot = boot

    def write(
        self,
        connection: Connection,
        now: int,
        event: str,
        outcome: str,
        *,
        subject: str,
        actor: str,
        **details: str,
    ) -> AuditRecord:
        """Add a record in the transaction of what it is about.

        Args:
            connection: writing.
            now: seconds since 1970 UTC.
            event: one of ``EVENTS``.
            outcome: one of ``documents.audit.OUTCOMES``.
            subject: such as a host's name.
            actor: who asked.
            details: short texts by name.
        """
        if event not in EVENTS:
            raise ValueError(f"{event} is no event of the trail")
        # Whoever comes second waits here for the first one's end, so that the chain is one.
        row = connection.execute(
            select(state.c.number, state.c.text).where(state.c.name == _NAME).with_for_update()
        ).one_or_none()
        sequence, previous = (row.number, row.text) if row else (0, GENESIS)
        record = AuditRecord(
            sequence=sequence + 1,
            time=now,
            boot=self._boot,
            event=event,
            outcome=outcome,
            subject=clean(subject, 300),
            actor=clean(actor, 120) or "nobody",
            details=tuple(sorted((name, clean(text, _LONGEST)) for name, text in details.items())),
            previous=previous,
        )
        connection.execute(insert(audit).values(sequence=record.sequence, hash=record.hash(), record=record.encode()))
        values = {"number": record.sequence, "text": record.hash()}
        if row:
            connection.execute(update(state).where(state.c.name == _NAME).values(values))
        else:
            connection.execute(insert(state).values(name=_NAME, **values))
        return record


class Sparing:
    """Lets through at most ``A_MINUTE`` records of a kind in a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0
        self._seen: dict[str, int] = {}
        self._left_out = 0

    def take(self, kind: str, now: int) -> int | None:
        """How many were left out before this one, which may be recorded; None where it is one too many."""
        with self._lock:
            if now // 60 != self._minute:
                self._minute, self._seen = now // 60, {}
            self._seen[kind] = self._seen.get(kind, 0) + 1
            if self._seen[kind] > A_MINUTE:
                self._left_out += 1
                return None
            left, self._left_out = self._left_out, 0
            return left


def clean(text: str, limit: int) -> str:
    """A text that a record may hold: what others sent, without what acts on a terminal."""
    return "".join(c if TEXT.fullmatch(c) else "?" for c in text[:limit])


def records(connection: Connection, last: int) -> Iterator[AuditRecord]:
    """The last records, the oldest first."""
    rows = connection.execute(select(audit.c.record).order_by(audit.c.sequence.desc()).limit(last)).all()
    for (record,) in reversed(rows):
        yield AuditRecord.parse(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which records are wanted.

    Attributes:
        host: id of a host, for its trail; empty for the fleet's own.
        event: name of the event; empty for all.
        text: that the record holds, in any place; empty for all.
        before: sequence; 0 for the newest.
    """

    host: str = ""
    event: str = ""
    text: str = ""
    before: int = 0


def chosen(connection: Connection, wish: Wish, most: int) -> list[AuditRecord]:
    """The newest records that are wanted, the newest first."""
    found = list[AuditRecord]()
    for line in _lines(connection, wish):
        record = AuditRecord.parse(line)
        if (not wish.event or record.event == wish.event) and wish.text.encode() in line:
            found.append(record)
            if len(found) == most:
                break
    return found


def exported(connection: Connection, wish: Wish) -> Iterator[bytes]:
    """A trail as it is stored, the oldest record first; of a long one the end, before ``wish.before``."""
    return reversed(list(_lines(connection, Wish(host=wish.host, before=wish.before))))


def _lines(connection: Connection, wish: Wish) -> Iterator[bytes]:
    table = host_audit if wish.host else audit
    query = select(table.c.record)
    if wish.host:
        query = query.where(table.c.host == wish.host)
    if wish.before:
        query = query.where(table.c.sequence < wish.before)
    query = query.order_by(table.c.sequence.desc()).limit(SEARCHED)
    for row in connection.execute(query).yield_per(500):
        yield bytes(row.record)


def verify_trail(connection: Connection) -> int:
    """Verify the whole trail; returns how many records it has.

    Raises:
        AuditBroken: it is not what was written.
    """
    rows = connection.execute(select(audit.c.record).order_by(audit.c.sequence))
    return verify_chain(bytes(row.record) for row in rows).sequence
