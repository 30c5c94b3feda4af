# SPDX-License-Identifier: Apache-2.0
"""The page of ways past the gate, made from the table. ``PYTHONPATH=tests python -m lab.ways_page`` writes it anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from agent.ways import CHANGES, STARTS, Way

PAGE = Path(__file__).resolve().parents[2] / "docs/gate-ways.md"
HEAD = """# Ways to a running VM
Every way in which a VM comes to run, or becomes another one while it runs, and who meets it. How the gate and the watch
work is told in [the guide](guide/gate.md). This page is made from `agent/ways.py`:
`PYTHONPATH=tests python -m lab.ways_page`.
"""
COLUMNS = "| way | how | who meets it | what becomes of it | shown by |\n|---|---|---|---|---|\n"


def page() -> str:
    """The whole page."""
    return f"{HEAD}\n## Starts\n{_rows(STARTS)}\n## Changes while it runs\n{_rows(CHANGES)}"


def _rows(ways: Iterable[Way]) -> str:
    rows = (f"| {way.name} | {way.how} | {way.met} | {way.answer} | `tests/{way.test}` |\n" for way in ways)
    return COLUMNS + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
