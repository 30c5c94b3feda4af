# SPDX-License-Identifier: Apache-2.0
"""``vmgate vm accept`` and ``vmgate vm delete``: what becomes of what a VM keeps on this host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, greet, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show


@click.command("accept")
@click.argument("name")
@root_option
@output_option
def accept(name: str, root: Path, output: str) -> None:
    """Take the disks that a VM keeps as they are now, though their records say otherwise. The VM must be off.

    It is for root, and for administrators who authenticate anew. See `vmgate vm why` first: whoever changed a disk
    chose what the VM will read.
    """
    greet(root)
    result: dict[str, Any] = ask(root, "vm/accept", name=name)
    show(output, result, lambda: _draw(result))


def _draw(result: dict[str, Any]) -> None:
    for disk in result["disks"]:
        say(f"accepted disk {disk['disk']} as it is now; {disk['why']}")
    if not result["disks"]:
        say(f"nothing to accept: the disks of {result['name']} are as they were left")


@click.command("delete")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@root_option
@output_option
def delete(*, name: str, yes: bool, root: Path, output: str) -> None:
    """Give up all that a VM keeps on this host: its key first, then its disks, its TPM and its firmware's variables.

    It is for root, and for administrators who authenticate anew. The VM must be off. It stays defined while a release
    defines it, and would start as a new one.
    """
    greet(root)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was deleted", cause="there is no terminal to ask on", remedy="use -y")
        click.confirm(f"Give up all that {name} keeps on this host, for ever?", abort=True)
    result: dict[str, Any] = ask(root, "vm/delete", name=name)
    show(output, result, lambda: say(f"what {name} kept on this host is gone"))
