# SPDX-License-Identifier: Apache-2.0
"""``vmgate update``: fetch, verify and activate releases."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from agent.break_glass import BreakGlass
from agent.errors import BreakGlassRefused
from vmgate.commands.host import ask, greet, root_option
from vmgate.errors import UsageError
from vmgate.output import note, output_option, printable, say, show, table
from vmgate.progress import progress_option, shown


@click.group("update")
def command() -> None:
    """Fetch, verify and activate releases."""


def _draw(result: dict[str, Any]) -> None:
    if not result["changed"]:
        click.echo("up to date")
    for item in result["releases"]:
        click.echo(f"{item['channel']}: release {item['number']}")
    for item in result["early"]:
        when = local(item["due"])
        say(f"{item['channel']} {item['number']}: its wave reaches this host at {when}; a command does not wait for it")
    if result["changed"]:
        click.echo(f"generation {result['generation']} is {result['state']}")
        if result["stale"]:
            click.echo("its metadata had expired: whether newer releases exist is not known")
    for reason in result["held_back"]:
        click.echo(f"held back: {printable(reason)}")
    if result["reboot"]:
        click.echo("this takes effect at the next boot; until then no VM starts")


def _draw_unattended(result: dict[str, Any]) -> None:
    say(result["said"])
    if result["update"]:
        _draw(result["update"])
    else:
        for reason in result["held_back"]:
            say(f"held back: {reason}")
    for warning in filter(None, (result["hooks"], result["vms"])):
        say(f"warning: {warning}")
    for restart in result["restarts"]:
        say(f"{restart['name']}: {restart['failed'] or 'restarted'}")


def local(time: int) -> str:
    """A time in the zone of whoever reads it."""
    return datetime.fromtimestamp(time).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _report(result: dict[str, Any], output: str) -> None:
    show(output, result, lambda: _draw(result))


@command.command("check")
@root_option
@output_option
def check(root: Path, output: str) -> None:
    """Look for newer releases; change nothing."""
    result: dict[str, Any] = ask(root, "update/check")
    rows = [[item["channel"], item["active"] or "none", item["offered"], _due(item)] for item in result["releases"]]

    def draw() -> None:
        table(["CHANNEL", "ACTIVE", "OFFERED", "DUE HERE"], rows)
        for reason in result["held_back"]:
            click.echo(f"held back: {printable(reason)}")

    show(output, result, draw)


def _due(item: dict[str, Any]) -> str:
    """When a release comes to this host by itself."""
    if item["active"] == item["offered"]:
        return "-"
    urgent = "now, urgent" if item["urgent"] else "now"
    return local(item["due"]) if item["due"] else urgent


@command.command("apply")
@click.option("--unattended", is_flag=True, help="For the timer: update only if it is time, and say if it is not.")
@progress_option
@root_option
@output_option
def apply(unattended: bool, progress: bool | None, root: Path, output: str) -> None:
    """Fetch, verify, stage and activate the newest releases from the repository.

    By hand it waits for nothing. Unattended it keeps to waves, windows, a pause and metered connections, runs the hooks
    and restarts the VMs that are to be.
    """
    with shown(root, progress):
        result = ask(root, "update/unattended" if unattended else "update/apply")
    if unattended:
        show(output, result, lambda: _draw_unattended(result))
    else:
        _report(result, output)


@command.command("pause")
@click.option("--days", type=click.IntRange(1, 90), help="Days from now on.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]), help="A local time.")
@click.option("--reason", required=True, help="For the audit trail and for whoever asks.")
@root_option
@output_option
def pause(days: int | None, until: datetime | None, reason: str, root: Path, output: str) -> None:
    """Let this host not update itself for a while, urgent releases included; `apply` by hand still works."""
    if (days is None) == (until is None):
        raise UsageError("updates were not paused", cause="it takes one of --days and --until", remedy="name one")
    end = until if until is not None else datetime.now().astimezone() + timedelta(days=days or 0)
    result = ask(root, "update/pause", until=str(max(0, int(end.timestamp()))), reason=reason)
    show(output, result, lambda: say(str(result["said"])))


@command.command("resume")
@root_option
@output_option
def resume(root: Path, output: str) -> None:
    """End a pause."""
    result = ask(root, "update/resume")
    show(output, result, lambda: say(str(result["said"])))


@command.command("import")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--allow-stale",
    type=click.IntRange(1, 3660),
    metavar="DAYS",
    help="Take it although it has expired, up to so many days after its publication. It is recorded.",
)
@click.option("--reason", default="", help="Why, for the audit trail; with --allow-stale.")
@click.option("--site", is_flag=True, help="It is of the site's own repository.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@progress_option
@root_option
@output_option
def import_(
    *,
    bundle: Path,
    allow_stale: int | None,
    reason: str,
    site: bool,
    yes: bool,
    progress: bool | None,
    root: Path,
    output: str,
) -> None:
    """Do the same from an offline bundle; the same checks apply.

    A bundle that has expired is taken for as long as its releases say. --allow-stale takes it for longer, and changes
    nothing else: what is unsigned, older than what this host has, or of another publisher is refused as ever.
    """
    arguments = {}
    if allow_stale is not None or reason:
        arguments = {"allow_stale": "" if allow_stale is None else str(allow_stale), "reason": reason}
        BreakGlass.parse(arguments["allow_stale"], reason)
        if not yes:
            greet(root)
            _require_agreed(bundle.name)
    if site:
        arguments["site"] = "yes"
    with shown(root, progress):
        result = ask(root, "update/import", bundle=str(bundle.absolute()), **arguments)
    _report(result, output)


def _require_agreed(name: str) -> None:
    """Ask whoever sits at the terminal.

    Raises:
        BreakGlassRefused: nobody does, or the answer is another one.
    """
    note("Its publisher did not mean this bundle to be used for so long: newer releases may have mended what is wrong")
    note("with these, and nobody can tell this host. What you do now is recorded with your reason.")
    question = f"Type {printable(name)} or yes to go on"
    answer = click.prompt(question, default="", show_default=False, err=True) if sys.stdin.isatty() else ""
    if answer not in (name, "yes"):
        raise BreakGlassRefused(
            "nothing was imported", cause="nobody confirmed it", remedy="confirm it on a terminal, or give -y"
        )


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
        [item["generation"], _state(item), ", ".join(f"{r['channel']} {r['number']}" for r in item["releases"])]
        for item in result["generations"]
    ]
    show(output, result, lambda: table(["GENERATION", "STATE", "RELEASES"], rows))


def _state(item: dict[str, Any]) -> str:
    return f"{item['state']}, stale" if item["stale"] else str(item["state"])
