# SPDX-License-Identifier: Apache-2.0
"""Pages about hosts: how all stand, lists of them, one with its verdicts and checks, and what is decided about them.

What a host is and how it stands is ``fleet.hosts`` and ``fleet.states``; nothing is decided here but what is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import Connection, select

from documents.assignment import told_allowed
from documents.errors import VmgateError
from documents.fields import NAME, TEXT
from fleet import plans, rolling
from fleet.attestations import found_by
from fleet.errors import HostUnknown, PageRefused
from fleet.hosts import (
    Filter,
    counted,
    find,
    history,
    labels_of,
    lead,
    listed,
    releases_run,
    remove,
    set_labels,
    told,
)
from fleet.intake import alarms_of
from fleet.pages.asking import Asked, Led, Page, Reply, Shown
from fleet.publishing import published
from fleet.rollouts import PAUSED, RUNNING, progress
from fleet.states import FAILED, STANDINGS, TABLE
from fleet.tables import verdicts

PAGE: Final = 100
"""Hosts of one page."""

FEW: Final = 10
_EVENTS: Final = ("approve", "revoke", "readmit")
_ORDER: Final = {"fail": 0, "warn": 1}


def overview(asked: Asked) -> Reply:
    """How many stand how, what they run, and what asks for somebody."""

    def look(connection: Connection) -> dict[str, Any]:
        counts = counted(connection, asked.now)
        return {
            "counts": counts,
            "total": sum(counts.values()),
            "releases": releases_run(connection),
            "failed": listed(connection, Filter(standing=FAILED, most=FEW), asked.now),
            "alarms": alarms_of(connection, most=FEW),
            "rollouts": [
                (one, progress(one, rolling.members(connection, one.since, asked.now)))
                for one in rolling.known(connection)
                if one.state in (RUNNING, PAUSED)
            ],
        }

    values = asked.read(look)
    widths = shares([values["counts"][name] for name in STANDINGS])
    bar = list(zip(STANDINGS, widths, strict=True))
    live = asked.query.get("live") != "off"
    shown = {"here": "overview", "bar": bar, "live": live, "now": asked.now, "fleet": asked.site.settings.name}
    return Shown(template="overview.html", values={**values, **shown})


def shares(counts: list[int], whole: int = 1_000) -> list[tuple[int, int]]:
    """Where in a bar each part begins and how long it is; a part that is not empty is to be seen."""
    total, at, found = sum(counts), 0, []
    for count in counts:
        width = max(4, whole * count // total) if count else 0
        found.append((at, width))
        at += width
    return found


def list_(asked: Asked) -> Reply:
    """Hosts, filtered."""
    query = asked.query
    standing = query.get("standing", "")
    wanted = Filter(
        standing=standing if standing in STANDINGS else "",
        label=query.get("label", "")[:280],
        text=query.get("text", "")[:63],
        after=query.get("after", "")[:63],
        most=PAGE + 1,
    )
    found = asked.read(lambda connection: listed(connection, wanted, asked.now))
    more = ""
    if len(found) > PAGE:
        found = found[:PAGE]
        kept = {"standing": wanted.standing, "label": wanted.label, "text": wanted.text}
        more = "/hosts?" + urlencode({**kept, "after": found[-1]["name"]})
    values = {"here": "hosts", "hosts": found, "wanted": wanted, "standings": STANDINGS, "more": more}
    return Shown(template="hosts.html", values=values)


def one(asked: Asked) -> Reply:
    """A host, its verdicts, and what the newest one found."""

    def look(connection: Connection) -> dict[str, Any]:
        row = find(connection, asked.path["host"])
        past = history(connection, row.id, 50)
        return {
            "host": told(row, asked.now),
            "labels": labels_of(connection, row.id),
            "verdicts": past,
            "findings": _sorted(found_by(connection, past[0]["findings"])) if past else [],
            "alarms": alarms_of(connection, row.id, FEW),
            "plan": plans.fitting(plans.known(connection), plans.facts(connection, row.id)[0]),
            "lock": plans.lock_of(connection, row.id),
            "published": _published(connection, row.id),
            "possible": [event for event in _EVENTS if (row.state, event) in TABLE],
        }

    return Shown(template="host.html", values={"here": "hosts", **asked.read(look)})


def _published(connection: Connection, host: str) -> dict[str, Any] | None:
    found = published(connection, host)
    if found is None:
        return None
    assignment, time = found
    allow = " ".join(map(told_allowed, assignment.channels))
    return {"allow": allow, "locked": assignment.locked, "expires": assignment.expires, "time": time}


def verdict(asked: Asked) -> Reply:
    """One verdict of a host, check by check."""

    def look(connection: Connection) -> dict[str, Any]:
        row, number = find(connection, asked.path["host"]), asked.path["number"]
        query = select(verdicts).where(verdicts.c.host == row.id)
        wanted = int(number) if number.isascii() and number.isdecimal() and len(number) < 18 else 0
        found = connection.execute(query.where(verdicts.c.number == wanted)).one_or_none()
        if found is None:
            raise HostUnknown("nothing was shown", cause="the host has no such verdict", remedy="see the host's page")
        return {
            "host": told(row, asked.now),
            "verdict": {name: getattr(found, name) for name in ("time", "expires", "status", "level", "release")},
            "findings": _sorted(found_by(connection, found.findings)),
        }

    return Shown(template="verdict.html", values={"here": "hosts", **asked.read(look)})


def _sorted(findings: list[Any]) -> list[Any]:
    """What failed comes first."""
    return sorted(findings, key=lambda finding: _ORDER.get(finding["outcome"], 2))


def leading(event: str) -> Callable[[Asked], Reply]:
    """A page that does to a host what changes its state."""

    def view(asked: Asked) -> Reply:
        host = asked.path["host"]
        _lead(asked, host, event)
        return Led(to=f"/hosts/{host}")

    return view


def _lead(asked: Asked, host: str, event: str) -> None:
    def job(connection: Connection) -> tuple[None, str]:
        return None, lead(connection, host, event).name

    reason = asked.one("reason")[:300]
    if event == "revoke" and not reason.strip():
        raise PageRefused("no host was revoked", cause="there is no reason", remedy="say why, for the audit trail")
    asked.change(f"host-{event}", job, **({"reason": reason} if event == "revoke" else {}))


def label(asked: Asked) -> Reply:
    """Give a host a label; one without a text goes."""
    host = asked.path["host"]
    _label(asked, host)
    return Led(to=f"/hosts/{host}")


def _label(asked: Asked, host: str) -> None:
    name, text = asked.one("name").strip(), asked.one("text").strip()
    if not NAME.fullmatch(name) or len(text) > 200 or not TEXT.fullmatch(text):
        raise PageRefused("no label was set", cause="that is no label", remedy="use a name of a-z, 0-9, '.', '_', '-'")

    def job(connection: Connection) -> tuple[None, str]:
        return None, set_labels(connection, host, [(name, text)]).name

    asked.change("host-label", job, labels=f"{name}={text}")


def many(asked: Asked) -> Reply:
    """Do one thing to several hosts, each by itself: those that it cannot be done to are told."""
    event, chosen = asked.one("event"), asked.form.get("host", ())[:PAGE]
    if event not in (*_EVENTS, "label") or not chosen:
        raise PageRefused("nothing was done", cause="no host or nothing to do was chosen", remedy="choose both")
    done, refused = [], []
    for host in chosen:
        try:
            if event == "label":
                _label(asked, host)
            else:
                _lead(asked, host, event)
            done.append(host)
        except VmgateError as error:
            refused.append((host, error.cause))
    names = asked.read(lambda connection: {host: _name(connection, host) for host in chosen})
    values = {
        "here": "hosts",
        "event": event,
        "done": [names[host] for host in done],
        "refused": [(names[host], cause) for host, cause in refused],
    }
    return Shown(template="many.html", values=values)


def _name(connection: Connection, host: str) -> str:
    try:
        return str(find(connection, host).name)
    except HostUnknown:
        return host[:63]


def forget(asked: Asked) -> Reply:
    """Forget a host."""

    def job(connection: Connection) -> tuple[None, str]:
        return None, remove(connection, asked.path["host"]).name

    asked.change("host-remove", job)
    return Led(to="/hosts")


PAGES: Final = (
    Page(method="GET", path="/", verb="overview", view=overview),
    Page(method="GET", path="/hosts", verb="hosts", view=list_),
    Page(method="POST", path="/hosts/many", verb="hosts/many", view=many),
    Page(method="GET", path="/hosts/{host}", verb="host", view=one),
    Page(method="GET", path="/hosts/{host}/verdicts/{number}", verb="verdict", view=verdict),
    *(
        Page(method="POST", path=f"/hosts/{{host}}/{event}", verb=f"host/{event}", view=leading(event))
        for event in _EVENTS
    ),
    Page(method="POST", path="/hosts/{host}/label", verb="host/label", view=label),
    Page(method="POST", path="/hosts/{host}/remove", verb="host/remove", view=forget),
)
