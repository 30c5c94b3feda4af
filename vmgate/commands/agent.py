# SPDX-License-Identifier: Apache-2.0
"""``vmgate agent``: the host service."""

from __future__ import annotations

from pathlib import Path

import click

from vmgate.commands.host import root_option


@click.group("agent")
def command() -> None:
    """The host service."""


@command.command("run")
@root_option
def run(root: Path) -> None:
    """Measure the host, then serve the gate until a signal ends it."""
    from vmgate.wiring import serve

    serve(root.absolute())


@command.command("mapper", hidden=True)
def mapper() -> None:
    """Tell the agent which devices dm-verity checks; systemd runs this beside the agent, with the privilege for it."""
    from vmgate.beside import answer_mapper

    answer_mapper()


@command.command("porter", hidden=True)
def porter() -> None:
    """Mount VMM images and look at processes for the agent; systemd runs this beside it, outside of its box."""
    from vmgate.beside import answer_porter

    answer_porter()
