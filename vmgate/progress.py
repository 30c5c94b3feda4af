# SPDX-License-Identifier: Apache-2.0
"""Progress of a running update on standard error: bytes, rate, time left. Drawn on a terminal, lines elsewhere.

While one connection to the agent waits for the update's result, another asks for its newest numbers. What goes wrong
with that is no failure of the update, so it ends the drawing and is not told. Rich is loaded only here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from documents.errors import VmgateError
from vmgate.commands.host import ask

F = TypeVar("F", bound=Callable[..., Any])

INTERVAL = 0.5
"""Seconds between two questions."""
PERIOD = 10
"""One question in so many becomes a line where nothing can be drawn."""


def progress_option(function: F) -> F:
    """Give a command the options ``--progress`` and ``--quiet``; neither means: on a terminal."""
    return click.option(
        "--progress/--quiet",
        "progress",
        default=None,
        help="Show how far it is, on standard error; by default if that is a terminal.",
    )(function)


@contextmanager
def shown(root: Path, wanted: bool | None) -> Iterator[None]:
    """Show the progress of what the agent does for the block.

    Args:
        root: of the host.
        wanted: as ``progress_option`` has it.
    """
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield
        return
    ended = threading.Event()
    follower = threading.Thread(target=_follow, args=(root, ended), daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def _follow(root: Path, ended: threading.Event) -> None:
    from rich.console import Console  # loaded only when something is drawn
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    numbers = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    drawing = Progress(TextColumn("fetching"), BarColumn(), *numbers, console=Console(stderr=True))
    task = drawing.add_task("", total=None)
    terminal = sys.stderr.isatty()
    asked = 0
    with ExitStack() as stack:
        while not ended.wait(INTERVAL):
            try:
                told: dict[str, Any] = ask(root, "update/progress")
            except VmgateError:
                return
            if not told["running"]:
                continue
            if not asked and terminal:
                stack.enter_context(drawing)
            drawing.update(task, completed=told["done"], total=told["total"])
            if not terminal and asked % PERIOD == 0:
                click.echo("fetching " + " ".join(str(c.render(drawing.tasks[0])) for c in numbers), err=True)
            asked += 1
