# SPDX-License-Identifier: Apache-2.0
"""Rollouts in the database: started, led from state to state, and let go on as their hosts stand.

What follows from hosts is decided by ``fleet.rollouts``. Nothing comes to a host before it is published.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from documents.fields import NAME
from documents.release import MAX_NUMBER
from fleet.errors import PlanWrong
from fleet.hosts import standing_of
from fleet.plans import labels_by_host, require_label
from fleet.rollouts import PAUSED, RUNNING, STATES, Member, Rollout, after, step
from fleet.states import ACTIVE
from fleet.tables import host_audit, hosts, rollouts
from fleet.trail import Trail

STAGES: Final = (1, 10, 50, 100)
THRESHOLD: Final = 5
WAIT: Final = 60
MOST_STAGES: Final = 20
_WAITS: Final = (0, 100_000)
_TROUBLE: Final = ("update-health", "update-rollback")
"""Events of a host's trail: an update was undone, by the host or by its administrator."""


def made(
    name: str, *, channel: str, number: int, label: str, stages: tuple[int, ...], threshold: int, wait: int, now: int
) -> Rollout:
    """A rollout that begins now, from what somebody wrote.

    Raises:
        PlanWrong: it is none.
    """
    require_label(label)
    if not NAME.fullmatch(name) or not NAME.fullmatch(channel):
        raise _wrong("that is no name: use a-z, 0-9, '.', '_' and '-'")
    if not 1 <= number <= MAX_NUMBER:
        raise _wrong("that is no release's number")
    rising = all(low < high for low, high in pairwise(stages))
    if not 1 <= len(stages) <= MOST_STAGES or not rising or stages[0] < 0 or stages[-1] != 100:
        raise _wrong("its stages are not per cents that rise to 100")
    if not (0 <= threshold <= 100 and _WAITS[0] <= wait <= _WAITS[1]):
        raise _wrong("its threshold is no per cent, or its wait too long")
    return Rollout(
        name=name, channel=channel, number=number, label=label, stages=stages, threshold=threshold, wait=wait,
        state=RUNNING, stage=0, since=now, why="",
    )  # fmt: skip


def start(connection: Connection, rollout: Rollout, author: str) -> None:
    """Keep a new rollout.

    Raises:
        PlanWrong: there is one of that name, or of that release.
    """
    if any(one.release == rollout.release for one in known(connection)):
        raise _wrong(f"there is a rollout of {rollout.release}")
    try:
        with connection.begin_nested():
            connection.execute(insert(rollouts).values(author=author[:120], **_values(rollout)))
    except IntegrityError as error:
        raise _wrong(f"there is a rollout {rollout.name}") from error


def known(connection: Connection) -> list[Rollout]:
    """All rollouts, the newest release first.

    Raises:
        PlanWrong: what is kept is none: then nothing is published.
    """
    rows = connection.execute(select(rollouts).order_by(rollouts.c.channel, rollouts.c.number.desc()))
    return [_read(row) for row in rows]


def find(connection: Connection, name: str) -> Rollout:
    """One.

    Raises:
        PlanWrong: there is none.
    """
    row = connection.execute(select(rollouts).where(rollouts.c.name == name).with_for_update()).one_or_none()
    if row is None:
        raise _wrong(f"there is no rollout {name[:80]!r}")
    return _read(row)


def lead(connection: Connection, name: str, event: str, why: str, now: int) -> Rollout:
    """Do to a rollout what changes its state; a stage that is resumed begins anew.

    Raises:
        PlanWrong: there is none.
        StateWrong: that cannot be done to it.
    """
    found = find(connection, name)
    values = {"state": after(found.state, event), "why": why[:300], "since": now}
    connection.execute(update(rollouts).where(rollouts.c.name == name).values(values))
    return find(connection, name)


def remove(connection: Connection, name: str) -> None:
    """Forget a rollout: hosts get what their plans allow.

    Raises:
        PlanWrong: there is none.
    """
    find(connection, name)
    connection.execute(delete(rollouts).where(rollouts.c.name == name))


def members(connection: Connection, since: int, now: int) -> list[Member]:
    """All active hosts, with whether they went back from an update since a time."""
    of = labels_by_host(connection)
    query = select(host_audit.c.host).where(host_audit.c.event.in_(_TROUBLE), host_audit.c.time >= since)
    troubled = set(connection.execute(query).scalars())
    names = ("id", "state", "status", "judged", "expires", "release", "channel")
    rows = connection.execute(select(*(hosts.c[name] for name in names)).where(hosts.c.state == ACTIVE))
    return [
        Member(
            host=row.id,
            labels=of.get(row.id, frozenset()),
            standing=standing_of(row, now),
            follows=row.channel,
            release=row.release,
            troubled=row.id in troubled,
        )
        for row in rows
    ]


def step_all(connection: Connection, trail: Trail, now: int) -> list[tuple[Rollout, Rollout]]:
    """Let each rollout go on, or pause; returns those that changed, before and after. Each change is recorded."""
    changed = []
    for before in known(connection):
        after_ = step(before, members(connection, before.since, now), now)
        if after_ != before:
            connection.execute(update(rollouts).where(rollouts.c.name == before.name).values(_values(after_)))
            outcome = "failed" if after_.state == PAUSED else "done"
            trail.write(
                connection, now, "rollout-step", outcome, subject=before.name, actor="rollout",
                release=before.release, state=after_.state, stage=str(after_.stages[after_.stage]), cause=after_.why,
            )  # fmt: skip
            changed.append((before, after_))
    return changed


def _values(rollout: Rollout) -> dict[str, Any]:
    names = ("name", "channel", "number", "label", "threshold", "wait", "state", "stage", "since", "why")
    return {**{name: getattr(rollout, name) for name in names}, "stages": " ".join(map(str, rollout.stages))}


def _read(row: Any) -> Rollout:
    stages = tuple(int(part) for part in row.stages.split() if part.isdecimal())
    if row.state not in STATES or not 0 <= row.stage < len(stages):
        raise _wrong(f"the rollout {row.name} is damaged")
    begun = made(
        row.name, channel=row.channel, number=row.number, label=row.label, stages=stages, threshold=row.threshold,
        wait=row.wait, now=row.since,
    )  # fmt: skip
    return replace(begun, state=row.state, stage=row.stage, why=row.why)


def _wrong(cause: str) -> PlanWrong:
    return PlanWrong("the rollout was refused", cause=cause, remedy="see `vmgate explain FL070`")
