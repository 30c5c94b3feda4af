# SPDX-License-Identifier: Apache-2.0
"""``vmgate version``."""

from __future__ import annotations

import click

from vmgate.output import output_option, show


@click.command("version")
@output_option
def command(output: str) -> None:
    """Print the version of vmgate."""
    from importlib.metadata import version  # loaded here: it costs start-up time that --help need not pay

    number = version("vmgate")
    show(output, {"version": number}, lambda: click.echo(f"vmgate {number}"))
