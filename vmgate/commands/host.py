# SPDX-License-Identifier: Apache-2.0
"""What commands that talk to the agent share: the option ``--root``, the call itself, and how a release is named."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent import banner
from agent.client import call
from agent.errors import BannerWrong
from agent.paths import HostPaths
from agent.roles import FUNCTIONS
from documents.canonical import Json
from documents.management import function_of
from vmgate.output import note

GREETED = "vmgate.greeted"

F = TypeVar("F", bound=Callable[..., Any])


def root_option(function: F) -> F:
    """Give a command the option ``--root``."""
    return click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("/"),
        envvar="VMGATE_ROOT",
        help="Where the host's files start (for tests and staged images).",
    )(function)


def ask(root: Path, verb: str, **arguments: str) -> dict[str, Json]:
    """Ask the agent of the host at ``root``. Before it changes something, the banner is shown."""
    function = function_of(FUNCTIONS, verb)
    if function is None or function.changes:
        greet(root)
    return call(HostPaths(root.absolute()).socket, verb, _actor(), **arguments)


def greet(root: Path) -> None:
    """Show the banner of a host to somebody who sits at a terminal (FTA_TAB.1), once for each command.

    Commands that ask something before they change something call this before they ask.
    """
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return
    context = click.get_current_context(silent=True)
    shown = context.meta if context is not None else {}  # it is shared with the contexts above
    if shown.get(GREETED):
        return
    shown[GREETED] = True
    try:
        text = banner.read(HostPaths(root.absolute()).banner)
    except BannerWrong as error:
        note(error.line())
        return
    for line in text.removesuffix("\n").split("\n") if text else ():
        note(line)


def release(version: dict[str, Any]) -> str:
    """The release of a VM that runs or is installed, for people."""
    return f"{version['channel']} {version['number']} on platform {version['platform']}"


def _actor() -> str:
    """The person behind the command, as far as this process knows; the agent adds the user id it sees."""
    sudo = os.environ.get("SUDO_USER", "")
    if sudo.replace("-", "").replace("_", "").isalnum() and len(sudo) <= 32:
        return f"command of {sudo}"
    try:
        return f"command of {pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return "command"
