# SPDX-License-Identifier: Apache-2.0
"""``vmgate fleet backup``, ``restore``, ``metrics``: a service's upkeep, on its machine."""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import click

from vmgate.fleet_place import desk, folder_option, libraries
from vmgate.output import output_option, say, show

_NEW = click.Path(path_type=Path, file_okay=False)


@click.command("backup")
@click.argument("target", type=_NEW)
@folder_option
@output_option
def backup(*, target: Path, folder: Path, output: str) -> None:
    """Copy the service, running or not, into a new folder: settings, keys, roots, database. Guard it as well."""
    with libraries():
        from fleet.backup import back_up

    count = back_up(folder, target.absolute(), int(time.time()))
    show(output, {"folder": str(target), "files": count}, lambda: say(f"{count} files in {target}"))


@click.command("restore")
@click.argument("source", type=_NEW)
@folder_option
@output_option
def restore(*, source: Path, folder: Path, output: str) -> None:
    """Make a service of a backup, in a new folder. Tokens and sessions of before count no more."""
    with libraries():
        from fleet.backup import restore as bring_back

    done = bring_back(source, folder, int(time.time()))
    show(
        output,
        {"folder": str(folder), **asdict(done)},
        lambda: say(f"{folder} is a service again: {done.records} audit records; {done.tokens} tokens are withdrawn"),
    )


@click.command("metrics")
@folder_option
def metrics(*, folder: Path) -> None:
    """Print the numbers that a monitoring system gets, in Prometheus' text format."""
    with desk(folder) as place:
        from fleet.metrics import told

        found = place.read(lambda connection: told(connection, version("vmgate"), place.now))
    click.echo(found.decode(), nl=False)
