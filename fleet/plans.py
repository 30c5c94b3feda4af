# SPDX-License-Identifier: Apache-2.0
"""What hosts may take: plans by label, and what follows from them for each host. Pure but for reading the database.

A plan only chooses among what the offline role of a channel lists: hosts take what both allow (decision 0017). The plan
with the lowest position that fits a host counts for it; a host that none fits gets no assignment and takes nothing, as
does one that waits or was revoked. Signs nothing (``fleet.publishing`` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from documents.assignment import MAX_CHANNELS, Assignment, Range, read_allowed, told_allowed
from documents.errors import DocumentError
from documents.fields import NAME, TEXT
from fleet.errors import PlanWrong, StateWrong
from fleet.hosts import find
from fleet.rollouts import Rollout, capped
from fleet.states import ACTIVE
from fleet.tables import hosts, labels, locks, plans

DAY: Final = 86_400
DAYS: Final = (1, 3_660)
POSITIONS: Final = (0, 9_999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What hosts with a label may take.

    Attributes:
        name: of the plan.
        position: of several that fit, the lowest counts; then the first name.
        label: ``name=text`` that a host has; empty for all hosts.
        channels: what they may take, sorted by channel.
        days: for which an assignment counts from when it is made.
    """

    name: str
    position: int
    label: str
    channels: tuple[Range, ...]
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a plan is chosen by.

    Attributes:
        host: the fleet's id of a host: it is the host's name in the repository, and says nothing to its readers.
        state: of it.
        labels: ``name=text`` of each.
        locked: it is to keep what it has.
    """

    host: str
    state: str
    labels: frozenset[str]
    locked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be signed.

    Attributes:
        anew: assignments in place of those before.
        gone: hosts that are to have none.
    """

    anew: tuple[Assignment, ...]
    gone: tuple[str, ...]


def plan_of(name: str, *, position: str | int, label: str, allow: Iterable[str], days: str | int) -> Plan:
    """A plan from what somebody wrote.

    Raises:
        PlanWrong: it is none.
    """
    if not NAME.fullmatch(name):
        raise _wrong("that is no name: use a-z, 0-9, '.', '_' and '-'")
    require_label(label)
    try:
        channels = tuple(sorted(map(read_allowed, allow), key=lambda allowed: allowed.channel))
    except DocumentError as error:
        raise _wrong(error.cause) from error
    if not 1 <= len(channels) <= MAX_CHANNELS or len({c.channel for c in channels}) != len(channels):
        raise _wrong(f"it has not one to {MAX_CHANNELS} channels, each once")
    return Plan(
        name=name,
        position=_number(position, POSITIONS, "position"),
        label=label,
        channels=channels,
        days=_number(days, DAYS, "number of days"),
    )


def require_label(label: str) -> None:
    """Require that a text is a label, or empty.

    Raises:
        PlanWrong: it is not.
    """
    key, sign, text = label.partition("=")
    if label and not (sign and text and NAME.fullmatch(key) and len(text) <= 200 and TEXT.fullmatch(text)):
        raise _wrong(f"{label[:80]!r} is not NAME=TEXT")


def fitting(known: Sequence[Plan], facts: Facts) -> Plan | None:
    """The plan that counts for a host."""
    able = [plan for plan in known if not plan.label or plan.label in facts.labels]
    return min(able, key=lambda plan: (plan.position, plan.name), default=None)


def wanted(known: Sequence[Plan], facts: Facts, now: int, rollouts: Sequence[Rollout] = ()) -> Assignment | None:
    """What a host is to be assigned now, as far as rollouts let it; None for nothing."""
    plan = fitting(known, facts)
    if facts.state != ACTIVE or plan is None:
        return None
    return Assignment(
        host=facts.host,
        channels=capped(rollouts, plan.channels, facts.host, facts.labels),
        locked=facts.locked,
        expires=now + plan.days * DAY,
    )


def changes(wishes: Mapping[str, Assignment], published: Mapping[str, Assignment], now: int) -> Changes:
    """What must be signed so that hosts get what is wished. What has half of its time left is not signed anew for that.

    Args:
        wishes: by host.
        published: what the repository has, of this fleet's hosts and others.
        now: seconds since 1970 UTC.
    """
    anew = tuple(
        wish
        for host, wish in sorted(wishes.items())
        if (old := published.get(host)) is None
        or replace(old, expires=0) != replace(wish, expires=0)
        or old.expires - now < (wish.expires - now) // 2
        or old.expires > wish.expires
    )
    return Changes(anew=anew, gone=tuple(sorted(host for host in published if host not in wishes)))


