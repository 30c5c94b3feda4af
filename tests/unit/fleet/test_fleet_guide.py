# SPDX-License-Identifier: Apache-2.0
"""The guide tells of all that the fleet records, and of every rule."""

from __future__ import annotations

import re
from pathlib import Path

from documents.management import ADMINISTRATOR, ALL, AUDITOR, FLEET_FUNCTIONS, FLEET_ROLES
from fleet.account_rules import RANGES, Rules
from fleet.database import Database
from fleet.metrics import told
from fleet.migrate import migrate
from fleet.trail import EVENTS

GUIDE = (Path(__file__).resolve().parents[3] / "docs/guide/fleet.md").read_text()


def rows(heading: str) -> list[str]:
    """The first column of the table below a heading."""
    part = GUIDE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]


def test_it_has_each_event_once() -> None:
    told = [name for row in rows("The fleet's own audit trail") for name in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(told) == sorted(EVENTS)


def test_it_has_each_rule_with_its_range() -> None:
    for name, allowed in RANGES.items():
        (row,) = [line for line in GUIDE.splitlines() if line.startswith(f"| `{name}` ")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[2:] == [str(allowed[0]), str(allowed[-1])]
        assert f"({getattr(Rules(), name)})" in cells[1]


def test_the_fleets_rows_are_of_the_table() -> None:
    verbs = [verb for function in FLEET_FUNCTIONS for verb in function.verbs]
    assert len(verbs) == len(set(verbs))
    assert [function.number for function in FLEET_FUNCTIONS] == [f"F{n}" for n in range(1, len(FLEET_FUNCTIONS) + 1)]
    for function in FLEET_FUNCTIONS:
        assert set(function.roles) <= set(FLEET_ROLES)
        assert set(function.roles.values()) == {ALL}
        assert function.roles[ADMINISTRATOR] == ALL
        assert AUDITOR not in function.roles or not function.changes
        assert not function.fresh or (function.changes and set(function.roles) == {ADMINISTRATOR})


def test_it_has_each_metric(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/fleet.db")
    migrate(database)
    with database.read() as connection:
        said = told(connection, "1", 1_800_000_000).decode()
    database.close()
    names = set(re.findall(r"^# TYPE (vmgate_fleet_\w+) ", said, re.MULTILINE))
    assert names == set(re.findall(r"`(vmgate_fleet_\w+)`", GUIDE))
