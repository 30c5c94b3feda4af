# SPDX-License-Identifier: Apache-2.0
"""A power cut while a host keeps its place, a pause or its last contact leaves the old word or the new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.audit import AuditTrail, records
from agent.contact import Contact
from agent.pause import Pause
from agent.wave_place import wave_place
from documents.unattended import WavePlace
from lab.crash import crash_points

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
NOW = 1_800_000_000
DAY = 86_400


def _trail(root: Path, now: int = NOW) -> AuditTrail:
    return AuditTrail(root / "audit", lambda: now, BOOT)


def _pause(root: Path) -> Pause:
    return Pause(root / "update-pause", _trail(root), lambda: NOW)


def _contact(root: Path, now: int = NOW) -> Contact:
    return Contact(root / "update-contact", _trail(root, now), lambda: now, 7)


def _begin(root: Path) -> None:
    _pause(root).begin(NOW + DAY, "a fair", "admin")


def _nothing(root: Path) -> None:
    _trail(root)


def test_a_place_that_was_drawn_stays(tmp_path: Path) -> None:
    for point in crash_points(tmp_path, _nothing, lambda root: wave_place(root / "place")):
        path = point.root / "place"
        kept = WavePlace.parse(path.read_bytes()).place if path.exists() else None
        assert kept is not None or not point.finished, point.label
        place = wave_place(path)
        assert kept in (None, place), point.label
        assert wave_place(path) == place, point.label


@pytest.mark.parametrize(
    ("prepare", "operation", "paused"),
    [(_nothing, _begin, True), (_begin, lambda root: _pause(root).end("admin"), False)],
    ids=["pause", "resume"],
)
def test_a_pause_holds_or_does_not_and_is_recorded_before_it_does(
    tmp_path: Path, prepare: Callable[[Path], None], operation: Callable[[Path], None], paused: bool
) -> None:
    for point in crash_points(tmp_path, prepare, operation):
        pause = _pause(point.root).now()
        last = [(record.event, record.outcome) for record in records(point.root / "audit")][-1:]
        assert not point.finished or (pause is not None) is paused, point.label
        if (pause is not None) is paused:
            assert last[0][0] == ("update-pause" if paused else "update-resume"), point.label


def test_an_alarm_is_in_the_trail_before_it_is_remembered(tmp_path: Path) -> None:
    """A cut between the two records it twice at most; it is never remembered and not recorded."""
    late = NOW + 8 * DAY
    for point in crash_points(
        tmp_path, lambda root: _contact(root).heard(), lambda root: _contact(root, late).silent()
    ):
        assert _contact(point.root, late).silent(), point.label
        alarms = [record for record in records(point.root / "audit") if record.event == "update-silence"]
        assert 1 <= len(alarms) <= 2, point.label
        assert _contact(point.root, late).silent(), point.label
        again = [record for record in records(point.root / "audit") if record.event == "update-silence"]
        assert len(again) == len(alarms), point.label
