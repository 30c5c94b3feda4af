# SPDX-License-Identifier: Apache-2.0
"""``vmgate init``: set this host up with a trust anchor."""

from __future__ import annotations

from pathlib import Path

import click

from vmgate.commands.host import root_option
from vmgate.output import output_option, show


@click.command("init")
@click.option(
    "--anchor",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="TUF root metadata of the publisher, got over a way you trust.",
)
@click.option(
    "--settings",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="vmgate.toml to install; without it the defaults stand.",
)
@click.option(
    "--units",
    is_flag=True,
    help="Write the systemd units of agent and update timer, and polkit's actions; no hibernation.",
)
@root_option
@output_option
def command(anchor: Path, settings: Path | None, units: bool, root: Path, output: str) -> None:
    """Install the trust anchor, settings and libvirt hook, and make the host's keys in its TPM."""
    from vmgate.wiring import set_up

    done = set_up(root.absolute(), anchor, settings, units=units)

    def draw() -> None:
        for line in done["steps"]:
            click.echo(line)

    show(output, done, draw)
