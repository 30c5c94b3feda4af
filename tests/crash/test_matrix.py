# SPDX-License-Identifier: Apache-2.0
"""The crash matrix: whatever changes files, cut or refused anywhere, leaves the old state or the new one, and goes on."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from lab.crash import crash_points
from lab.faults import fault_points
from lab.matrix import Row, Stage

ROWS = (
    "update over the network",
    "import of a bundle",
    "first import",
    "rollback before confirmation",
    "rollback after confirmation",
    "an update given up",
    "repair of a damaged file",
    "garbage collection",
    "publication",
    "refresh of a repository",
    "writing of a bundle",
)


def row_of(play: Stage, name: str) -> Row:
    return next(row for row in play.rows() if row.name == name)


def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ROWS)
def test_a_cut_anywhere(play: Stage, tmp_path: Path, name: str) -> None:
    row = row_of(play, name)
    counts: Counter[str] = Counter()
    bad = []
    for point in crash_points(scratch(tmp_path), row.prepare, row.operation):
        counts[point.step] += 1
        try:
            row.check(point.root, point.finished)
        except Exception as e:
            bad.append((point.step, point.label, repr(e)))
    print(name, counts.total(), counts)
    for b in bad[:30]: print(b)
    assert not bad


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ROWS)
def test_a_fault_anywhere(play: Stage, tmp_path: Path, name: str) -> None:
    row = row_of(play, name)
    counts: Counter[str] = Counter()
    bad = []
    for point in fault_points(scratch(tmp_path), row.prepare, row.operation):
        counts[point.step] += 1
        try:
            assert not point.distrusted
            shutil.copytree(point.root, tmp_path / "again", symlinks=True)
            if not point.fault.lasting: row.again(tmp_path / "again")
        except Exception as e:
            bad.append((point.step, point.label, "again", repr(e)))
        shutil.rmtree(tmp_path / "again")
        try:
            row.check(point.root, point.finished)
        except Exception as e:
            bad.append((point.step, point.label, repr(e)))
    print(name, counts.total(), counts)
    for b in bad[:60]: print(b)
    assert not bad
