# SPDX-License-Identifier: Apache-2.0
"""``vmgate retire``: hand this host back. It is for root, with the agent stopped, as ``init`` was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from documents.errors import Exit
from vmgate.commands.host import greet, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show


@click.command("retire")
@click.option("--dry-run", is_flag=True, help="Only print what would go and what would stay.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@root_option
@output_option
def command(*, dry_run: bool, yes: bool, root: Path, output: str) -> int:
    """Hand this host back: the VMs' keys, their state, their networks, and all that `vmgate init` wrote.

    Refused while a VM runs. The audit trail stays, and its end is told. What the VMs kept here is lost for ever: export
    first what you want to keep.
    """
    from vmgate.handing_back import belongings, hand_back

    greet(root)
    found, told = belongings(root.absolute())
    if dry_run:
        show(output, told, lambda: _draw("would go: ", told))
        return Exit.NOT_READY if found.running else Exit.DONE
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was retired", cause="there is no terminal to ask on", remedy="use -y")
        _draw("will go: ", told)
        click.confirm("Give all of this up, for ever?", abort=True)
    done: dict[str, Any] = hand_back(root.absolute())
    show(output, done, lambda: _draw_done(done))
    return Exit.DONE


def _draw(begin: str, told: dict[str, Any]) -> None:
    for step in told["steps"]:
        say(begin + step)
    for name in told["running"]:
        say(f"not while VM {name} runs")
    for left in told["left"]:
        say(f"stays: {left}")


def _draw_done(done: dict[str, Any]) -> None:
    for step in done["steps"]:
        say(f"gone: {step}")
    for left in done["left"]:
        say(f"stays: {left}")
    head, signed = done["head"], done["signed"]
    say(f"audit trail: ends with record {head['sequence']}, {head['hash']}")
    if done["unsigned"]:
        say(f"its end is NOT signed: {done['unsigned']}")
    if signed:
        say(f"signed up to record {signed['sequence']}, {signed['hash']}: compare it with what was off-loaded")
    say("now reboot: until then libvirtd knows the hook, systemd the units, and the TPM what was measured")
