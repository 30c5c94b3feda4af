# SPDX-License-Identifier: Apache-2.0
"""``init`` names the VMs that are there, since they are refused from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import setup
from agent.setup import DOMAINS, MAX_NAMED, defined_domains


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / DOMAINS / "networks").mkdir(parents=True)
    (tmp_path / DOMAINS / "networks/default.xml").touch()
    return tmp_path


def test_the_vms_that_are_defined_are_named(root: Path) -> None:
    for name in ("web", "mail"):
        (root / DOMAINS / f"{name}.xml").touch()
    assert defined_domains(root) == ("mail", "web")
    assert setup._named(defined_domains(root)).endswith("here: mail, web")


def test_where_none_is_nothing_is_said(root: Path, tmp_path: Path) -> None:
    assert defined_domains(root) == defined_domains(tmp_path / "nothing") == ()
    assert setup._named(()) == ""


def test_many_are_counted() -> None:
    said = setup._named(tuple(f"vm{number:02}" for number in range(MAX_NAMED + 3)))
    assert said.endswith("vm19 and 3 more")
