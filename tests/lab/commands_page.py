# SPDX-License-Identifier: Apache-2.0
"""The reference of commands, from the parser. ``PYTHONPATH=tests python -m lab.commands_page`` writes it anew."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from documents.errors import Exit
from vmgate.main import COMMANDS, cli

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/commands.md"
HEAD = """# Commands
`vmgate GROUP VERB`, as its own `--help` tells it. Every command has `--help`; most have `-o table|json|yaml`, whose
JSON and YAML name their version. `NO_COLOR` is respected, progress goes to standard error, and
`vmgate completion SHELL` makes a shell complete all of it. An error is one line, `error[CODE]: what; cause; remedy`;
[the errors](errors.md) tell more. This page is made from the parser: `PYTHONPATH=tests python -m lab.commands_page`.

"""
SHARED = {"output", "quiet"}
"""Options whose meaning stands in the head of the page."""


def page() -> str:
    """The whole page."""
    parts = [HEAD, _exits(), _overview()]
    context = click.Context(cli, info_name="vmgate")
    for name in sorted(COMMANDS):
        command = cli.get_command(context, name)
        assert command is not None
        parts.append("\n".join(_section(command, f"vmgate {name}", click.Context(command, context, name), 2)))
    return "\n".join(parts)


def _exits() -> str:
    rows = [f"| {int(code)} | {code.name.lower().replace('_', ' ')} |" for code in sorted(Exit, key=int)]
    return "## Exit codes\n| exit | |\n|---|---|\n" + "\n".join(rows) + "\n"


def _overview() -> str:
    rows = [f"| [`vmgate {name}`](#vmgate-{name}) | {text} |" for name, (_, text) in sorted(COMMANDS.items())]
    return "## Groups\n| group | |\n|---|---|\n" + "\n".join(rows) + "\n"


def _section(command: click.Command, path: str, context: click.Context, depth: int) -> Iterator[str]:
    yield f"{'#' * depth} {path}"
    yield from _paragraphs(command)
    if isinstance(command, click.Group):
        yield ""
        for verb in command.list_commands(context):
            child = command.get_command(context, verb)
            assert child is not None
            yield from _section(child, f"{path} {verb}", click.Context(child, context, verb), depth + 1)
        return
    pieces = command.collect_usage_pieces(context)
    yield ""
    yield from _indented(" ".join([path, *pieces]))
    rows = [_row(option) for option in command.params if isinstance(option, click.Option) and not option.hidden]
    told = [row for row in rows if row]
    if told:
        yield ""
        yield "| option | |"
        yield "|---|---|"
        yield from told
    yield ""


def _paragraphs(command: click.Command) -> Iterator[str]:
    text = (command.help or "").replace("\b", "")
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ""
        yield textwrap.fill(" ".join(paragraph.split()), 120, break_long_words=False, break_on_hyphens=False)


def _indented(text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text, 110, initial_indent="    ", subsequent_indent="        ", break_long_words=False, break_on_hyphens=False
    )


def _row(option: click.Option) -> str:
    if option.name in SHARED and not option.required:
        return ""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = "" if option.is_flag or option.count else _kind(option)
    said = " ".join(part for part in (option.help or "", "Required." if option.required else "") if part)
    return f"| {names}{kind} | {said.replace('|', chr(92) + '|')}{' May be given again.' if option.multiple else ''} |"


def _kind(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return " " + " or ".join(f"`{choice}`" for choice in option.type.choices)
    return f" {option.metavar or option.type.name.upper()}"


if __name__ == "__main__":
    PAGE.write_text(page())
