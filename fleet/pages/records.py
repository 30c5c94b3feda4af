# SPDX-License-Identifier: Apache-2.0
"""Pages about tokens, releases and audit trails."""

from __future__ import annotations

import secrets
from typing import Any, Final

from sqlalchemy import Connection

from documents.fields import NAME
from fleet import references, tokens
from fleet.errors import HostUnknown, PageRefused
from fleet.hosts import find
from fleet.intake import alarms_of
from fleet.pages.asking import Asked, Led, Page, Reply, Sent, Shown
from fleet.tokens import HOURS, Wanted
from fleet.trail import Wish, chosen, exported, verify_trail

PAGE: Final = 100
"""Records of one page."""


def list_tokens(asked: Asked) -> Reply:
    """All enrolment tokens, and a form for one."""
    return _tokens(asked, "")


def _tokens(asked: Asked, token: str) -> Reply:
    found = asked.read(lambda connection: tokens.listed(connection, asked.now))
    return Shown(template="tokens.html", values={"here": "tokens", "tokens": found, "token": token, "hours": HOURS})


def make_token(asked: Asked) -> Reply:
    """Make one; this page shows it, and no other ever will."""
    name, hours = asked.one("name"), asked.one("hours")
    if name and not NAME.fullmatch(name):
        raise PageRefused("no token was made", cause="that is no name", remedy="use a-z, 0-9, '.', '_' and '-'")
    if not (hours.isascii() and hours.isdecimal() and len(hours) < 6 and HOURS[0] <= int(hours) <= HOURS[1]):
        raise PageRefused("no token was made", cause="that is no number of hours", remedy=f"use 1 to {HOURS[1]}")
    wanted = Wanted(
        token=secrets.token_hex(32),
        expires=asked.now + int(hours) * 3_600,
        name=name,
        channel=asked.site.settings.channel,
        creator=asked.who.name,
    )

    def job(connection: Connection) -> tuple[None, str]:
        tokens.create(connection, wanted, asked.now)
        return None, name or "any host"

    asked.change("token-create", job)
    return _tokens(asked, wanted.token)


def withdraw_token(asked: Asked) -> Reply:
    """Let one count no more."""

    def job(connection: Connection) -> tuple[None, str]:
        return None, tokens.withdraw(connection, asked.path["token"])[:16]

    asked.change("token-withdraw", job)
    return Led(to="/tokens")


def list_releases(asked: Asked) -> Reply:
    """What hosts are compared with."""
    values = {"here": "releases", "releases": asked.read(references.listed), "now": asked.now}
    return Shown(template="releases.html", values=values)


def audit(asked: Asked) -> Reply:
    """The fleet's own trail, or a host's, the newest first."""
    wish = _wish(asked)

    def look(connection: Connection) -> dict[str, Any]:
        found = chosen(connection, wish, PAGE + 1)
        return {
            "records": found[:PAGE],
            "more": len(found) > PAGE,
            "alarms": alarms_of(connection, most=20),
            "count": verify_trail(connection) if "verify" in asked.query else 0,
        }

    values = {"here": "audit", "wish": wish, "host": asked.query.get("host", "")[:63], **asked.read(look)}
    return Shown(template="audit.html", values=values)


def export(asked: Asked) -> Reply:
    """The same as lines of JSON, as it is stored, so that whoever has it can verify the chain."""
    wish, lines = _wish(asked), list[bytes]()

    def job(connection: Connection) -> tuple[None, str]:
        lines.extend(exported(connection, wish))
        return None, asked.query.get("host", "")[:63] or "fleet"

    asked.change("audit-export", job)
    return Sent(body=b"".join(line + b"\n" for line in lines), media="application/jsonl", name="audit.jsonl")


def _wish(asked: Asked) -> Wish:
    query = asked.query
    before, host = query.get("before", ""), query.get("host", "")
    if host:
        try:
            host = asked.read(lambda connection: str(find(connection, host).id))
        except HostUnknown:
            host = "-"
    return Wish(
        host=host,
        event=query.get("event", "")[:120],
        text=query.get("text", "")[:120],
        before=int(before) if before.isascii() and before.isdecimal() and len(before) < 18 else 0,
    )


PAGES: Final = (
    Page(method="GET", path="/tokens", verb="tokens", view=list_tokens),
    Page(method="POST", path="/tokens", verb="token/create", view=make_token),
    Page(method="POST", path="/tokens/{token}/withdraw", verb="token/withdraw", view=withdraw_token),
    Page(method="GET", path="/releases", verb="releases", view=list_releases),
    Page(method="GET", path="/audit", verb="audit", view=audit),
    Page(method="GET", path="/audit/export", verb="audit/export", view=export),
)
