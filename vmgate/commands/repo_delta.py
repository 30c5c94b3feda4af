# SPDX-License-Identifier: Apache-2.0
"""``vmgate repo delta``: more deltas than a publication makes."""

from __future__ import annotations

from pathlib import Path

import click

from vmgate.commands.key_options import FOLDER
from vmgate.output import output_option, say, show, table


@click.command("delta")
@click.argument("repository", type=FOLDER)
@click.argument("channel")
@click.option("--from", "numbers", type=click.IntRange(min=1), multiple=True, required=True, help="An earlier release.")
@output_option
def command(repository: Path, channel: str, numbers: tuple[int, ...], output: str) -> None:
    """Make deltas to a channel's newest release from earlier ones; a publication makes those from the last five."""
    from updater.repository.deltas import add_deltas

    made = add_deltas(repository.absolute(), channel, sorted(set(numbers)))

    def draw() -> None:
        table(["ARTIFACT", "FROM", "BYTES", "OF"], [[m.artifact, m.number, m.length, m.whole] for m in made])
        if not made:
            say("no artifact is large enough and alike enough for a delta")

    deltas = [{"artifact": m.artifact, "from": m.number, "length": m.length, "whole": m.whole} for m in made]
    show(output, {"deltas": deltas}, draw)
