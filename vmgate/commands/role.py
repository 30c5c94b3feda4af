# SPDX-License-Identifier: Apache-2.0
"""``vmgate role``: who may do what on this host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent import role_matrix
from documents.management import ROLES
from vmgate.commands.host import ask, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show, table


@click.group("role")
def command() -> None:
    """Who may do what on this host."""


@command.command("list")
@root_option
@output_option
def list_(root: Path, output: str) -> None:
    """List who has which role; root is administrator and is not listed."""
    result: dict[str, Any] = ask(root, "role/list")
    rows = [[grant["role"], grant["kind"], grant["name"], " ".join(grant["vms"]) or "-"] for grant in result["grants"]]
    show(output, result, lambda: table(["ROLE", "TO", "NAME", "VMS"], rows))


@command.command("grant")
@click.argument("role", type=click.Choice(list(ROLES)))
@click.option("--user", metavar="NAME", help="To a user of this host.")
@click.option("--group", metavar="NAME", help="To a group of this host.")
@click.option(
    "--vm", "vms", metavar="NAME", multiple=True, help="A VM, for the role user; again for more, '*' for all."
)
@root_option
@output_option
def grant(*, role: str, user: str | None, group: str | None, vms: tuple[str, ...], root: Path, output: str) -> None:
    """Grant a role, from the next request on. Somebody else than root authenticates anew for it."""
    kind, name = _account(user, group)
    result = ask(root, "role/grant", role=role, kind=kind, account=name, vms=" ".join(vms))
    show(output, result, lambda: say(f"{kind} {name} has the role {role}" + (f" for {', '.join(vms)}" if vms else "")))


@command.command("revoke")
@click.argument("role", type=click.Choice(list(ROLES)))
@click.option("--user", metavar="NAME", help="From a user.")
@click.option("--group", metavar="NAME", help="From a group.")
@root_option
@output_option
def revoke(*, role: str, user: str | None, group: str | None, root: Path, output: str) -> None:
    """Take a role back, with all its VMs, from the next request on; comments in roles.toml are lost.

    Somebody else than root authenticates anew for it.
    """
    kind, name = _account(user, group)
    result = ask(root, "role/revoke", role=role, kind=kind, account=name)
    show(output, result, lambda: say(f"{kind} {name} has no longer the role {role}"))


def _account(user: str | None, group: str | None) -> tuple[str, str]:
    if (user is None) == (group is None):
        raise UsageError("no role was changed", cause="it takes one of --user and --group", remedy="name one")
    return ("user", user) if user is not None else ("group", group or "")


@command.command("matrix")
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml", "markdown"]), default="table")
def matrix(output: str) -> None:
    """Show which role has which management function: the table by which the agent decides."""
    if output == "markdown":
        click.echo(role_matrix.markdown(), nl=False)
        return
    rows = role_matrix.rows()
    show(output, role_matrix.members(), lambda: table([heading.upper() for heading in role_matrix.HEADINGS], rows))
