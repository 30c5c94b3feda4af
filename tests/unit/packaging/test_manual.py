# SPDX-License-Identifier: Apache-2.0
"""The manual pages say what the command's parser knows, and roff has nothing to say about them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deb.manpages import escaped, pages
from vmgate.main import COMMANDS, cli

DATE = "2026-01-01"


@pytest.fixture(scope="module")
def manual() -> dict[str, str]:
    """All pages of vmgate."""
    return dict(pages(cli, "1.2.3", DATE))


def shown(page: str) -> str:
    """A page as a reader sees it; what groff complains about is an error."""
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-c", "-P-b", "-P-u", "-rLL=200n"],
        input=page, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def verbs(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Everything that can be called, with its whole name."""
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            if not inner.hidden:
                yield from verbs(inner, click.Context(inner, info_name=name, parent=context))


def test_there_is_a_page_for_each_group(manual: dict[str, str]) -> None:
    assert sorted(manual) == sorted(["vmgate.1", *(f"vmgate-{name}.1" for name in COMMANDS)])


def test_every_verb_and_every_option_has_its_place(manual: dict[str, str]) -> None:
    root = click.Context(cli, info_name="vmgate")
    for name in COMMANDS:
        text = " ".join(shown(manual[f"vmgate-{name}.1"]).replace("\u2212", "-").split())
        command = cli.get_command(root, name)
        assert command is not None
        for path, verb, context in verbs(command, click.Context(command, info_name=name, parent=root)):
            assert path in text
            for parameter in verb.params:
                record = parameter.get_help_record(context)
                assert record is None or " ".join(record[0].split()) in text, (path, record)


def test_hidden_verbs_are_not_told(manual: dict[str, str]) -> None:
    assert "mapper" not in manual["vmgate-agent.1"]


def test_the_first_page_names_the_others_and_the_exit_codes(manual: dict[str, str]) -> None:
    text = shown(manual["vmgate.1"])
    for name in COMMANDS:
        assert f"vmgate-{name}(1)" in text
    assert "refused" in text
    assert "vmgate 1.2.3" in text
    assert DATE in text


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60))
def test_no_text_is_a_request_or_an_escape(text: str) -> None:
    line = escaped(text)
    assert not line.startswith((".", "'"))
    assert "\\" not in line.replace("\\e", "").replace("\\-", "").replace("\\&", "").replace("\\(", "")
