# SPDX-License-Identifier: Apache-2.0
"""The table of what opens under which release, epoch, boot, key and cut: expected is found, and the page says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.sealing_table import INTRODUCTION, PAGE, PARTS, Part


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title)
def test_expected_is_found_in_every_row(tmp_path: Path, part: Part) -> None:
    rows = []

    def noted(folder: Path) -> list[object]:
        rows.extend(part.rows(folder))
        return rows

    section = Part(title=part.title, words=part.words, columns=part.columns, rows=noted).section(tmp_path)
    assert {row.line() for row in rows if row.expected != row.found} == set()
    assert {row.expected for row in rows} == {True, False}
    assert section in PAGE.read_text(), "make it anew: PYTHONPATH=.:tests python -m lab.sealing_table DIR"


def test_the_page_has_nothing_else() -> None:
    text = PAGE.read_text()
    assert text.startswith(INTRODUCTION)
    assert text.count("\n## ") == len(PARTS)
