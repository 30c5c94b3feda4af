# SPDX-License-Identifier: Apache-2.0
"""``vmgate fleet rollout``: let a release come to more and more hosts, and stop it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmgate.fleet_place import administrator, desk, folder_option
from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SAID = {
    "pause": "is paused: nobody else gets the release",
    "resume": "goes on",
    "withdraw": "is withdrawn: nobody who has it not gets the release",
}


@click.group("rollout")
def rollout() -> None:
    """A release that comes to more and more hosts; it counts once it is published, and goes on with each publishing."""


@rollout.command("start")
@click.argument("name")
@click.option("--channel", required=True, help="Of the release.")
@click.option("--release", "number", type=int, required=True, help="Its number.")
@click.option("--stages", default="1,10,50,100", show_default=True, help="Per cent of all hosts, rising to 100.")
@click.option("--label", default="", metavar="NAME=TEXT", help="Hosts that have it are first.")
@click.option("--threshold", type=int, default=5, show_default=True, help="Per cent that may fail.")
@click.option("--wait", type=int, default=60, show_default=True, help="Minutes that a stage takes at least.")
@folder_option
@output_option
def start(
    *,
    name: str,
    channel: str,
    number: int,
    stages: str,
    label: str,
    threshold: int,
    wait: int,
    folder: Path,
    output: str,
) -> None:
    """Let a release come to hosts whose plan allows it, stage by stage."""
    parts = [part.strip() for part in stages.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 4 for part in parts):
        raise click.BadParameter("they are not numbers", param_hint="--stages")
    with desk(folder) as place:
        from fleet import rolling

        begun = rolling.made(
            name,
            channel=channel,
            number=number,
            label=label,
            stages=tuple(map(int, parts)),
            threshold=threshold,
            wait=wait,
            now=place.now,
        )

        def job(connection: Connection) -> tuple[None, str]:
            rolling.start(connection, begun, administrator())
            return None, name

        place.change("rollout-start", job, release=begun.release, stages=stages, label=label)
    show(output, {"name": name, "state": begun.state}, lambda: say(f"{name} begins when it is published"))


@rollout.command("list")
@folder_option
@output_option
def list_(*, folder: Path, output: str) -> None:
    """List rollouts, and how their present stage stands."""
    with desk(folder) as place:
        from fleet import rolling
        from fleet.rollouts import progress

        with place.database.read() as connection:
            found = [
                (one, progress(one, rolling.members(connection, one.since, place.now)))
                for one in rolling.known(connection)
            ]
    rows = [
        [
            one.name,
            one.release,
            one.state,
            f"{one.stages[one.stage]} %",
            how.share,
            how.heard,
            how.settled,
            how.failed,
            one.why,
        ]
        for one, how in found
    ]
    names = ("name", "release", "state", "stage", "share", "heard", "settled", "failed", "why")
    members = [dict(zip(names, row, strict=True)) for row in rows]
    show(output, {"rollouts": members}, lambda: table([name.upper() for name in names], rows))


def _leading(event: str, about: str) -> click.Command:
    @click.command(event, help=about)
    @click.argument("name")
    @click.option("--reason", required=event != "resume", default="", help="For the audit trail.")
    @folder_option
    @output_option
    def command(*, name: str, reason: str, folder: Path, output: str) -> None:
        with desk(folder) as place:
            from fleet import rolling

            def job(connection: Connection) -> tuple[str, str]:
                return rolling.lead(connection, name, event, reason, place.now).state, name

            state = place.change(f"rollout-{event}", job, reason=reason)
        show(output, {"name": name, "state": state}, lambda: say(f"{name} {_SAID[event]}"))

    return command


rollout.add_command(_leading("pause", "Let nobody else have the release."))
rollout.add_command(_leading("resume", "Let a rollout go on; its stage begins anew."))
rollout.add_command(_leading("withdraw", "Let nobody have the release who has it not, for good."))


@rollout.command("remove")
@click.argument("name")
@folder_option
@output_option
def remove(*, name: str, folder: Path, output: str) -> None:
    """Forget a rollout: hosts get what their plans allow."""
    with desk(folder) as place:
        from fleet import rolling

        def job(connection: Connection) -> tuple[None, str]:
            rolling.remove(connection, name)
            return None, name

        place.change("rollout-remove", job)
    show(output, {"name": name}, lambda: say(f"there is no rollout {name} any more"))
