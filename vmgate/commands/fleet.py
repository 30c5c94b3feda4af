# SPDX-License-Identifier: Apache-2.0
"""``vmgate fleet``: the service for many hosts, and what its administrator does with them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from vmgate.commands.fleet_admin import admin
from vmgate.commands.fleet_assign import assign, lock, unlock
from vmgate.commands.fleet_host import host
from vmgate.commands.fleet_reference import reference
from vmgate.commands.fleet_rollout import rollout
from vmgate.commands.fleet_token import token
from vmgate.commands.fleet_upkeep import backup, metrics, restore
from vmgate.fleet_place import desk, folder_option, libraries
from vmgate.output import output_option, say, show, table


@click.group("fleet")
def command() -> None:
    """The service for many hosts."""


command.add_command(admin)
command.add_command(assign)
command.add_command(backup)
command.add_command(host)
command.add_command(lock)
command.add_command(metrics)
command.add_command(unlock)
command.add_command(reference)
command.add_command(restore)
command.add_command(rollout)
command.add_command(token)


@command.command("init")
@folder_option
@click.option("--name", default="fleet", show_default=True, help="Of the fleet.")
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="ADDRESS:PORT")
@click.option("--database", default="sqlite:///fleet.db", show_default=True, metavar="URL", help="Or PostgreSQL's.")
@click.option(
    "--server", "servers", multiple=True, metavar="NAME", help="Of the server, or its address; again for more."
)
@click.option("--certificate", metavar="FILE", help="The site's certificate, in place of one of an own authority.")
@click.option("--key", metavar="FILE", help="Its key.")
@click.option("--interval", type=int, default=300, show_default=True, help="Seconds between two attestations.")
@click.option("--approval", is_flag=True, help="New hosts wait for an administrator.")
@click.option("--processes", type=int, default=1, show_default=True, help="That serve.")
@output_option
def init(
    *,
    folder: Path,
    name: str,
    listen: str,
    database: str,
    servers: tuple[str, ...],
    certificate: str | None,
    key: str | None,
    interval: int,
    approval: bool,
    processes: int,
    output: str,
) -> None:
    """Set a service up: keys, certificates, an empty database."""
    with libraries():
        from fleet.settings import FleetSettings, checked
        from fleet.setup import set_up

    settings = checked(
        FleetSettings(
            name=name,
            listen=listen,
            database=database,
            certificate=certificate or FleetSettings().certificate,
            key=key or FleetSettings().key,
            interval=interval,
            approval=approval,
            processes=processes,
        )
    )
    names = servers or (listen.rpartition(":")[0].strip("[]"),)
    steps = set_up(folder, settings, () if certificate else names, int(time.time()))
    show(output, {"steps": steps, "folder": str(folder)}, lambda: say_all(steps))


@command.command("serve")
@folder_option
def serve(*, folder: Path) -> None:
    """Serve hosts until a signal ends it."""
    with libraries():
        from fleet.serving import serve as serve_folder

    serve_folder(folder, lambda address: click.echo(f"vmgate fleet: ready at {address}"))


@command.command("migrate")
@folder_option
@output_option
def migrate(*, folder: Path, output: str) -> None:
    """Bring the database forward to this version. Make a backup first; the service must not run."""
    with libraries():
        from fleet.database import Database
        from fleet.migrate import migrate as bring_forward
        from fleet.settings import FleetFolder

    place = FleetFolder(folder.absolute())
    database = Database(place.database(place.load()))
    try:
        before, after = bring_forward(database)
    finally:
        database.close()
    show(output, {"before": before, "after": after}, lambda: say(f"the database is of version {after}"))


@command.command("hosts")
@folder_option
@click.option(
    "--standing", default="", help="Only those that stand so: trusted, failed, stale, unknown, pending, revoked."
)
@click.option("--label", default="", metavar="NAME=TEXT", help="Only those with this label.")
@click.option("--after", default="", metavar="NAME", help="Begin after this host: for the next page.")
@output_option
def hosts(*, folder: Path, standing: str, label: str, after: str, output: str) -> None:
    """List hosts and how they stand now; at most 1,000."""
    with desk(folder) as place:
        from fleet.hosts import Filter, counted, listed
        from fleet.states import STANDINGS

        if standing and standing not in STANDINGS:
            raise click.BadParameter(f"{standing!r} is none of {', '.join(STANDINGS)}", param_hint="--standing")
        wanted = Filter(standing=standing, label=label, after=after)
        found = place.read(lambda connection: listed(connection, wanted, place.now))
        counts = place.read(lambda connection: counted(connection, place.now))
    rows = [
        [
            host["name"],
            host["standing"],
            host["level"] or "-",
            host["release"] or "-",
            _when(host["judged"]),
            host["cause"],
        ]
        for host in found
    ]

    def draw() -> None:
        table(["NAME", "STANDING", "LEVEL", "RELEASE", "JUDGED", "CAUSE"], rows)
        say(", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no hosts")

    show(output, {"hosts": found, "counts": counts}, draw)


@command.command("show")
@click.argument("name")
@folder_option
@output_option
def show_(*, name: str, folder: Path, output: str) -> None:
    """Show a host: how it stands, its last verdicts, what the newest one found, and alarms about its trail."""
    with desk(folder) as place:
        from fleet import attestations
        from fleet.hosts import find, history, labels_of, told
        from fleet.intake import alarms_of

        with place.database.read() as connection:
            row = find(connection, name)
            verdicts = history(connection, row.id)
            found = attestations.found_by(connection, verdicts[0]["findings"]) if verdicts else []
            result = {
                **told(row, place.now),
                "labels": labels_of(connection, row.id),
                "verdicts": verdicts,
                "findings": found,
                "alarms": alarms_of(connection, row.id),
            }
    show(output, result, lambda: _draw(result))


@command.command("audit")
@folder_option
@click.option("--last", type=click.IntRange(1, 10_000), default=50, show_default=True, help="So many records.")
@output_option
def audit(*, folder: Path, last: int, output: str) -> None:
    """Verify the fleet's own audit trail and show its end, with alarms about those of hosts."""
    with desk(folder) as place:
        from fleet.intake import alarms_of
        from fleet.trail import records, verify_trail

        with place.database.read() as connection:
            count = verify_trail(connection)
            found = list(records(connection, last))
            alarms = alarms_of(connection)
    rows = [[r.sequence, _when(r.time), r.event, r.outcome, r.subject, r.actor] for r in found]
    members = [record.members() for record in found]

    def draw() -> None:
        table(["NUMBER", "TIME", "EVENT", "OUTCOME", "SUBJECT", "ACTOR"], rows)
        say(f"{count} records, none missing or changed; {len(alarms)} alarms about hosts' trails")

    show(output, {"count": count, "records": members, "alarms": alarms}, draw)


def say_all(lines: list[str]) -> None:
    """Print lines."""
    for line in lines:
        say(line)


def _draw(result: dict[str, Any]) -> None:
    for key in ("name", "id", "standing", "status", "level", "release", "cause", "channel", "tpm", "manufacturer"):
        say(f"{key:13} {result[key] or '-'}")
    say(f"{'judged':13} {_when(result['judged'])}, counts until {_when(result['expires'])}")
    say(f"{'audit':13} {result['audit']['sequence']} records, signed up to {result['audit']['signed']}")
    for name, text in result["labels"].items():
        say(f"{'label':13} {name}={text}")
    for alarm in result["alarms"]:
        say(f"{'alarm':13} {_when(alarm['time'])} {alarm['kind']}: {alarm['text']}")
    for finding in result["findings"]:
        if finding["outcome"] != "pass":
            say(f"{finding['outcome']:13} {finding['check']} of {finding['subject']}: {finding['found']}")


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else "never"
