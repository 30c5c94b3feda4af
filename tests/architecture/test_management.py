# SPDX-License-Identifier: Apache-2.0
"""Every verb of the agent's socket belongs to one management function, and every function says who has it."""

from __future__ import annotations

import re
from pathlib import Path

from lxml import etree

from agent.roles import ELSEWHERE, FUNCTIONS, STALE
from documents.management import ADMINISTRATOR, ALL, AUDITOR, OWN, ROLES, USER
from lab.roles_page import PAGE, page

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "agent/units/org.vmgate.policy"
NOT_FOR_USERS = {"1", "2", "6", "12", "15", "16", "18", "20", "27"}
"""Rows of FMT_MOF_EXT.1 that no user may have."""


def test_each_verb_belongs_to_one_function() -> None:
    """Read from the source: making the service would need a whole host."""
    sources = (*sorted((ROOT / "agent").glob("*service.py")), *sorted((ROOT / "agent").glob("*_verbs.py")))
    served = [verb for source in sources for verb in re.findall(r'"([a-z]+/[a-z]+|status)": ', source.read_text())]
    listed = [verb for function in FUNCTIONS for verb in function.verbs]
    assert served
    assert sorted(listed) == sorted({*served, STALE}), "give it a row in agent/roles.py"


def test_each_row_of_the_requirement_is_somewhere() -> None:
    numbers = [function.number for function in FUNCTIONS]
    required = [number for number in numbers if not number.startswith("V")]
    required += [number for row, _, _ in ELSEWHERE for number in row.split(", ")]
    assert sorted(required, key=int) == [str(number) for number in range(1, 28)]
    own = [number for number in numbers if number.startswith("V")]
    assert own == [f"V{number}" for number in range(1, len(own) + 1)]


def test_what_users_must_not_have_they_have_not() -> None:
    for function in FUNCTIONS:
        assert function.roles.keys() <= ROLES.keys()
        assert set(function.roles.values()) <= {ALL, OWN}
        assert function.roles.get(USER) in (None, OWN), "users have what is about their VMs, and nothing else"
        assert function.number not in NOT_FOR_USERS or USER not in function.roles
        assert AUDITOR not in function.roles or not function.changes
        assert not function.roles or function.roles[ADMINISTRATOR] == ALL


def test_libvirts_hook_is_for_root_alone() -> None:
    hook = [function for function in FUNCTIONS if any(verb.startswith("gate/") for verb in function.verbs)]
    assert [dict(function.roles) for function in hook] == [{}]


def test_what_changes_trust_asks_for_a_password_each_time() -> None:
    asked = {function.fresh for function in FUNCTIONS if function.fresh}
    assert asked == {"roles", "approve", "local", "networks", "recovery", "stale", "disks", "devices"}
    assert all(set(f.roles) == {ADMINISTRATOR} and f.changes for f in FUNCTIONS if f.fresh)
    actions = etree.parse(POLICY).getroot().findall("action")
    assert {action.get("id") for action in actions} == {f"org.vmgate.{name}" for name in asked}
    for action in actions:
        defaults = {choice.tag: choice.text for choice in action.findall("defaults/*")}
        assert defaults == dict.fromkeys(("allow_any", "allow_inactive", "allow_active"), "auth_admin")


def test_the_manual_is_made_from_the_table() -> None:
    assert PAGE.read_text() == page(), "write it anew: PYTHONPATH=tests python -m lab.roles_page"
