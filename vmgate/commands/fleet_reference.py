# SPDX-License-Identifier: Apache-2.0
"""``vmgate fleet reference``: the releases with which hosts are compared."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmgate.fleet_place import desk, folder_option
from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from sqlalchemy import Connection

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
LIMIT = 64_000_000
DAY = 86_400


@click.group("reference")
def reference() -> None:
    """The releases with which hosts are compared."""


@reference.command("add")
@click.argument("release", type=FILE)
@click.option("--anchor", type=FILE, required=True, help="Root metadata of the repository.")
@click.option("--artifact", "artifacts", type=FILE, multiple=True, help="Security policy, host image, libvirt's files.")
@click.option("--from", "begins", type=click.DateTime(), help="From when on it counts (local time); else now.")
@click.option("--old-until", type=click.DateTime(), help="Until when the one before counts beside it; else 14 days.")
@folder_option
@output_option
def add(
    *,
    release: Path,
    anchor: Path,
    artifacts: tuple[Path, ...],
    begins: datetime | None,
    old_until: datetime | None,
    folder: Path,
    output: str,
) -> None:
    """Take a release in, with the artifacts that it names: files that you verified, such as from a host's store."""
    from content.durable import read_file

    with desk(folder) as place:
        from fleet.references import OLD_DAYS, Bringing
        from fleet.references import add as bring

        opens = int(begins.timestamp()) if begins else place.now
        bringing = Bringing(
            release=read_file(release, LIMIT),
            artifacts=tuple(read_file(path, LIMIT) for path in artifacts),
            anchor=read_file(anchor, LIMIT),
            opens=opens,
            closes=int(old_until.timestamp()) if old_until else opens + OLD_DAYS * DAY,
        )

        def job(connection: Connection) -> tuple[Any, str]:
            found = bring(connection, bringing, place.now)
            return found, f"{found.channel}/{found.number}"

        found = place.change("reference-add", job)
    name = f"{found.channel}/{found.number}"
    show(output, {"channel": found.channel, "number": found.number}, lambda: say(f"hosts are compared with {name}"))


@reference.command("list")
@folder_option
@output_option
def list_(*, folder: Path, output: str) -> None:
    """List all releases."""
    with desk(folder) as place:
        from fleet.references import listed

        found = place.read(listed)
    rows = [
        [
            item["channel"],
            item["number"],
            item["authority"],
            "withdrawn" if item["withdrawn"] else "counts",
            item["digest"],
        ]
        for item in found
    ]
    show(output, {"releases": found}, lambda: table(["CHANNEL", "NUMBER", "AUTHORITY", "STATE", "DIGEST"], rows))


@reference.command("withdraw")
@click.argument("channel")
@click.argument("number", type=int)
@folder_option
@output_option
def withdraw(*, channel: str, number: int, folder: Path, output: str) -> None:
    """Let a release count no more."""
    with desk(folder) as place:
        from fleet.references import withdraw as take_back

        def job(connection: Connection) -> tuple[None, str]:
            take_back(connection, channel, number)
            return None, f"{channel}/{number}"

        place.change("reference-withdraw", job)
    show(output, {"channel": channel, "number": number}, lambda: say(f"{channel}/{number} counts no more"))
