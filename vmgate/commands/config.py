# SPDX-License-Identifier: Apache-2.0
"""``vmgate config``: what is local to this host, and the administrator's approval of it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from documents.errors import Exit
from vmgate.commands.host import ask, greet, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show, table

ABSENT = "0" * 64


@click.group("config")
def command() -> None:
    """What is local to this host: settings, libvirt, kernel command line."""


@command.command("show")
@root_option
@output_option
def show_(root: Path, output: str) -> None:
    """Show the baseline that was approved last."""
    result: dict[str, Any] = ask(root, "config/show")

    def draw() -> None:
        baseline = result["baseline"]
        if result["refused"]:
            say(f"what is stored counts for nothing: {result['refused']}")
        if not baseline:
            say("nothing was approved on this host: see `vmgate config check`")
            return
        when = datetime.fromtimestamp(baseline["time"], UTC).isoformat(timespec="minutes")
        say(f"number {baseline['sequence']}, approved {when} by {baseline['actor']}")
        rows = [[entry["subject"], _digest(entry["fsverity"])] for entry in baseline["entries"]]
        table(["WHAT", "APPROVED"], rows)

    show(output, result, draw)


@command.command("check")
@root_option
@output_option
def check_(root: Path, output: str) -> int:
    """Show what is there now and whose word there is for it; exit 5 if that is not enough for the signed policy.

    What changed since it was measured in this boot is measured again.
    """
    result: dict[str, Any] = ask(root, "config/check")
    show(output, result, lambda: _draw(result))
    return Exit.REFUSED if any(thing["outcome"] == "fail" for thing in result["things"]) else Exit.DONE


@command.command("approve")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@root_option
@output_option
def approve(*, yes: bool, root: Path, output: str) -> None:
    """Approve what is there now, after showing what differs from what was approved before.

    It is for root, and for administrators who authenticate anew. It is recorded, and signed by the TPM. What the
    publisher names is not changed by it.
    """
    greet(root)
    found: dict[str, Any] = ask(root, "config/check")
    if not yes:
        _draw(found)
        if not sys.stdin.isatty():
            raise UsageError("nothing was approved", cause="there is no terminal to ask on", remedy="use -y")
        click.confirm("Approve all of this as it is?", abort=True)
    result: dict[str, Any] = ask(root, "config/approve", shown=found["proposal"])
    show(output, result, lambda: say(f"approved as number {result['number']}"))


def _draw(result: dict[str, Any]) -> None:
    if result["refused"]:
        say(f"the approved baseline counts for nothing: {result['refused']}")
    rows = [
        [thing["subject"], _word(thing), _digest(thing["found"]), _digest(thing["expected"])]
        for thing in result["things"]
    ]
    table(["WHAT", "WORD", "FOUND", "EXPECTED"], rows)


def _word(thing: dict[str, Any]) -> str:
    """Whose word there is, and what it says."""
    if thing["outcome"] == "pass":
        return "as the publisher says" if thing["authority"] == "publisher" else "approved"
    if thing["authority"] == "publisher":
        return "NOT AS THE PUBLISHER SAYS" if thing["expected"] else "NOT NAMED BY THE PUBLISHER"
    return "CHANGED" if thing["expected"] else "not approved"


def _digest(text: str) -> str:
    if text == ABSENT:
        return "nothing there"
    return text or "-"
