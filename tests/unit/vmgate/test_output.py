# SPDX-License-Identifier: Apache-2.0
"""Output: one shape for programs, aligned text for people, and nothing that acts on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
from contextlib import redirect_stderr, redirect_stdout

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab.command import GUARD, clean_environment
from lab.publisher import VMGATE
from vmgate import output

TEXT = st.text(max_size=30)
HOSTILE = "\x1b[31m\r\n\x07\x00\x9b\u202e\u2028\x7f\t"


def printed(*rows: list[object], headings: tuple[str, ...] = ("ONE", "TWO")) -> list[str]:
    with redirect_stdout(io.StringIO()) as out:
        output.table(headings, rows)
    text = out.getvalue()
    assert text.endswith("\n")
    return text[:-1].split("\n")


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_a_table_in_a_pipe_is_aligned_plain_text(rows: list[tuple[str, str]]) -> None:
    lines = printed(*map(list, rows))
    assert len(lines) == 1 + len(rows)
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("ONE")
    column = lines[0].index("TWO")
    for line, (first, second) in zip(lines[1:], rows, strict=True):
        assert line[:column].rstrip() == output.printable(first).rstrip()
        assert line[column:] == output.printable(second).rstrip()


def test_a_table_shows_what_is_no_text() -> None:
    assert printed([1, None], ["a long one", True]) == ["ONE         TWO", "1           None", "a long one  True"]
    assert printed() == ["ONE  TWO"]


@given(TEXT)
def test_control_characters_become_visible(text: str) -> None:
    shown = output.printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_no_line_acts_on_the_terminal() -> None:
    assert output.printable(HOSTILE) == "\\x1b[31m\\r\\n\\x07\\x00\\x9b\\u202e\\u2028\\x7f\\t"
    for write, redirect in ((output.say, redirect_stdout), (output.note, redirect_stderr)):
        with redirect(io.StringIO()) as out:
            write(HOSTILE)
        assert out.getvalue() == output.printable(HOSTILE) + "\n"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("form", ["json", "yaml"])
@given(value=st.dictionaries(TEXT.filter(lambda name: name != "api_version"), VALUES, max_size=4))
def test_programs_get_one_versioned_value_without_control_characters(form: str, value: dict[str, object]) -> None:
    with redirect_stdout(io.StringIO()) as out:
        output.show(form, value, lambda: pytest.fail("nothing is drawn"))
    text = out.getvalue()
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    read = json.loads(text) if form == "json" else yaml.safe_load(text)
    assert read == {"api_version": 1, **value}


def test_a_form_fixed_elsewhere_has_no_version_of_ours() -> None:
    with redirect_stdout(io.StringIO()) as out:
        output.show("json", {"format": "x"}, lambda: None, versioned=False)
    assert json.loads(out.getvalue()) == {"format": "x"}


def on_a_terminal(*words: str, **environment: str) -> str:
    """What a command writes to a terminal."""
    outer, inner = pty.openpty()
    try:
        subprocess.run(
            [VMGATE, *words], stdout=inner, stdin=subprocess.DEVNULL, check=False, timeout=GUARD,
            env=clean_environment() | {"TERM": "xterm-256color", "COLUMNS": "200"} | environment,
        )  # fmt: skip
        os.close(inner)
        inner = -1
        text = b""
        try:
            while part := os.read(outer, 65_536):
                text += part
        except OSError:  # the terminal's last writer is gone
            pass
        return text.decode()
    finally:
        os.close(outer)
        if inner >= 0:
            os.close(inner)


def test_a_terminal_gets_a_drawn_table_unless_it_wants_none(tmp_path: object) -> None:
    words = ("audit", "list", "--root", str(tmp_path))
    drawn = on_a_terminal(*words)
    assert "OUTCOME" in drawn
    assert any(line in drawn for line in ("━", "─"))
    plain = on_a_terminal(*words, NO_COLOR="1")
    assert plain.split() == ["NO", "TIME", "EVENT", "OUTCOME", "SUBJECT", "ACTOR", "DETAILS"]
    assert "\x1b" not in plain
