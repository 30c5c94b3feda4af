# SPDX-License-Identifier: Apache-2.0
"""Administrators' accounts in the database: made, changed, and locked after too many failures (FIA_AFL.1).

A failure is counted before the password is looked at, and taken back when it is right: many tries at a time are not
more than one after the other. Passwords come here as ``fleet.passwords`` keeps them. Records nothing; the caller does,
in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from documents.fields import NAME
from documents.management import ADMINISTRATOR, FLEET_ROLES
from fleet.account_rules import Rules
from fleet.errors import AdminExists, AdminUnknown, LastAdministrator, RulesWrong
from fleet.tables import admins, sessions

FOREVER: Final = 2**62
"""Until an administrator unlocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A new account.

    Attributes:
        id: a UUID.
        name: of the person.
        role: one of ``FLEET_ROLES``.
        password: as it is kept.
        renew: whether the password must be changed at the first log-in.
    """

    id: str
    name: str
    role: str
    password: str
    renew: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A password that is about to be looked at.

    Attributes:
        row: of the account; None where none may be used, and then the answer is no in any case.
        why: why not; empty where it may.
        locks: whether the account is locked if this one is wrong.
    """

    row: Any
    why: str = ""
    locks: bool = False


def create(connection: Connection, account: Account, now: int) -> None:
    """Make an account.

    Raises:
        RulesWrong: the name is in no form for one, or the role is none.
        AdminExists: there is one of that name.
    """
    _require_role(account.role)
    if not NAME.fullmatch(account.name):
        raise RulesWrong("no account was made", cause="that is no name", remedy="use a-z, 0-9, '.', '_' and '-'")
    values = {
        "id": account.id, "name": account.name, "role": account.role, "password": account.password,
        "renew": account.renew, "locked": False, "failures": 0, "until": 0, "created": now, "changed": now, "last": 0,
    }  # fmt: skip
    try:
        with connection.begin_nested():
            connection.execute(insert(admins).values(values))
    except IntegrityError as error:
        raise AdminExists(
            "no account was made", cause=f"there is an account {account.name}", remedy="choose another name"
        ) from error


def find(connection: Connection, name: str) -> Any:
    """The row of an account, to change it.

    Raises:
        AdminUnknown: there is none.
    """
    row = connection.execute(select(admins).where(admins.c.name == name).with_for_update()).one_or_none()
    if row is None:
        raise AdminUnknown(
            "nothing was done", cause=f"there is no account {name[:80]!r}", remedy="see `vmgate fleet admin list`"
        )
    return row


def listed(connection: Connection, now: int) -> list[dict[str, Any]]:
    """All accounts by name, without what is kept of their passwords."""
    names = ("id", "name", "role", "renew", "created", "changed", "last")
    rows = connection.execute(select(admins).order_by(admins.c.name))
    return [{**{name: getattr(row, name) for name in names}, "state": state_of(row, now)} for row in rows]


def state_of(row: Any, now: int) -> str:
    """``active``, ``locked`` by an administrator, or ``locked out`` by failures."""
    if row.locked:
        return "locked"
    return "locked out" if now < row.until else "active"


def begin(connection: Connection, name: str, rules: Rules, now: int) -> Attempt:
    """Begin to look at a password: it is counted as a failure until it is known to be none."""
    row = connection.execute(select(admins).where(admins.c.name == name).with_for_update()).one_or_none()
    if row is None:
        return Attempt(row=None, why="there is no such account")
    if (state := state_of(row, now)) != "active":
        return Attempt(row=None, why=f"the account is {state}")
    # Once it was locked long enough it counts from the beginning.
    failures = 1 if row.until else row.failures + 1
    locks = failures >= rules.failures
    until = (now + 60 * rules.lock_minutes if rules.lock_minutes else FOREVER) if locks else 0
    change = update(admins).where(admins.c.id == row.id)
    connection.execute(change.values(failures=failures, until=until))
    return Attempt(row=row, locks=locks)


def succeed(connection: Connection, admin: str, now: int) -> None:
    """The password was right."""
    connection.execute(update(admins).where(admins.c.id == admin).values(failures=0, until=0, last=now))


def set_password(connection: Connection, name: str, password: str, now: int, *, renew: bool) -> Any:
    """Set what is kept of a password, and end the account's sessions; returns its row as it was."""
    row = find(connection, name)
    values = {"password": password, "renew": renew, "changed": now, "failures": 0, "until": 0}
    connection.execute(update(admins).where(admins.c.id == row.id).values(values))
    end_sessions(connection, row.id)
    return row


def set_role(connection: Connection, name: str, role: str) -> Any:
    """Give an account another role, and end its sessions; returns its row as it was."""
    _require_role(role)
    row = find(connection, name)
    if role != ADMINISTRATOR:
        _require_others(connection, row)
    connection.execute(update(admins).where(admins.c.id == row.id).values(role=role))
    end_sessions(connection, row.id)
    return row


def lock(connection: Connection, name: str) -> Any:
    """Lock an account until it is unlocked, and end its sessions; returns its row as it was."""
    row = find(connection, name)
    _require_others(connection, row)
    connection.execute(update(admins).where(admins.c.id == row.id).values(locked=True))
    end_sessions(connection, row.id)
    return row


def unlock(connection: Connection, name: str) -> Any:
    """Unlock an account, whoever or whatever locked it; returns its row as it was."""
    row = find(connection, name)
    connection.execute(update(admins).where(admins.c.id == row.id).values(locked=False, failures=0, until=0))
    return row


def remove(connection: Connection, name: str) -> Any:
    """Remove an account with its sessions; returns its row as it was."""
    row = find(connection, name)
    _require_others(connection, row)
    connection.execute(delete(admins).where(admins.c.id == row.id))
    return row


def end_sessions(connection: Connection, admin: str) -> None:
    """Let no session of an account count."""
    connection.execute(delete(sessions).where(sessions.c.admin == admin))


def _require_role(role: str) -> None:
    if role not in FLEET_ROLES:
        raise RulesWrong("no account was changed", cause=f"{role[:40]!r} is no role", remedy="see docs/roles.md")


def _require_others(connection: Connection, row: Any) -> None:
    """Locked rows of all of them: two who lock each other at a time must not both succeed."""
    able = select(admins.c.id).where(admins.c.role == ADMINISTRATOR, ~admins.c.locked).with_for_update()
    ids = set(connection.execute(able).scalars())
    if row.id in ids and len(ids) == 1:
        raise LastAdministrator(
            "no account was changed", cause=f"{row.name} is the last administrator", remedy="make another one first"
        )


def count(connection: Connection) -> int:
    """How many accounts there are."""
    return connection.execute(select(func.count()).select_from(admins)).scalar_one()
