# SPDX-License-Identifier: Apache-2.0
"""How results reach people and programs: a table, JSON or YAML on standard output, progress on standard error.

JSON output is one object with ``api_version``, in ASCII. Text that came from elsewhere is made printable. Rich is
loaded only when a table is drawn on a terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

API_VERSION = 1


def output_option(function: F) -> F:
    """Give a command the option ``-o``."""
    return click.option(
        "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", help="Form of the result."
    )(function)


def show(output: str, value: dict[str, Any], draw: Callable[[], None], *, versioned: bool = True) -> None:
    """Print a result.

    Args:
        output: ``table``, ``json`` or ``yaml``.
        value: the result as plain values.
        draw: prints it for people.
        versioned: add ``api_version``; formats fixed elsewhere go without.
    """
    if output == "table":
        draw()
        return
    full = {"api_version": API_VERSION, **value} if versioned else value
    if output == "json":
        click.echo(json.dumps(full, indent=2, sort_keys=True))
    else:
        import yaml  # loaded only where asked for: it costs 20 ms

        click.echo(yaml.safe_dump(full, sort_keys=True), nl=False)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows: drawn on a terminal, aligned plain text in a pipe."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        from rich.console import Console  # loaded only when something is drawn
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*headings)
        for row in cells:
            drawn.add_row(*[Text(cell) for cell in row])
        Console().print(drawn)
        return
    widths = [max(len(line[i]) for line in [list(headings), *cells]) for i in range(len(headings))]
    for line in [list(headings), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """Text in which every control character is visible instead of acting on the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Print one line of a result."""
    click.echo(printable(text))


def note(text: str) -> None:
    """Say something on standard error."""
    click.echo(printable(text), err=True)
