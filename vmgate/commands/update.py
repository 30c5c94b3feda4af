# SPDX-License-Identifier: Apache-2.0
"""``vmgate update``: fetch, verify and activate releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, root_option
from vmgate.output import output_option, printable, show, table
from vmgate.progress import progress_option, shown


@click.group("update")
def command() -> None:
    """Fetch, verify and activate releases."""


def _report(result: dict[str, Any], output: str) -> None:
    def draw() -> None:
        if not result["changed"]:
            click.echo("up to date")
        for item in result["releases"]:
            click.echo(f"{item['channel']}: release {item['number']}")
        if result["changed"]:
            click.echo(f"generation {result['generation']} is {result['state']}")
        for reason in result["held_back"]:
            click.echo(f"held back: {printable(reason)}")
        if result["reboot"]:
            click.echo("this takes effect at the next boot; until then no VM starts")

    show(output, result, draw)


@command.command("check")
@root_option
@output_option
def check(root: Path, output: str) -> None:
    """Look for newer releases; change nothing."""
    result: dict[str, Any] = ask(root, "update/check")
    rows = [[item["channel"], item["active"] or "none", item["offered"]] for item in result["releases"]]

    def draw() -> None:
        table(["CHANNEL", "ACTIVE", "OFFERED"], rows)
        for reason in result["held_back"]:
            click.echo(f"held back: {printable(reason)}")

    show(output, result, draw)


@command.command("apply")
@progress_option
@root_option
@output_option
def apply(progress: bool | None, root: Path, output: str) -> None:
    """Fetch, verify, stage and activate the newest releases from the repository."""
    with shown(root, progress):
        result = ask(root, "update/apply")
    _report(result, output)


@command.command("import")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@progress_option
@root_option
@output_option
def import_(bundle: Path, progress: bool | None, root: Path, output: str) -> None:
    """Do the same from an offline bundle; the same checks apply."""
    with shown(root, progress):
        result = ask(root, "update/import", bundle=str(bundle.absolute()))
    _report(result, output)


@command.command("rollback")
@root_option
@output_option
def rollback(root: Path, output: str) -> None:
    """Go back to the generation before the active one."""
    _report(ask(root, "update/rollback"), output)


@command.command("history")
@root_option
@output_option
def history(root: Path, output: str) -> None:
    """List the generations on this host."""
    result: dict[str, Any] = ask(root, "update/history")
    rows = [
        [item["generation"], item["state"], ", ".join(f"{r['channel']} {r['number']}" for r in item["releases"])]
        for item in result["generations"]
    ]
    show(output, result, lambda: table(["GENERATION", "STATE", "RELEASES"], rows))
