# SPDX-License-Identifier: Apache-2.0
"""``vmgate host``: this host in its fleet: enrol it, show it to the fleet now, see what the fleet thinks of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show

CA_LIMIT = 100_000


@click.group("host")
def command() -> None:
    """This host in its fleet."""


@command.command("enroll")
@click.argument("url")
@click.option("--token", help="From an administrator of the fleet.")
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False), help="A file with it, which ps does not show."
)
@click.option("--ca", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Whom to believe, in PEM.")
@click.option("--name", default="", help="What this host would like to be called.")
@root_option
@output_option
def enroll(
    *, url: str, token: str | None, token_file: Path | None, ca: Path, name: str, root: Path, output: str
) -> None:
    """Join a fleet, or join it again with new keys: the TPM shows who this host is."""
    from content.durable import read_file

    if (token is None) == (token_file is None):
        raise UsageError("nothing was enrolled", cause="there is not one token", remedy="give --token or --token-file")
    if token_file is not None:
        token = read_file(token_file, 200).decode("ascii", "replace").strip()
    text = read_file(ca, CA_LIMIT).decode("ascii", "replace")
    result = ask(root, "fleet/enroll", url=url, token=token or "", ca=text, name=name)
    show(output, result, lambda: say(_told(result)))


@command.command("sync")
@root_option
@output_option
def sync(*, root: Path, output: str) -> None:
    """Attest to the fleet now, and bring it the audit records that it does not have."""
    result = ask(root, "fleet/sync")
    show(output, result, lambda: say(_told(result)))


@command.command("show")
@root_option
@output_option
def show_(*, root: Path, output: str) -> None:
    """Show which fleet this host belongs to, and what that thinks of it."""
    result = ask(root, "fleet/show")
    show(output, result, lambda: say(_told(result)))


@command.command("leave")
@root_option
@output_option
def leave(*, root: Path, output: str) -> None:
    """Forget the fleet and the key for it. The fleet knows this host until an administrator removes it there."""
    result = ask(root, "fleet/leave")
    show(output, result, lambda: say("this host belongs to no fleet"))


def _told(result: dict[str, Any]) -> str:
    if not result["fleet"]:
        return "this host belongs to no fleet"
    line = f"{result['name']} of {result['fleet']} at {result['url']}: {result['state']}"
    if result["judged"]:
        until = datetime.fromtimestamp(result["expires"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        line += f"; found {result['status']}, {result['level']}, until {until}"
    return line + (f"; the last attempt failed: {result['failure']}" if result["failure"] else "")
