# SPDX-License-Identifier: Apache-2.0
"""The crash matrix: whatever changes files, cut or refused anywhere, leaves the old state or the new one, and goes on.

Equal states are judged once: the check of a row is a function of the state alone. ``docs/crash-matrix.md`` tells how
many points there are; ``lab.points`` counts them.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from content.durable import TEMPORARY
from lab.crash import crash_points
from lab.faults import fault_points
from lab.matrix import ROWS, UPDATES, Row, Stage
from lab.points import place, second_points, stated

EACH = pytest.mark.parametrize("name", ROWS)
PATIENT = pytest.mark.timeout(600)


class Judged:
    """Runs the check of a row, once for each state."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._seen: set[tuple[str, bool]] = set()

    def check(self, root: Path, label: str, *, finished: bool) -> None:
        key = (_state(root), finished)
        if key in self._seen:
            return
        self._seen.add(key)
        try:
            self._row.check(root, finished)
        except Exception as error:
            raise AssertionError(f"{self._row.name}: {label}") from error


def _state(root: Path) -> str:
    """A digest of all that is below a folder; unfinished things may have any name."""
    found = []
    for path in root.rglob("*"):
        name = re.sub(re.escape(TEMPORARY) + "[0-9a-f]{16}", TEMPORARY, str(path.relative_to(root)))
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found.append((name, path.lstat().st_mode, hashlib.sha256(content).hexdigest()))
    return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()


def _folder(below: Path, name: str) -> Path:
    folder = below / name
    folder.mkdir()
    return folder


def _require_stated(found: Counter[str], in_docs: Counter[str], name: str) -> None:
    """The documentation states no more points than there are; see ``lab.points``."""
    wanted = Counter({place: n for place, n in in_docs.items() if place.partition(":")[0] == name})
    assert found >= wanted, "write docs/crash-matrix.md anew: PYTHONPATH=tests python -m lab.points"


@PATIENT
@EACH
def test_a_cut_anywhere_leaves_old_or_new(play: Stage, tmp_path: Path, name: str) -> None:
    row, found = play.row(name), Counter[str]()
    judged = Judged(row)
    for point in crash_points(_folder(tmp_path, "scratch"), row.prepare, row.operation):
        found[place(row, point.step)] += 1
        judged.check(point.root, point.label, finished=point.finished)
    _require_stated(found, stated().cuts, name)


@PATIENT
@EACH
def test_a_refused_effect_leaves_old_or_new(play: Stage, tmp_path: Path, name: str) -> None:
    """After a new start as after a cut; and without one, unless the disk refused the way back as well."""
    row, found = play.row(name), Counter[str]()
    judged, seen = Judged(row), set()
    for point in fault_points(_folder(tmp_path, "scratch"), row.prepare, row.operation):
        found[place(row, point.step)] += 1
        assert not point.distrusted or point.fault.lasting, point.label
        key = (_state(point.root), point.fault.lasting)
        if key not in seen and not (point.fault.lasting and point.fault.number == errno.EIO):
            seen.add(key)
            again = shutil.copytree(point.root, tmp_path / "again", symlinks=True)
            row.again(again, point.fault.lasting)
            shutil.rmtree(again)
        judged.check(point.root, point.label, finished=point.finished)
    _require_stated(found, stated().refusals, name)


@PATIENT
@pytest.mark.parametrize("name", UPDATES)
def test_a_cut_while_a_cut_is_recovered(play: Stage, tmp_path: Path, name: str) -> None:
    row, found = play.row(name), Counter[str]()
    judged = Judged(row)
    for first, second in second_points(_folder(tmp_path, "scratch"), row, play):
        found[place(row, first.step)] += 1
        judged.check(second.root, f"{first.label}, then {second.label}", finished=first.finished)
    _require_stated(found, stated().second_cuts, name)


def test_the_documentation_states_every_row() -> None:
    points = stated()
    assert {name.partition(":")[0] for name in points.cuts} == {*ROWS, "in all"}
    for counts in (points.cuts, points.refusals, points.second_cuts):
        assert counts["in all"] == counts.total() - counts["in all"]