def put(connection: Connection, plan: Plan, author: str, now: int) -> None:
    """Keep a plan, in place of the one of its name."""
    values = {
        "position": plan.position, "label": plan.label, "allow": " ".join(map(told_allowed, plan.channels)),
        "days": plan.days, "changed": now, "author": author[:120],
    }  # fmt: skip
    if connection.execute(update(plans).where(plans.c.name == plan.name).values(values)).rowcount == 0:
        connection.execute(insert(plans).values(name=plan.name, **values))


def drop(connection: Connection, name: str) -> None:
    """Forget a plan.

    Raises:
        PlanWrong: there is none of that name.
    """
    if connection.execute(delete(plans).where(plans.c.name == name)).rowcount != 1:
        raise _wrong(f"there is no plan {name[:80]!r}")


def known(connection: Connection) -> list[Plan]:
    """All plans, in the order in which they are tried.

    Raises:
        PlanWrong: what is kept is none: then nobody is assigned anything.
    """
    rows = connection.execute(select(plans).order_by(plans.c.position, plans.c.name))
    return [
        plan_of(row.name, position=row.position, label=row.label, allow=row.allow.split(), days=row.days)
        for row in rows
    ]


def facts(connection: Connection, host: str = "") -> list[Facts]:
    """What is known of all hosts, or of one."""
    of = labels_by_host(connection, host)
    locked = set(connection.execute(select(locks.c.host)).scalars())
    query = select(hosts.c.id, hosts.c.state)
    rows = connection.execute(query.where(hosts.c.id == host) if host else query)
    return [
        Facts(host=row.id, state=row.state, labels=of.get(row.id, frozenset()), locked=row.id in locked) for row in rows
    ]


def labels_by_host(connection: Connection, host: str = "") -> dict[str, frozenset[str]]:
    """``name=text`` of each label of all hosts, or of one."""
    of: dict[str, set[str]] = {}
    for row in connection.execute(select(labels).where(labels.c.host == host) if host else select(labels)):
        of.setdefault(row.host, set()).add(f"{row.name}={row.text}")
    return {name: frozenset(texts) for name, texts in of.items()}


def affected(connection: Connection) -> tuple[list[tuple[Plan, int]], int]:
    """All plans with how many active hosts each counts for, and how many active hosts none does."""
    all_plans, counts, without = known(connection), dict[str, int](), 0
    for one in facts(connection):
        if one.state == ACTIVE:
            plan = fitting(all_plans, one)
            if plan is None:
                without += 1
            else:
                counts[plan.name] = counts.get(plan.name, 0) + 1
    return [(plan, counts.get(plan.name, 0)) for plan in all_plans], without


def lock(connection: Connection, named: str, reason: str, author: str, now: int) -> Any:
    """Let a host keep what it has, from when that is published; returns its row.

    Raises:
        StateWrong: it is locked.
    """
    row = find(connection, named)
    if lock_of(connection, row.id) is not None:
        raise StateWrong("the host was not changed: lock", cause="it is locked", remedy="unlock it first")
    connection.execute(insert(locks).values(host=row.id, time=now, reason=reason[:300], author=author[:120]))
    return row


def unlock(connection: Connection, named: str) -> Any:
    """Let a host go on; returns its row.

    Raises:
        StateWrong: it is not locked.
    """
    row = find(connection, named)
    if connection.execute(delete(locks).where(locks.c.host == row.id)).rowcount == 0:
        raise StateWrong("the host was not changed: unlock", cause="it is not locked", remedy="lock it first")
    return row


def lock_of(connection: Connection, host: str) -> Any:
    """The lock of a host; None where it has none."""
    return connection.execute(select(locks).where(locks.c.host == host)).one_or_none()


def _number(given: str | int, bounds: tuple[int, int], what: str) -> int:
    text = str(given)
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and bounds[0] <= int(text) <= bounds[1]):
        raise _wrong(f"the {what} is not between {bounds[0]} and {bounds[1]}")
    return int(text)


def _wrong(cause: str) -> PlanWrong:
    return PlanWrong("nothing was assigned", cause=cause, remedy="see `vmgate explain FL070`")
