# SPDX-License-Identifier: Apache-2.0
"""Who is at the pages: log-in, sessions that end by themselves, and the password asked for again.

What the browser shows is 32 random bytes, of which the database has the SHA-256. A session ends after some minutes
without a page that a person asked for, after some hours in any case, and with every change of its account by others.
All that is tried is recorded with its origin; what nobody can count, such as names that are none, sparingly. Knows no
HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from fleet import account_rules, admins, passwords
from fleet.account_rules import Rules
from fleet.database import Database
from fleet.errors import Busy, LoginRefused
from fleet.tables import admins as accounts
from fleet.tables import sessions
from fleet.trail import Sparing, Trail

AT_A_TIME: Final = 2
"""Passwords that one process looks at; each takes a tenth of a second of a core."""

WAIT_SECONDS: Final = 5.0
TOUCH_SECONDS: Final = 10
"""A session's last use is written down when the one before is so old; so much earlier it may end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who is logged in.

    Attributes:
        id, name, role: of the account.
        renew: the password must be changed before anything else.
        session: digest of the session.
        form: what every form of this session holds.
    """

    id: str
    name: str
    role: str
    renew: bool
    session: str
    form: str


class Logins:
    """One process's.

    Args:
        database: of the fleet.
        secret: of all processes of it.
        trail: for records.
        clock: gives seconds since 1970 UTC.
    """

    def __init__(self, database: Database, secret: bytes, trail: Trail, clock: Callable[[], int]) -> None:
        self._database = database
        self._key = hashlib.sha256(b"vmgate forms\0" + secret).digest()
        self._trail = trail
        self._clock = clock
        self._sparing = Sparing()
        self._hashing = threading.BoundedSemaphore(AT_A_TIME)
        # Made before the first one asks, who would wait twice as long.
        passwords.nobodys()

    def rules(self) -> Rules:
        """The rules as they are now."""
        with self._database.read() as connection:
            return account_rules.read(connection)

    def log_in(self, name: str, password: str, origin: str) -> str:
        """Begin a session; returns what the browser shows.

        Raises:
            LoginRefused: name or password is wrong, or the account is locked.
            Busy: too many try at a time.
        """
        row = self._verified("admin-log-in", name, password, origin)
        token = secrets.token_urlsafe(32)

        def job(connection: Connection) -> None:
            rules, now = account_rules.read(connection), self._clock()
            admins.succeed(connection, row.id, now)
            oldest = now - 3_600 * rules.session_hours
            gone = (sessions.c.created <= oldest) | (sessions.c.seen <= now - 60 * rules.idle_minutes)
            connection.execute(delete(sessions).where(gone))
            values = {"digest": _digest(token), "admin": row.id, "created": now, "seen": now, "origin": origin[:64]}
            connection.execute(insert(sessions).values(values))
            self._write(connection, "admin-log-in", "done", row.name, origin, role=row.role)

        self._database.write(job)
        return token

    def prove(self, person: Person, password: str, origin: str) -> None:
        """Require that it is still the person who logged in: who changes trust is asked for the password each time.

        Raises:
            LoginRefused: it is not; too many of these end the session.
            Busy: too many try at a time.
        """
        row = self._verified("admin-proof", person.name, password, origin)
        self._database.write(lambda connection: admins.succeed(connection, row.id, row.last))

    def who(self, token: str, *, active: bool) -> Person | None:
        """Whose session that is; None where it is none that counts.

        Args:
            token: what the browser showed.
            active: a person asked for this, and not a page by itself.
        """
        if not 20 <= len(token) <= 100:
            return None
        digest, now = _digest(token), self._clock()
        with self._database.read() as connection:
            rules = account_rules.read(connection)
            query = select(sessions, accounts.c.name, accounts.c.role, accounts.c.renew, accounts.c.locked)
            row = connection.execute(
                query.join(accounts, accounts.c.id == sessions.c.admin).where(sessions.c.digest == digest)
            ).one_or_none()
        if row is None or row.locked:
            return None
        if why := _ended(row, rules, now):
            self._database.write(lambda connection: self._end(connection, row, why))
            return None
        if active and now - row.seen >= TOUCH_SECONDS:
            self._database.write(
                lambda connection: connection.execute(
                    update(sessions).where(sessions.c.digest == digest).values(seen=now)
                )
            )
        form = hmac.digest(self._key, token.encode(), "sha256").hex()
        return Person(id=row.admin, name=row.name, role=row.role, renew=row.renew, session=digest, form=form)

    def log_out(self, person: Person, origin: str) -> None:
        """End a session."""

        def job(connection: Connection) -> None:
            connection.execute(delete(sessions).where(sessions.c.digest == person.session))
            self._write(connection, "admin-log-out", "done", person.name, origin)

        self._database.write(job)

    def change_password(self, person: Person, old: str, new: str, origin: str) -> None:
        """Let somebody set the own password; all sessions of the account end.

        Raises:
            LoginRefused: the old one is wrong.
            PasswordWeak: the new one may not be set, or is the old one.
        """
        self.prove(person, old, origin)
        passwords.require_good(new, person.name, self.rules().length)
        if new == old:
            raise passwords.weak("it is the old one")
        known = self.kept(new)

        def job(connection: Connection) -> None:
            admins.set_password(connection, person.name, known, self._clock(), renew=False)
            self._write(connection, "admin-password", "done", person.name, origin, by=person.name)

        self._database.write(job)

    def kept(self, password: str) -> str:
        """What is kept of a password."""
        with self._turn():
            return passwords.kept(password)

    def _verified(self, event: str, name: str, password: str, origin: str) -> Any:
        rules = self.rules()
        attempt = self._database.write(lambda connection: admins.begin(connection, name, rules, self._clock()))
        with self._turn():
            right = passwords.is_right(password, attempt.row.password if attempt.row else passwords.nobodys())
        if right and attempt.row:
            return attempt.row
        self._failed(event, name, origin, attempt)
        raise LoginRefused(
            "you were not let in", cause="name or password is wrong, or the account is locked", remedy="try again later"
        )

    def _failed(self, event: str, name: str, origin: str, attempt: admins.Attempt) -> None:
        why = attempt.why or "the password is wrong"
        # Wrong passwords of an account are few, since it is locked; the rest is as much as somebody likes.
        left_out = 0 if attempt.row else self._sparing.take(event, self._clock())
        if left_out is None:
            return

        def job(connection: Connection) -> None:
            self._write(connection, event, "refused", name, origin, cause=why, left_out=str(left_out))
            if attempt.locks:
                self._write(connection, "admin-lockout", "done", name, origin)
                if event == "admin-proof":
                    admins.end_sessions(connection, attempt.row.id)

        self._database.write(job)

    def _end(self, connection: Connection, row: Any, why: str) -> None:
        if connection.execute(delete(sessions).where(sessions.c.digest == row.digest)).rowcount:
            self._write(connection, "admin-session-end", "done", row.name, row.origin, cause=why)

    def _write(self, connection: Connection, event: str, outcome: str, name: str, origin: str, **details: str) -> None:
        self._trail.write(
            connection, self._clock(), event, outcome, subject=name or "nobody", actor=f"{name} at {origin}", **details
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._hashing.acquire(timeout=WAIT_SECONDS):
            raise Busy("you were not let in", cause="many try to log in", remedy="try again")
        try:
            yield
        finally:
            self._hashing.release()


def _ended(row: Any, rules: Rules, now: int) -> str:
    """Why a session counts no more; empty where it does. A clock that went back ends it too."""
    if not row.seen <= now < row.seen + 60 * rules.idle_minutes:
        return "idle"
    return "" if row.created <= now < row.created + 3_600 * rules.session_hours else "hours"


def _digest(token: str) -> str:
    return hashlib.sha256(b"vmgate session\0" + token.encode("utf-8", "surrogatepass")).hexdigest()
