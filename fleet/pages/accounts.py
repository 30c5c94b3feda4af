# SPDX-License-Identifier: Apache-2.0
"""Pages about people: log-in behind the banner, the own account, administrators, and the rules for accounts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Connection

from documents.management import FLEET_ROLES
from fleet import account_rules, admins, passwords
from fleet.account_rules import RANGES, Rules
from fleet.admins import Account
from fleet.errors import LoginRefused, PageRefused
from fleet.pages.access import NEXT
from fleet.pages.asking import Asked, Led, Page, Reply, Shown


def login(asked: Asked) -> Reply:
    """The banner, and below it the form."""
    return _login(asked, asked.query.get("next", ""), "")


def _login(asked: Asked, wanted: str, wrong: str, status: int = 200) -> Reply:
    values = {
        "here": "login",
        "banner": asked.site.logins.rules().banner,
        "next": wanted if NEXT.fullmatch(wanted) else "",
        "wrong": wrong,
        "fleet": asked.site.settings.name,
    }
    return Shown(template="login.html", values=values, status=status)


def log_in(asked: Asked) -> Reply:
    """Begin a session."""
    wanted = asked.one("next")
    try:
        session = asked.site.logins.log_in(asked.one("name"), asked.one("password"), asked.origin)
    except LoginRefused as error:
        return _login(asked, wanted, error.cause, 403)
    return Led(to=wanted if NEXT.fullmatch(wanted) else "/", session=session)


def log_out(asked: Asked) -> Reply:
    """End it."""
    asked.site.logins.log_out(asked.who, asked.origin)
    return Led(to="/login", session="")


def account(asked: Asked) -> Reply:
    """The own account."""
    return Shown(template="account.html", values={"here": "account", "length": asked.site.logins.rules().length})


def change_password(asked: Asked) -> Reply:
    """Set the own password; one logs in anew with it."""
    new = _new_password(asked)
    asked.site.logins.change_password(asked.who, asked.one("old"), new, asked.origin)
    return Led(to="/login", session="")


def _new_password(asked: Asked) -> str:
    new = asked.one("new")
    if new != asked.one("again"):
        raise PageRefused("no password was set", cause="the two are not the same", remedy="type it again")
    return new


def list_(asked: Asked) -> Reply:
    """All accounts."""

    def look(connection: Connection) -> dict[str, Any]:
        length = account_rules.read(connection).length
        return {"administrators": admins.listed(connection, asked.now), "length": length}

    values = {"here": "administrators", "roles": FLEET_ROLES, **asked.read(look)}
    return Shown(template="administrators.html", values=values)


def create(asked: Asked) -> Reply:
    """Make an account; its person sets a password of their own at the first log-in."""
    name, role, new = asked.one("name"), asked.one("role"), _new_password(asked)
    passwords.require_good(new, name or " ", asked.site.logins.rules().length)
    made = Account(id=str(uuid.uuid4()), name=name, role=role, password=asked.site.logins.kept(new), renew=True)

    def job(connection: Connection) -> tuple[None, str]:
        admins.create(connection, made, asked.now)
        return None, name

    asked.change("admin-create", job, role=role)
    return Led(to="/administrators")


def changing(event: str, job: Callable[[Connection, Asked, str], str]) -> Callable[[Asked], Reply]:
    """A page that does something to an account; the job returns what is to be recorded besides."""

    def view(asked: Asked) -> Reply:
        name = asked.path["name"]

        def both(connection: Connection) -> None:
            before = job(connection, asked, name)
            asked.site.trail.write(
                connection, asked.now, event, "done", subject=name, actor=f"{asked.who.name} at {asked.origin}",
                before=before,
            )  # fmt: skip

        asked.site.database.write(both)
        return Led(to="/administrators")

    return view


def _role(connection: Connection, asked: Asked, name: str) -> str:
    return f"{admins.set_role(connection, name, asked.one('role')).role}; now {asked.one('role')}"


def _lock(connection: Connection, asked: Asked, name: str) -> str:
    return admins.state_of(admins.lock(connection, name), asked.now)


def _unlock(connection: Connection, asked: Asked, name: str) -> str:
    return admins.state_of(admins.unlock(connection, name), asked.now)


def _remove(connection: Connection, _asked: Asked, name: str) -> str:
    return str(admins.remove(connection, name).role)


def set_password(asked: Asked) -> Reply:
    """Give somebody a password, to be changed at the first log-in."""
    name, new = asked.path["name"], _new_password(asked)
    passwords.require_good(new, name, asked.site.logins.rules().length)
    known = asked.site.logins.kept(new)

    def job(connection: Connection) -> tuple[None, str]:
        admins.set_password(connection, name, known, asked.now, renew=True)
        return None, name

    asked.change("admin-password", job, by=asked.who.name)
    return Led(to="/administrators")


def settings(asked: Asked) -> Reply:
    """Settings of the service, and the rules for accounts."""
    service = {item.name: getattr(asked.site.settings, item.name) for item in fields(asked.site.settings)}
    values = {
        "here": "settings",
        "rules": asked.site.logins.rules(),
        "ranges": {name: (allowed[0], allowed[-1]) for name, allowed in RANGES.items()},
        # An address of a database may hold a password.
        "service": service | {"database": service["database"].partition(":")[0]},
        "version": asked.site.version,
    }
    return Shown(template="settings.html", values=values)


def set_rules(asked: Asked) -> Reply:
    """Set the rules."""
    wanted = {item.name: asked.one(item.name) for item in fields(Rules) if item.name in asked.form}

    def job(connection: Connection) -> tuple[None, str]:
        before = account_rules.read(connection)
        after = before.changed(wanted)
        account_rules.write(connection, after)
        return None, " ".join(name for name in sorted(wanted) if getattr(before, name) != getattr(after, name)) or "-"

    asked.change("rules-change", job, **{name: text for name, text in wanted.items() if name != "banner"})
    return Led(to="/settings")


PAGES: Final = (
    Page(method="GET", path="/login", verb="", view=login),
    Page(method="POST", path="/login", verb="", view=log_in),
    Page(method="POST", path="/log-out", verb="log-out", view=log_out),
    Page(method="GET", path="/account", verb="account", view=account),
    Page(method="POST", path="/account", verb="account/password", view=change_password),
    Page(method="GET", path="/administrators", verb="administrators", view=list_),
    Page(method="POST", path="/administrators", verb="administrator/create", view=create),
    Page(
        method="POST", path="/administrators/{name}/role", verb="administrator/role", view=changing("admin-role", _role)
    ),
    Page(
        method="POST", path="/administrators/{name}/lock", verb="administrator/lock", view=changing("admin-lock", _lock)
    ),
    Page(
        method="POST", path="/administrators/{name}/unlock", verb="administrator/unlock",
        view=changing("admin-unlock", _unlock),
    ),
    Page(
        method="POST", path="/administrators/{name}/remove", verb="administrator/remove",
        view=changing("admin-remove", _remove),
    ),
    Page(
        method="POST", path="/administrators/{name}/password", verb="administrator/password", view=set_password
    ),
    Page(method="GET", path="/settings", verb="settings", view=settings),
    Page(method="POST", path="/settings", verb="settings/change", view=set_rules),
)  # fmt: skip
