# SPDX-License-Identifier: Apache-2.0
"""The table of ways past the gate: each row is shown by a test that is there, and the page is the table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from agent.ways import CHANGES, POLICY, REFUSED, WATCH, WAYS, Way
from lab.ways_page import PAGE, page

TESTS = Path(__file__).resolve().parents[2]


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text() == page(), "write it anew: PYTHONPATH=tests python -m lab.ways_page"


def test_each_way_has_a_name_of_its_own() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_each_way_is_shown_by_a_test_that_is_there(way: Way) -> None:
    name, _, function = way.test.partition("::")
    tree = ast.parse((TESTS / name).read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_no_way_is_left_open() -> None:
    """What the watch finds is answered, and what is refused is met by somebody who can refuse."""
    assert all(way.met == WATCH for way in WAYS if way.answer == POLICY)
    assert not [way for way in WAYS if way.answer == REFUSED and way.met == WATCH], "the watch comes too late for that"


def test_each_row_that_shares_a_test_is_a_case_of_it() -> None:
    """The tests of changes take their cases from the table by name; see there."""
    source = (TESTS / "integration/gate/test_watch.py").read_text()
    shared = [way.name for way in WAYS if [other.test for other in WAYS].count(way.test) > 1]
    assert len(shared) > len(CHANGES) // 2
    assert [name for name in shared if f'"{name}"' not in source] == []
