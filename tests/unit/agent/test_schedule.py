# SPDX-License-Identifier: Apache-2.0
"""Whether a host updates itself now: every combination of what is known has the answer of the table in words."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from agent.schedule import Decision, Situation, decide, window_open
from agent.windows import read_window

NOW = int(datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp())
NIGHT = read_window("22:00-05:00")
NOON = read_window("11:00-13:00")
HOUR = 3_600


def _expected(s: Situation, *, window_shut: bool) -> str:
    """The rules once more, as a person would say them."""
    if s.pending:
        return "reboot"
    if not s.new:
        return "wave" if s.due else "held-back" if s.held_back else "nothing-new"
    if s.paused_until > NOW:
        return "paused"
    if s.on_metered and (s.metered == "never" or (s.metered == "urgent" and not s.urgent)):
        return "metered"
    if window_shut and not s.urgent:
        return "window"
    return "due"


def test_every_combination() -> None:
    seen: set[str] = set()
    bools = (False, True)
    for windows, paused, metered, on_metered, pending, new, urgent, due, held_back in itertools.product(
        ((), (NIGHT,), (NOON,), (NIGHT, NOON)), (0, NOW, NOW + HOUR), ("never", "urgent", "always"),
        bools, bools, bools, bools, (0, NOW + HOUR), bools,
    ):  # fmt: skip
        situation = Situation(
            now=NOW, zone=UTC, windows=tuple(w for w in windows if w), paused_until=paused, metered=metered,
            on_metered=on_metered, pending=pending, new=new, urgent=urgent, due=due, held_back=held_back,
        )  # fmt: skip
        decision = decide(situation)
        assert decision.why == _expected(situation, window_shut=windows == (NIGHT,))
        assert decision.act is (decision.why == "due")
        assert decision.act or decision.sentence.startswith(("not now: ", "up to date"))
        seen.add(decision.why)
    assert seen == {"reboot", "wave", "held-back", "nothing-new", "paused", "metered", "window", "due"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"paused_until": NOW + HOUR},
            Decision(act=False, why="paused", sentence="not now: paused until 2026-11-23 13:00 UTC", next=NOW + HOUR),
        ),
        (
            {"windows": (NIGHT,)},
            Decision(
                act=False, why="window", sentence="not now: window opens at 2026-11-23 22:00 UTC", next=NOW + 10 * HOUR
            ),
        ),
        (
            {"new": False, "due": NOW + HOUR},
            Decision(
                act=False,
                why="wave",
                sentence="not now: its wave reaches this host at 2026-11-23 13:00 UTC",
                next=NOW + HOUR,
            ),
        ),
        ({"on_metered": True}, Decision(act=False, why="metered", sentence="not now: the connection is metered")),
        ({}, Decision(act=True, why="due", sentence="an update is due", next=NOW)),
    ],
)
def test_a_no_says_why_and_until_when(changes: dict[str, object], expected: Decision) -> None:
    values: dict[str, object] = {"now": NOW, "zone": UTC, "new": True} | changes
    assert decide(Situation(**values)) == expected  # type: ignore[arg-type]


def test_without_windows_it_is_always_open() -> None:
    assert window_open(Situation(now=NOW, zone=UTC))
    assert NIGHT is not None
    assert not window_open(Situation(now=NOW, zone=UTC, windows=(NIGHT,)))
