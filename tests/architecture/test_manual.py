# SPDX-License-Identifier: Apache-2.0
"""The manual: pages that are made from code are as the code is, and commands that it shows are commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest

from lab.pages import PAGES
from lab.picture import ARROWS, BOXES, PICTURE
from vmgate.main import cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SHOWN = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(DOCS / "guide").glob("*.md")])
ENDS = {"|", "||", "&&", ";", ">", ">>", "<", "&", ")", "2>"}
"""Words that end a command in a line of a shell."""


def blocks(text: str) -> Iterator[list[str]]:
    """Each block of code: indented by four and more behind an empty line, or between fences; ``text`` is output."""
    text = re.sub(r"^```text\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    block: list[str] = []
    fenced = False
    before = ""
    for line in [*text.splitlines(), ""]:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and (block or not before.strip())):
            block.append(line.strip())
        elif line.strip():
            yield block
            block = []
        before = line
    yield block


def commands(text: str) -> Iterator[list[str]]:
    """What follows `vmgate` in lines of blocks, up to where the shell ends the command."""
    for block in blocks(text):
        for line in "\n".join(block).replace("\\\n", " ").splitlines():
            match = re.match(r"(?:[$#] )?(?:sudo )?(?:\.venv/bin/)?vmgate (?!GROUP)(.*)", line)
            if match is None:
                continue
            words = shlex.split(match[1], comments=True)
            end = next((number for number, word in enumerate(words) if word in ENDS), len(words))
            yield words[:end]


def require_parses(words: list[str]) -> None:
    """Refuse words that the parser would refuse; files need not be there."""
    command: click.Command = cli
    context = click.Context(cli, info_name="vmgate")
    left = list(words)
    while isinstance(command, click.Group):
        name, found, left = command.resolve_command(context, left)
        assert found is not None
        command, context = found, click.Context(found, context, name)
    given, unread, _ = command.make_parser(context).parse_args(left)
    assert not unread or context.allow_extra_args, f"{unread} too much"
    for parameter in command.params:
        value = given.get(parameter.name or "")
        absent = value is None or value == () or "UNSET" in repr(value)
        assert not (parameter.required and absent), f"{parameter.name} is missing"
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type.convert(value, parameter, context)


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_shown_is_one(page: Path) -> None:
    for words in commands(page.read_text()):
        if "..." in words or "…" in words:
            continue
        try:
            require_parses(words)
        except (click.ClickException, AssertionError) as error:
            pytest.fail(f"vmgate {shlex.join(words)}: {error}")


def test_commands_are_found_and_wrong_ones_refused() -> None:
    shown = "Text\n\n    vmgate vm start NAME   # starts\n    $ sudo vmgate update \\\n        apply\n\n"
    shown += "```\nvmgate vm list | head\n```\n"
    assert list(commands(shown)) == [["vm", "start", "NAME"], ["update", "apply"], ["vm", "list"]]
    for wrong in ("vm strat NAME", "vm start", "vm start NAME --fast", "version more", "vm list -o xml"):
        with pytest.raises((click.ClickException, AssertionError)):
            require_parses(wrong.split())
    assert sum(len(list(commands(page.read_text()))) for page in SHOWN) > 50, "the guides show many"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_that_is_made_from_code_is_as_the_code_is(path: Path) -> None:
    assert path.read_text() == PAGES[path](), "write them anew: PYTHONPATH=tests python -m lab.pages"


def test_the_picture_stands_alone_and_shows_every_part() -> None:
    text = PICTURE.read_text()
    root = ET.fromstring(text)
    assert not re.search(r"href|<script|@import|url\((?!#)", text), "nothing is fetched"
    shown = " ".join(element.text or "" for element in root.iter() if element.tag.endswith("text"))
    assert all(line in shown for box in BOXES.values() for line in box.lines)
    assert {name for arrow in ARROWS for name in (arrow.start, arrow.end)} == set(BOXES)


def test_every_page_is_in_the_navigation() -> None:
    """Sphinx says so as well; this says it without Sphinx."""
    index = (DOCS / "index.md").read_text()
    listed = {
        line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.splitlines()
    }
    for page in DOCS.rglob("*.md"):
        name = str(page.relative_to(DOCS).with_suffix(""))
        by_index = {"adr/0": "adr/README.md", "benchmarks-": "benchmarks.md"}
        lists = [DOCS / path for start, path in by_index.items() if name.startswith(start)]
        assert name in listed | {"index"} or any(f"({page.name})" in path.read_text() for path in lists), name


def test_every_file_of_the_navigation_exists() -> None:
    index = (DOCS / "index.md").read_text()
    for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL):
        for line in block.splitlines():
            if line and not line.startswith(":") and "*" not in line:
                assert (DOCS / f"{line}.md").is_file(), line
