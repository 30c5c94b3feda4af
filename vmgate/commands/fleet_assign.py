# SPDX-License-Identifier: Apache-2.0
"""``vmgate fleet assign``: what hosts may take, signed with the online keys; ``lock`` and ``unlock`` of a host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmgate.commands.key_options import FOLDER, keys_options
from vmgate.fleet_place import administrator, desk, folder_option
from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from keys.unlock import Unlock


@click.group("assign")
def assign() -> None:
    """What hosts may take: plans by label, and publishing what follows from them."""


@assign.command("set")
@click.argument("name")
@click.option("--allow", multiple=True, required=True, help="CHANNEL, CHANNEL=NUMBER or CHANNEL=LOWEST-HIGHEST.")
@click.option("--label", default="", metavar="NAME=TEXT", help="For hosts that have it; else for all.")
@click.option("--position", type=int, default=100, show_default=True, help="Of several that fit, the lowest counts.")
@click.option("--days", type=int, default=90, show_default=True, help="For which an assignment counts.")
@folder_option
@output_option
def set_(*, name: str, allow: tuple[str, ...], label: str, position: int, days: int, folder: Path, output: str) -> None:
    """Say what hosts may take. Nothing changes for them before it is published."""
    with desk(folder) as place:
        from fleet import plans

        plan = plans.plan_of(name, position=position, label=label, allow=allow, days=days)

        def job(connection: Connection) -> tuple[None, str]:
            plans.put(connection, plan, administrator(), place.now)
            return None, name

        place.change("assignment-set", job, allow=" ".join(allow), label=label, position=str(position))
    show(output, {"name": name}, lambda: say(f"{name} counts once it is published: `vmgate fleet assign publish`"))


@assign.command("remove")
@click.argument("name")
@folder_option
@output_option
def remove(*, name: str, folder: Path, output: str) -> None:
    """Forget a plan. Hosts that no other one fits take nothing more, once that is published."""
    with desk(folder) as place:
        from fleet import plans

        def job(connection: Connection) -> tuple[None, str]:
            plans.drop(connection, name)
            return None, name

        place.change("assignment-remove", job)
    show(output, {"name": name}, lambda: say(f"there is no plan {name} any more"))


@assign.command("list")
@folder_option
@output_option
def list_(*, folder: Path, output: str) -> None:
    """List plans in the order in which they are tried, with how many hosts each counts for."""
    with desk(folder) as place:
        from documents.assignment import told_allowed
        from fleet.plans import affected

        found, without = place.read(affected)
    rows = [
        [p.position, p.name, p.label or "all", " ".join(map(told_allowed, p.channels)), p.days, count]
        for p, count in found
    ]
    names = ("position", "name", "label", "allow", "days", "hosts")
    members = [dict(zip(names, row, strict=True)) for row in rows]

    def draw() -> None:
        table(["POSITION", "NAME", "LABEL", "MAY TAKE", "DAYS", "HOSTS"], rows)
        say(f"{without} active hosts have no plan and take nothing")

    show(output, {"plans": members, "without": without}, draw)


@assign.command("publish")
@click.argument("repository", type=FOLDER)
@keys_options()
@click.option("--take-over", is_flag=True, help="Let go of assignments of hosts that the fleet does not know.")
@folder_option
@output_option
def publish(*, repository: Path, keys: Path, secret: Unlock, take_over: bool, folder: Path, output: str) -> None:
    """Sign what follows from the plans: all assignments of the repository are this fleet's. Run it by a timer."""
    with desk(folder) as place:
        from dataclasses import asdict

        from fleet.publishing import publish as sign

        done = sign(place.database, repository.absolute(), keys.absolute(), secret, place.now, take_over=take_over)
        numbers = asdict(done)

        if done.bins:
            details = {name: str(count) for name, count in numbers.items()}
            place.change("assignment-publish", lambda _: (None, "assignments"), **details)
    show(
        output,
        numbers,
        lambda: say(f"{done.hosts} hosts have an assignment: {done.anew} signed, {done.gone} gone, {done.bins} bins"),
    )


@click.command("lock")
@click.argument("name")
@click.option("--reason", required=True, help="For the audit trail.")
@folder_option
@output_option
def lock(*, name: str, reason: str, folder: Path, output: str) -> None:
    """Let a host keep all that it has, once that is published."""
    with desk(folder) as place:
        from fleet import plans

        def job(connection: Connection) -> tuple[Any, str]:
            row = plans.lock(connection, name, reason, administrator(), place.now)
            return row, row.name

        row = place.change("host-lock", job, reason=reason)
    show(output, {"name": row.name, "locked": True}, lambda: say(f"{row.name} keeps what it has, once it is published"))


@click.command("unlock")
@click.argument("name")
@folder_option
@output_option
def unlock(*, name: str, folder: Path, output: str) -> None:
    """Let a host take again what its plan allows, once that is published."""
    with desk(folder) as place:
        from fleet import plans

        def job(connection: Connection) -> tuple[Any, str]:
            row = plans.unlock(connection, name)
            return row, row.name

        row = place.change("host-unlock", job)
    show(output, {"name": row.name, "locked": False}, lambda: say(f"{row.name} goes on, once it is published"))
