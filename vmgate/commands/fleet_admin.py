# SPDX-License-Identifier: Apache-2.0
"""``vmgate fleet admin``: who may use the pages of a fleet's service, and the rules for their accounts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from documents.management import ADMINISTRATOR, FLEET_ROLES
from vmgate.errors import UsageError
from vmgate.fleet_place import desk, folder_option, libraries
from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ROLE = click.Choice(FLEET_ROLES)
_FILE = click.option(
    "--password-file", type=click.Path(path_type=Path, dir_okay=False), help="Its first line; else it is asked for."
)


@click.group("admin")
def admin() -> None:
    """Accounts for the pages: create, list, role, password, lock, unlock, remove, rules."""


@admin.command("create")
@click.argument("name")
@click.option("--role", type=_ROLE, default=ADMINISTRATOR, show_default=True)
@_FILE
@folder_option
@output_option
def create(*, name: str, role: str, password_file: Path | None, folder: Path, output: str) -> None:
    """Make an account. Its password is to be changed at the first log-in, unless somebody typed it here."""
    with desk(folder) as place:
        from fleet import account_rules, admins, passwords

        rules = place.read(account_rules.read)
        password = _password(password_file)
        passwords.require_good(password, name, rules.length)
        account = admins.Account(
            id=str(uuid.uuid4()),
            name=name,
            role=role,
            password=passwords.kept(password),
            renew=password_file is not None,
        )

        def job(connection: Connection) -> tuple[None, str]:
            admins.create(connection, account, place.now)
            return None, name

        place.change("admin-create", job, role=role)
    show(output, {"name": name, "role": role}, lambda: say(f"{name} is {role}"))


@admin.command("list")
@folder_option
@output_option
def list_(*, folder: Path, output: str) -> None:
    """List accounts."""
    with desk(folder) as place:
        from fleet import admins

        found = place.read(lambda connection: admins.listed(connection, place.now))
    rows = [[item["name"], item["role"], item["state"], _when(item["last"])] for item in found]
    show(output, {"administrators": found}, lambda: table(["NAME", "ROLE", "STATE", "LAST LOG-IN"], rows))


@admin.command("role")
@click.argument("name")
@click.argument("role", type=_ROLE)
@folder_option
@output_option
def role(*, name: str, role: str, folder: Path, output: str) -> None:
    """Give an account another role; its sessions end."""
    with libraries():
        from fleet import admins

    _change(folder, name, "admin-role", lambda connection: admins.set_role(connection, name, role), role=role)
    show(output, {"name": name, "role": role}, lambda: say(f"{name} is {role}"))


@admin.command("lock")
@click.argument("name")
@folder_option
@output_option
def lock(*, name: str, folder: Path, output: str) -> None:
    """Lock an account until it is unlocked; its sessions end."""
    with libraries():
        from fleet import admins

    _change(folder, name, "admin-lock", lambda connection: admins.lock(connection, name))
    show(output, {"name": name, "state": "locked"}, lambda: say(f"{name} is locked"))


@admin.command("unlock")
@click.argument("name")
@folder_option
@output_option
def unlock(*, name: str, folder: Path, output: str) -> None:
    """Unlock an account, whoever or whatever locked it."""
    with libraries():
        from fleet import admins

    _change(folder, name, "admin-unlock", lambda connection: admins.unlock(connection, name))
    show(output, {"name": name, "state": "active"}, lambda: say(f"{name} may log in"))


@admin.command("password")
@click.argument("name")
@_FILE
@folder_option
@output_option
def password(*, name: str, password_file: Path | None, folder: Path, output: str) -> None:
    """Set somebody's password, to be changed at the next log-in; the account's sessions end."""
    with desk(folder) as place:
        from fleet import account_rules, admins, passwords

        rules = place.read(account_rules.read)
        typed = _password(password_file)
        passwords.require_good(typed, name, rules.length)
        known = passwords.kept(typed)

        def job(connection: Connection) -> tuple[None, str]:
            admins.set_password(connection, name, known, place.now, renew=True)
            return None, name

        place.change("admin-password", job, by="command")
    show(output, {"name": name}, lambda: say(f"{name} has a new password"))


@admin.command("remove")
@click.argument("name")
@folder_option
@output_option
def remove(*, name: str, folder: Path, output: str) -> None:
    """Remove an account with its sessions; what it did stays in the audit trail."""
    with libraries():
        from fleet import admins

    _change(folder, name, "admin-remove", lambda connection: admins.remove(connection, name))
    show(output, {"name": name}, lambda: say(f"{name} is removed"))


@admin.command("rules")
@click.option("--length", metavar="NUMBER", help="Fewest characters of a password, 8 to 128.")
@click.option("--failures", metavar="NUMBER", help="Failures in a row that lock an account, 1 to 20.")
@click.option("--lock-minutes", metavar="NUMBER", help="For so long, up to 1440; 0: until somebody unlocks it.")
@click.option("--idle-minutes", metavar="NUMBER", help="End a session after so long without use, 1 to 60.")
@click.option("--session-hours", metavar="NUMBER", help="End it after so long in any case, 1 to 24.")
@click.option("--banner-file", type=click.Path(path_type=Path, dir_okay=False), help="Text before the log-in.")
@folder_option
@output_option
def rules(*, folder: Path, output: str, banner_file: Path | None, **wanted: str | None) -> None:
    """Show the rules for accounts, or set those that are named."""
    named = {name: text for name, text in wanted.items() if text is not None}
    if banner_file is not None:
        named["banner"] = _read(banner_file)
    with desk(folder) as place:
        from dataclasses import asdict

        from fleet import account_rules

        def job(connection: Connection) -> tuple[dict[str, Any], str]:
            found = account_rules.read(connection).changed(named)
            account_rules.write(connection, found)
            return asdict(found), " ".join(sorted(named))

        if named:
            told = {name: text for name, text in named.items() if name != "banner"}
            result = place.change("rules-change", job, **told)
        else:
            result = asdict(place.read(account_rules.read))
    show(output, result, lambda: table(["RULE", "VALUE"], [[name, value] for name, value in result.items()]))


def _change(folder: Path, name: str, event: str, job: Callable[[Connection], Any], **details: str) -> None:
    with desk(folder) as place:
        place.change(event, lambda connection: (job(connection), name), **details)


def _password(path: Path | None) -> str:
    if path is not None:
        return _read(path).splitlines()[0] if _read(path) else ""
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError("nothing was done", cause=f"{path} was not read: {error}", remedy="name a text") from error


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else "never"
