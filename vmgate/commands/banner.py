# SPDX-License-Identifier: Apache-2.0
"""``vmgate banner``: the text that is shown before interactive management."""

from __future__ import annotations

from pathlib import Path

import click

from agent import banner
from agent.paths import HostPaths
from content import durable
from vmgate.commands.host import ask, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show


@click.group("banner")
def command() -> None:
    """The text that is shown before interactive management."""


@command.command("show")
@root_option
@output_option
def show_(root: Path, output: str) -> None:
    """Show the banner; works without the agent."""
    text = banner.read(HostPaths(root.absolute()).banner)

    def draw() -> None:
        for line in text.removesuffix("\n").split("\n") if text else ():
            say(line)

    show(output, {"text": text}, draw)


@command.command("set")
@click.argument("text", required=False)
@click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Take the text from a file.")
@root_option
def set_(text: str | None, file: Path | None, root: Path) -> None:
    """Set the banner, literally, to at most 4,000 characters; an empty text takes it away.

    It is shown on standard error by each command that changes the host, to whoever sits at a terminal.
    """
    if (text is None) == (file is None):
        raise UsageError("the banner was not set", cause="it takes one of TEXT and --file", remedy="name one")
    new = text if file is None else _read(file)
    ask(root, "banner/set", text=banner.require_banner(new or ""))
    say("the banner was set" if new else "the banner was taken away")


def _read(file: Path) -> str:
    try:
        return durable.read_file(file, banner.MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise UsageError("the banner was not set", cause=f"{file} is not UTF-8", remedy="write it anew") from error
