# SPDX-License-Identifier: Apache-2.0
"""Pages about rollouts: how they stand, and what is decided about them. What follows is published elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection

from fleet import rolling
from fleet.errors import PageRefused
from fleet.pages.asking import Asked, Led, Page, Reply, Shown
from fleet.rollouts import TABLE, progress

_EVENTS: Final = ("pause", "resume", "withdraw")


def list_(asked: Asked) -> Reply:
    """All rollouts with how their stage stands, and a form for one."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        return [
            {
                "one": one,
                "how": progress(one, rolling.members(connection, one.since, asked.now)),
                "possible": [event for event in _EVENTS if (one.state, event) in TABLE],
            }
            for one in rolling.known(connection)
        ]

    defaults = {"stages": " ".join(map(str, rolling.STAGES)), "threshold": rolling.THRESHOLD, "wait": rolling.WAIT}
    values = {"here": "rollouts", "rollouts": asked.read(look), "defaults": defaults}
    return Shown(template="rollouts.html", values=values)


def start(asked: Asked) -> Reply:
    """Begin one."""
    numbers = {name: asked.one(name) for name in ("number", "threshold", "wait")}
    stages = asked.one("stages").replace(",", " ").split()
    if not all(text.isascii() and text.isdecimal() and len(text) < 11 for text in (*numbers.values(), *stages)):
        raise PageRefused("no rollout was begun", cause="what should be numbers are none", remedy="correct them")
    begun = rolling.made(
        asked.one("name"),
        channel=asked.one("channel"),
        label=asked.one("label").strip(),
        stages=tuple(map(int, stages)),
        now=asked.now,
        **{name: int(text) for name, text in numbers.items()},
    )

    def job(connection: Connection) -> tuple[None, str]:
        rolling.start(connection, begun, asked.who.name)
        return None, begun.name

    asked.change("rollout-start", job, release=begun.release, stages=asked.one("stages"), label=begun.label)
    return Led(to="/rollouts")


def leading(event: str) -> Callable[[Asked], Reply]:
    """A page that does to a rollout what changes its state."""

    def view(asked: Asked) -> Reply:
        name, reason = asked.path["name"], asked.one("reason")[:300]
        if event != "resume" and not reason.strip():
            raise PageRefused("nothing was changed", cause="there is no reason", remedy="say why, for the audit trail")

        def job(connection: Connection) -> tuple[None, str]:
            rolling.lead(connection, name, event, reason, asked.now)
            return None, name

        asked.change(f"rollout-{event}", job, reason=reason)
        return Led(to="/rollouts")

    return view


def remove(asked: Asked) -> Reply:
    """Forget one."""

    def job(connection: Connection) -> tuple[None, str]:
        rolling.remove(connection, asked.path["name"])
        return None, asked.path["name"]

    asked.change("rollout-remove", job)
    return Led(to="/rollouts")


PAGES: Final = (
    Page(method="GET", path="/rollouts", verb="rollouts", view=list_),
    Page(method="POST", path="/rollouts", verb="rollout/start", view=start),
    *(
        Page(method="POST", path=f"/rollouts/{{name}}/{event}", verb=f"rollout/{event}", view=leading(event))
        for event in _EVENTS
    ),
    Page(method="POST", path="/rollouts/{name}/remove", verb="rollout/remove", view=remove),
)
