# SPDX-License-Identifier: Apache-2.0
"""Manual pages from the command's own parser: one for the command, one for each of its groups with all their verbs.

The words are those that ``--help`` prints. A page is roff by man(7); what begins a request there is escaped.
Run as a program, ``manpages.py FOLDER DATE`` writes the pages of the vmgate that Python finds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from documents.errors import Exit

ESCAPES = str.maketrans({"\\": "\\e", "-": "\\-", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga"})
FILES = (
    ("/etc/vmgate/vmgate.toml", "the settings of this host"),
    ("/etc/vmgate/roles.toml", "who besides root may do what"),
    ("/var/lib/vmgate", "trust anchor, releases, content, audit trail and the VMs' files"),
    ("/run/vmgate/agent.sock", "the agent's socket"),
    ("/etc/libvirt/hooks/qemu", "libvirt's hook, written by init(1)"),
)


def pages(cli: click.Group, version: str, date: str) -> Iterator[tuple[str, str]]:
    """File name and text of each page.

    Args:
        cli: the command, named vmgate.
        version: of vmgate, for the pages' foot.
        date: ``YYYY-MM-DD``, for the same.
    """
    context = click.Context(cli, info_name="vmgate")
    names = [name for name in cli.list_commands(context) if not _command(cli, context, name).hidden]
    others = "".join(_item(_bold(f"vmgate-{name}") + "(1)", _short(_command(cli, context, name))) for name in names)
    files = "".join(_item(f"\\fI{escaped(path)}\\fR", text) for path, text in FILES)
    yield (
        "vmgate.1",
        _head("vmgate", _short(cli), version, date)
        + _section("SYNOPSIS", ".nh\n" + _bold("vmgate") + " \\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]\n")
        + _section("DESCRIPTION", _text(cli.help))
        + _section("COMMANDS", others)
        + _section("EXIT STATUS", _exits())
        + _section("FILES", files)
        + _section("SEE ALSO", "libvirtd(8), virsh(1), swtpm(8)\n"),
    )
    for name in names:
        command = _command(cli, context, name)
        inner = click.Context(command, info_name=name, parent=context)
        text = _head(f"vmgate-{name}", _short(command), version, date) + "".join(_described(command, inner, top=True))
        yield f"vmgate-{name}.1", text + _section("SEE ALSO", _bold("vmgate") + "(1)\n")


def escaped(text: str) -> str:
    """Text as roff takes it: no escape of its own, no dash that becomes a hyphen, no request at a line's start."""
    plain = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha").replace("`", "\\(ga")
    )
    return re.sub(r"^(?=[.'])", r"\\&", plain, flags=re.MULTILINE)


def _described(command: click.Command, context: click.Context, *, top: bool) -> Iterator[str]:
    """A command, and what is below it."""
    usage = f"{_bold(context.command_path)} " + " ".join(map(escaped, command.collect_usage_pieces(context)))
    if top:
        yield _section("SYNOPSIS", f".nh\n{usage}\n") + _section("DESCRIPTION", _text(command.help))
    else:
        yield f".SS {_quoted(context.command_path)}\n.nh\n{usage}\n.hy\n.PP\n{_text(command.help)}"
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    options = "".join(_item(_bold(name), text) for name, text in records)
    if options and top:
        yield _section("OPTIONS", options)
    elif options:
        yield options
    if isinstance(command, click.Group):
        if top:
            yield ".SH VERBS\n"
        for name in command.list_commands(context):
            verb = _command(command, context, name)
            if not verb.hidden:
                yield from _described(verb, click.Context(verb, info_name=name, parent=context), top=False)


def _command(group: click.Group, context: click.Context, name: str) -> click.Command:
    found = group.get_command(context, name)
    if found is None:
        raise ValueError(f"{group.name} lists {name} and does not have it")
    return found


def _head(name: str, short: str, version: str, date: str) -> str:
    foot = f"{_quoted(date)} {_quoted('vmgate ' + version)}"
    return (
        f'.\\" SPDX-License-Identifier: Apache-2.0\n.TH {_quoted(name.upper())} 1 {foot} "vmgate"\n'
        f".SH NAME\n{escaped(name)} \\- {escaped(short)}\n"
    )


def _section(title: str, body: str) -> str:
    return f".SH {title}\n{body}"


def _item(term: str, text: str) -> str:
    return f".TP\n{term}\n{_text(text)}"


def _quoted(text: str) -> str:
    return '"' + escaped(text).replace('"', "\\(dq") + '"'


def _bold(text: str) -> str:
    return f"\\fB{escaped(text)}\\fR"


def _short(command: click.Command) -> str:
    """One line, without the stop at its end (man-pages(7))."""
    words = " ".join((command.help or "").partition("\n\n")[0].split()).rstrip(".")
    return words[:1].lower() + words[1:] if words[1:2].islower() else words


def _text(text: str | None) -> str:
    """Paragraphs; those that click is told not to wrap, by a backspace before them, stay as they are."""
    parts = []
    for untouched in (text or "").strip().split("\n\n"):
        paragraph = untouched.strip("\n")
        if paragraph.lstrip().startswith("\b"):
            lines = paragraph.split("\n")[1:]
            parts.append(".nf\n" + "\n".join(escaped(line) for line in lines) + "\n.fi\n")
        elif paragraph:
            parts.append(escaped(" ".join(paragraph.split())) + "\n")
    return ".PP\n".join(parts)


def _exits() -> str:
    return "".join(_item(str(int(code)), code.name.replace("_", " ").lower()) for code in Exit)


if __name__ == "__main__":
    folder, day = sys.argv[1:]
    from importlib.metadata import version as version_of

    from vmgate.main import cli as vmgate

    for file, page in pages(vmgate, version_of("vmgate"), day):
        Path(folder, file).write_text(page)
