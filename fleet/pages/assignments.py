# SPDX-License-Identifier: Apache-2.0
"""Pages about what hosts may take. Nothing is signed here: the service holds no key for it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from documents.assignment import told_allowed
from fleet import plans
from fleet.errors import PageRefused
from fleet.pages.asking import Asked, Led, Page, Reply, Shown


def list_(asked: Asked) -> Reply:
    """All plans with how many hosts each counts for, and a form for one."""
    found, without = asked.read(plans.affected)
    shown = [(plan, " ".join(map(told_allowed, plan.channels)), count) for plan, count in found]
    values = {"here": "assignments", "plans": shown, "without": without, "days": plans.DAYS}
    return Shown(template="assignments.html", values={**values, "positions": plans.POSITIONS})


def put(asked: Asked) -> Reply:
    """Keep a plan."""
    plan = plans.plan_of(
        asked.one("name"),
        position=asked.one("position"),
        label=asked.one("label").strip(),
        allow=asked.one("allow").split(),
        days=asked.one("days"),
    )

    def job(connection: Connection) -> tuple[None, str]:
        plans.put(connection, plan, asked.who.name, asked.now)
        return None, plan.name

    asked.change("assignment-set", job, allow=asked.one("allow"), label=plan.label, position=str(plan.position))
    return Led(to="/assignments")


def remove(asked: Asked) -> Reply:
    """Forget one."""

    def job(connection: Connection) -> tuple[None, str]:
        plans.drop(connection, asked.path["name"])
        return None, asked.path["name"]

    asked.change("assignment-remove", job)
    return Led(to="/assignments")


def lock(asked: Asked) -> Reply:
    """Let a host keep what it has."""
    host, reason = asked.path["host"], asked.one("reason")[:300]
    if not reason.strip():
        raise PageRefused("no host was locked", cause="there is no reason", remedy="say why, for the audit trail")

    def job(connection: Connection) -> tuple[None, str]:
        return None, plans.lock(connection, host, reason, asked.who.name, asked.now).name

    asked.change("host-lock", job, reason=reason)
    return Led(to=f"/hosts/{host}")


def unlock(asked: Asked) -> Reply:
    """Let it go on."""
    host = asked.path["host"]

    def job(connection: Connection) -> tuple[None, str]:
        return None, plans.unlock(connection, host).name

    asked.change("host-unlock", job)
    return Led(to=f"/hosts/{host}")


PAGES: Final = (
    Page(method="GET", path="/assignments", verb="assignments", view=list_),
    Page(method="POST", path="/assignments", verb="assignment/set", view=put),
    Page(method="POST", path="/assignments/{name}/remove", verb="assignment/remove", view=remove),
    Page(method="POST", path="/hosts/{host}/lock", verb="host/lock", view=lock),
    Page(method="POST", path="/hosts/{host}/unlock", verb="host/unlock", view=unlock),
)
