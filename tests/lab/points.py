# SPDX-License-Identifier: Apache-2.0
"""How many points the crash matrix has. ``PYTHONPATH=tests python -m lab.points`` writes them into the documentation.

It counts without judging: ``tests/crash/test_matrix.py`` judges, and requires that it saw no fewer points than the
documentation states.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from content import effects
from lab.crash import CrashPoint, crash_points, cuts, record
from lab.faults import refusals
from lab.matrix import ROWS, UPDATES, Row, Stage, stage

PAGE = Path(__file__).resolve().parents[2] / "docs/crash-matrix.md"
LINE = re.compile(r"^\| ([a-z: -]+) \| ([0-9]+) \| ([0-9]+) \| ([0-9]+) \|$", re.MULTILINE)
HEAD = "| operation: step | states after a cut | refused effects | states after a second cut |\n|---|---:|---:|---:|\n"
SAMPLE = 13
"""Of so many states after a cut, one is cut again while it is recovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Counts by operation and step, such as ``update over the network: fetch``."""

    cuts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    second_cuts: Counter[str] = field(default_factory=Counter)


def place(row: Row, step: str) -> str:
    """How an operation and its step are named."""
    return f"{row.name}: {step}" if step else row.name


def second_points(scratch: Path, row: Row, play: Stage) -> Iterator[tuple[CrashPoint, CrashPoint]]:
    """Of some states after a cut, every state that a second cut during the next start can leave."""
    start, recorded = record(scratch, row.prepare, row.operation)
    for index, cut in enumerate(cuts(start, recorded, row.operation)):
        if index % SAMPLE == SAMPLE // 2:
            state, inner = scratch / "first", scratch / "inner"
            first = CrashPoint(label=cut.label, step=cut.step, root=state, finished=cut.make(state))
            inner.mkdir()
            for second in crash_points(inner, partial(_copy, state), play.recover):
                yield first, second
            shutil.rmtree(inner)
            shutil.rmtree(state)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def stated() -> Points:
    """What the documentation states."""
    points = Points()
    for name, *counts in LINE.findall(PAGE.read_text()):
        points.cuts[name], points.refusals[name], points.second_cuts[name] = map(int, counts)
    return points


def count(play: Stage, folder: Path) -> Points:
    """Count all points; those after a second cut are made for it, the others not."""
    points = Points()
    for number, name in enumerate(ROWS):
        row, scratch = play.row(name), folder / str(number)
        scratch.mkdir()
        start, recorded = record(scratch, row.prepare, row.operation)
        points.cuts.update(place(row, cut.step) for cut in cuts(start, recorded, row.operation))
        points.refusals.update(place(row, recorded.step_of(effect=index)) for index, _ in refusals(recorded))
        if name in UPDATES:
            again = scratch / "again"
            again.mkdir()
            points.second_cuts.update(place(row, first.step) for first, _ in second_points(again, row, play))
    return points


def table(points: Points) -> str:
    """The table of the documentation."""
    names = [*points.cuts, *(name for name in points.refusals if name not in points.cuts)]
    rows = [(n, points.cuts[n], points.refusals[n], points.second_cuts[n]) for n in names]
    rows.append(("in all", points.cuts.total(), points.refusals.total(), points.second_cuts.total()))
    return HEAD + "".join(f"| {name} | {cuts} | {refusals} | {second} |\n" for name, cuts, refusals, second in rows)


def main() -> None:
    """Count, and replace the table in the page."""
    # What is durable is the model's part; no disk need turn for it.
    effects.fsync = lambda _: None
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder) / "publisher") as play:
        made = table(count(play, Path(folder)))
    text = PAGE.read_text()
    begin = text.index(HEAD)
    end = text.index("\n\n", begin) + 1 if "\n\n" in text[begin:] else len(text)
    PAGE.write_text(text[:begin] + made + text[end:])
    sys.stdout.write(made)


if __name__ == "__main__":
    main()
