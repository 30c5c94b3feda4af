# SPDX-License-Identifier: Apache-2.0
"""``vmgate repo gc``: remove what hosts cannot ask for any more. Signs nothing and needs no key."""

from __future__ import annotations

import time
from pathlib import Path

import click

from vmgate.commands.key_options import FOLDER
from vmgate.output import output_option, say, show

DAY = 86_400


@click.command("gc")
@click.argument("repository", type=FOLDER)
@click.option("--days", type=click.IntRange(0, 3660), default=7, show_default=True, help="Keep what is younger.")
@output_option
def command(repository: Path, days: int, output: str) -> None:
    """Remove old metadata, and releases that are listed no longer with what only they name."""
    from updater.repository.collect import collect

    found = collect(repository.absolute(), now=int(time.time()), age=days * DAY)
    told = {
        "metadata": found.metadata,
        "releases": found.releases,
        "blobs": found.blobs,
        "bytes": found.length,
    }
    show(
        output,
        told,
        lambda: say(
            f"{found.metadata} files of metadata, {found.releases} release documents and {found.blobs} artifacts "
            f"removed: {found.length} bytes"
        ),
    )
