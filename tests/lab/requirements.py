# SPDX-License-Identifier: Apache-2.0
"""The table of requirements, ``tests/sfr.toml``, read strictly, and where the tests that it names run.

Standard library only: the last step of CI reads it in an environment without anything else. It runs no test, and knows
no outcome; ``lab.evidence`` compares.
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests/sfr.toml"
TIERS = ("mandatory", "selection-based", "optional", "objective")
CLAIMED, PARTLY, HARDWARE, ELSEWHERE, NOT_YET = CLAIMS = (
    "claimed", "partly", "needs hardware", "not applicable", "not yet"
)  # fmt: skip
BY_FOLDER = {
    "architecture": "unit", "attacks": "integration", "conformance": "integration", "crash": "unit", "fuzz": "unit",
    "integration": "integration", "rig": "rig", "unit": "unit",
}  # fmt: skip
RUNNERS = ("unit", "integration", "rig", "long")
NODE = re.compile(r"tests/[\w/]+\.py::test_\w+")


class BadTable(Exception):
    """The table says what it may not say; the message names the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One security functional requirement.

    Attributes:
        id: as the Protection Profile, its module or a functional package has it.
        title: in our words.
        tier: how binding the profile makes it.
        claim: what we say of it.
        how: how it is satisfied, or what stands in its place.
        missing: what is not there, or why it does not apply; empty exactly where it is claimed.
        tests: ``path::function`` of each test that shows it; all of its cases must pass.
    """

    id: str
    title: str
    tier: str
    claim: str
    how: str = ""
    missing: str = ""
    tests: tuple[str, ...] = ()

    @property
    def runners(self) -> tuple[str, ...]:
        """Where its tests run, in the order of RUNNERS."""
        found = {runner(test) for test in self.tests}
        return tuple(name for name in RUNNERS if name in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullet:
    """One requirement of the ESR: it is what the requirements of the profile behind it are, and claims nothing itself.

    Attributes:
        id: our short name for it.
        title: in our words.
        by: ids of the requirements that answer it.
    """

    id: str
    title: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All of it, in the order of the file."""

    bullets: tuple[Bullet, ...]
    requirements: tuple[Requirement, ...]
    by_id: dict[str, Requirement] = field(default_factory=dict)


def read(text: str) -> Table:
    """The table.

    Raises:
        BadTable: an unknown or missing member, a row twice, or one whose claim does not fit what it shows.
    """
    raw = tomllib.loads(text)
    if set(raw) != {"bullet", "requirement"}:
        raise BadTable(f"has the members {sorted(raw)}")
    rows = tuple(_requirement(entry) for entry in raw["requirement"])
    by_id = {row.id: row for row in rows}
    if len(by_id) != len(rows):
        raise BadTable("has a requirement twice")
    bullets = []
    for entry in raw["bullet"]:
        bullet = Bullet(**{**entry, "by": tuple(entry["by"])})
        if unknown := [name for name in bullet.by if name not in by_id]:
            raise BadTable(f"{bullet.id}: no such requirement: {', '.join(unknown)}")
        bullets.append(bullet)
    return Table(tuple(bullets), rows, by_id)


def _requirement(entry: dict[str, object]) -> Requirement:
    name = str(entry.get("id"))
    if unknown := set(entry) - set(Requirement.__dataclass_fields__):
        raise BadTable(f"{name}: unknown member {', '.join(sorted(unknown))}")
    tests = entry.get("tests", [])
    if not isinstance(tests, list):
        raise BadTable(f"{name}: tests is no list")
    row = Requirement(**{**entry, "tests": tuple(tests)})  # type: ignore[arg-type]
    wrong = _wrong(row)
    if wrong:
        raise BadTable(f"{row.id}: {wrong}")
    return row


def _wrong(row: Requirement) -> str:
    """What is wrong with a row; empty if nothing is."""
    if row.tier not in TIERS or row.claim not in CLAIMS:
        return f"unknown tier or claim: {row.tier}, {row.claim}"
    if bad := [test for test in row.tests if not NODE.fullmatch(test)]:
        return f"not the name of a test: {bad[0]}"
    if len(set(row.tests)) != len(row.tests):
        return "names a test twice"
    if row.claim in {CLAIMED, PARTLY} and not (row.how and row.tests):
        return "is claimed and says not how, or names no test"
    if (row.claim == CLAIMED) != (not row.missing):
        return "what is missing is said exactly where something is"
    if row.claim == NOT_YET and row.tests:
        return "names tests for what is not there; call it partly"
    return ""


def runner(test: str) -> str:
    """Which of the runners runs a test.

    Raises:
        BadTable: there is no such test.
    """
    name, _, function = test.partition("::")
    long = _functions(name).get(function)
    if long is None:
        raise BadTable(f"there is no {test}")
    return "long" if long else BY_FOLDER[name.split("/")[1]]


@cache
def _functions(name: str) -> dict[str, bool]:
    """The tests of a module, and whether CI leaves each out for its length."""
    path = ROOT / name
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text())
    marks = [node for node in tree.body if isinstance(node, ast.Assign) and _named(node.targets, "pytestmark")]
    whole = any(_is_long(mark.value) for mark in marks)
    return {
        node.name: whole or any(_is_long(decorator) for decorator in node.decorator_list)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def _named(targets: list[ast.expr], name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _is_long(node: ast.expr) -> bool:
    return any(
        (isinstance(part, ast.Attribute) and part.attr == "long") or (isinstance(part, ast.Name) and part.id == "long")
        for part in ast.walk(node)
    )


def table() -> Table:
    """The table of this tree."""
    return read(TABLE.read_text())
