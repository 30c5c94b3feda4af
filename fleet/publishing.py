# SPDX-License-Identifier: Apache-2.0
"""Publish what hosts may take: what follows from the plans is compared with the repository, and the difference signed.

Run where the online keys of assignments, snapshot and timestamp are, which is not the service: it holds none. What the
repository has counts, whatever the database says was published; a run that was cut off is made good by the next one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select

from documents.assignment import Assignment
from fleet import plans, rolling
from fleet.database import Database
from fleet.errors import PlanWrong
from fleet.tables import assigned, hosts
from fleet.trail import Trail
from keys.unlock import Secret
from updater.repository.assignments import all_assignments, assign
from updater.repository.chain import load_chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What came of it.

    Attributes:
        anew: hosts whose assignment was signed.
        gone: hosts whose assignment was taken away.
        bins: that were signed.
        hosts: that have an assignment now.
        rollouts: that went on, paused or ended.
    """

    anew: int
    gone: int
    bins: int
    hosts: int
    rollouts: int = 0


def publish(
    database: Database, repository: Path, keys: Path, secret: Secret, now: int, *, take_over: bool = False
) -> Published:
    """Let the repository say what the plans say.

    Args:
        database: of the fleet.
        repository: its folder. All its assignments are this fleet's.
        keys: with the key files of assignments, snapshot and timestamp.
        secret: opens them.
        now: seconds since 1970 UTC.
        take_over: assignments of hosts that the fleet does not know go, instead of nothing being done.

    Raises:
        PlanWrong: a plan is none, or the repository assigns hosts that the fleet does not know; nothing was signed.
        VmgateError: see ``updater.repository.assignments.assign``.
    """
    # First: what is published is what follows from how hosts stand now.
    trail = Trail(str(uuid.uuid4()))
    stepped = database.write(lambda connection: rolling.step_all(connection, trail, now))
    with database.read() as connection:
        known, rollouts = plans.known(connection), rolling.known(connection)
        every = plans.facts(connection)
    made = [plans.wanted(known, facts, now, rollouts) for facts in every]
    wishes = {wish.host: wish for wish in made if wish is not None}
    before = {one.host: one for one in all_assignments(repository, load_chain(repository))}
    strangers = set(before) - {facts.host for facts in every}
    if strangers and not take_over:
        raise PlanWrong(
            "nothing was published",
            cause=f"the repository assigns {len(strangers)} hosts that the fleet does not know, as {min(strangers)}",
            remedy="let go of them with --take-over, if no host follows these",
        )
    changes = plans.changes(wishes, before, now)
    bins = 0
    if changes.anew or changes.gone:
        bins = assign(repository, keys, secret, changes.anew, now=now, without=changes.gone)
    after = {host: one for host, one in before.items() if host not in changes.gone}
    after |= {one.host: one for one in changes.anew}
    database.write(lambda connection: _remember(connection, after, now))
    return Published(anew=len(changes.anew), gone=len(changes.gone), bins=bins, hosts=len(after), rollouts=len(stepped))


def published(connection: Connection, host: str) -> tuple[Assignment, int] | None:
    """What was last published for a host, and when it was first seen to be."""
    row = connection.execute(select(assigned).where(assigned.c.host == host)).one_or_none()
    return None if row is None else (Assignment.parse(row.body), row.time)


def _remember(connection: Connection, after: dict[str, Assignment], now: int) -> None:
    had = {row.host: bytes(row.body) for row in connection.execute(select(assigned))}
    for host, body in had.items():
        if host not in after or after[host].encode() != body:
            connection.execute(delete(assigned).where(assigned.c.host == host))
    # Whoever was removed meanwhile is left out.
    there = set(connection.execute(select(hosts.c.id)).scalars())
    new = [
        {"host": host, "body": one.encode(), "time": now}
        for host, one in after.items()
        if host in there and had.get(host) != one.encode()
    ]
    if new:
        connection.execute(insert(assigned), new)
