# SPDX-License-Identifier: Apache-2.0
"""``vmgate vm accept``, ``delete``, ``checkpoint`` and ``restore``: what becomes of what a VM keeps on this host."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, greet, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show, table


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


@click.command("checkpoint")
@click.argument("name")
@click.option("--remove", type=click.IntRange(1), help="Give the checkpoint of this number up, and make none.")
@root_option
@output_option
def checkpoint(*, name: str, remove: int | None, root: Path, output: str) -> None:
    """Keep a VM's disks and TPM as they are now, to go back to. The VM must be off.

    It is for root, and for administrators who authenticate anew.
    """
    greet(root)
    result: dict[str, Any] = ask(root, "vm/checkpoint", name=name, **({"remove": str(remove)} if remove else {}))
    text = f"checkpoint {result['number']} of {name} {'is gone' if remove else 'made'}"
    show(output, result, lambda: say(text))


@click.command("checkpoints")
@click.argument("name")
@root_option
@output_option
def checkpoints(*, name: str, root: Path, output: str) -> None:
    """List the checkpoints of a VM."""
    result: dict[str, Any] = ask(root, "vm/checkpoints", name=name)
    rows = [
        [one["number"], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one["time"])), f"sha256:{one['definition']}"]
        for one in result["checkpoints"]
    ]
    show(output, result, lambda: table(["NUMBER", "TIME", "DEFINITION"], rows))


@click.command("restore")
@click.argument("name")
@click.argument("number", type=click.IntRange(1))
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@root_option
@output_option
def restore(*, name: str, number: int, yes: bool, root: Path, output: str) -> None:
    """Let a VM's disks and TPM be as they were at a checkpoint; what they are now is lost. The VM must be off.

    It is for root, and for administrators who authenticate anew. The VM starts by the definition that counts now.
    """
    greet(root)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was restored", cause="there is no terminal to ask on", remedy="use -y")
        click.confirm(f"Give up what {name} keeps now, and go back to checkpoint {number}?", abort=True)
    result: dict[str, Any] = ask(root, "vm/restore", name=name, number=str(number))
    show(output, result, lambda: say(f"{name} is as it was at checkpoint {number}"))
