# SPDX-License-Identifier: Apache-2.0
"""Maintenance windows: their form, the wall clock, and the two nights of the year on which it jumps."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.windows import Window, is_open, next_opening, read_window

BERLIN = ZoneInfo("Europe/Berlin")
MINUTES = st.integers(1_700_000_000, 1_900_000_000)


def _window(text: str) -> Window:
    window = read_window(text)
    assert window is not None
    return window


def _at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp())


@pytest.mark.parametrize(
    ("text", "days", "start", "end"),
    [
        ("22:00-05:00", {0, 1, 2, 3, 4, 5, 6}, 1320, 1740),
        ("Mon-Fri 22:00-05:00", {0, 1, 2, 3, 4}, 1320, 1740),
        ("Sat,Sun 00:00-24:00", {5, 6}, 0, 1440),
        ("Fri-Mon 01:00-02:00", {4, 5, 6, 0}, 60, 120),
        ("Mon,Wed-Thu 23:30-00:30", {0, 2, 3}, 1410, 1470),
    ],
)
def test_the_form(text: str, days: set[int], start: int, end: int) -> None:
    assert _window(text) == Window(days=frozenset(days), start=start, end=end)


@pytest.mark.parametrize(
    "text",
    [
        "", "always", "22:00", "22-05", "24:00-05:00", "22:00-25:00", "22:60-23:00", "Mon", "Mon 22:00",
        "mon 22:00-05:00", "Monday 22:00-05:00", "Mon- 22:00-05:00", "Mon, 22:00-05:00", "Mon  22:00-05:00",
        " 22:00-05:00", "22:00-05:00 ", "22:00-05:00\n", "22:00 - 05:00", "5:00-06:00", "05:00-05:00", "05:00-05:59",
        "\u0662\u0662:00-23:30",
    ],
)  # fmt: skip
def test_anything_else_is_none(text: str) -> None:
    assert read_window(text) is None


@given(st.text(max_size=30))
def test_any_text_is_a_window_or_none(text: str) -> None:
    window = read_window(text)
    assert window is None or window.end - window.start >= 60


@pytest.mark.parametrize(
    ("now", "open_"),
    [
        ("2026-11-23 21:59", False),  # a Monday
        ("2026-11-23 22:00", True),
        ("2026-11-24 04:59", True),
        ("2026-11-24 05:00", False),
        ("2026-11-28 04:59", True),  # Saturday morning, of Friday's window
        ("2026-11-28 23:00", False),
        ("2026-11-23 03:00", False),  # Monday morning: Sunday has none
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(now: str, open_: bool) -> None:
    assert is_open([_window("Mon-Fri 22:00-05:00")], BERLIN, _at(now)) is open_


def test_the_zone_counts() -> None:
    window = _window("03:00-04:00")
    now = _at("2026-11-23 03:30")
    assert is_open([window], BERLIN, now)
    assert not is_open([window], ZoneInfo("America/New_York"), now)


def test_the_next_opening() -> None:
    windows = [_window("Sat 10:00-12:00"), _window("Wed 03:00-04:00")]
    assert next_opening(windows, BERLIN, _at("2026-11-23 12:00")) == _at("2026-11-25 03:00")
    assert next_opening(windows, BERLIN, _at("2026-11-25 03:30")) == _at("2026-11-25 03:30"), "it is open"
    assert next_opening(windows, BERLIN, _at("2026-11-25 04:00") + 7) == _at("2026-11-28 10:00")
    assert next_opening([], BERLIN, _at("2026-11-25 04:00")) is None


def test_an_hour_that_is_skipped_opens_no_window() -> None:
    """On 29 March 2026 the clock goes from 02:00 to 03:00."""
    inside, across = [_window("Sun 02:00-03:00")], [_window("Sun 01:30-03:30")]
    before = _at("2026-03-29 00:00")
    assert next_opening(inside, BERLIN, before) == _at("2026-04-05 02:00")
    assert next_opening(across, BERLIN, before) == _at("2026-03-29 01:30")
    open_minutes = sum(is_open(across, BERLIN, before + 60 * minute) for minute in range(24 * 60))
    assert open_minutes == 60, "of two hours on the clock one did not happen"


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    """On 25 October 2026 the clock goes from 03:00 back to 02:00."""
    window = [_window("Sun 02:00-03:00")]
    assert is_open(window, BERLIN, _at("2026-10-25 02:30", fold=0))
    assert is_open(window, BERLIN, _at("2026-10-25 02:30", fold=1))
    start = _at("2026-10-25 00:00")
    assert sum(is_open(window, BERLIN, start + 60 * minute) for minute in range(26 * 60)) == 120


@given(MINUTES, st.sampled_from(["Mon 02:00-03:00", "22:00-05:00", "Sat,Sun 00:00-24:00", "Sun 02:00-03:30"]))
def test_nothing_opens_before_the_next_opening(now: int, text: str) -> None:
    windows = [_window(text)]
    opening = next_opening(windows, BERLIN, now)
    assert opening is not None
    assert opening >= now
    assert is_open(windows, BERLIN, opening)
    assert opening == now or not any(is_open(windows, BERLIN, t) for t in range(now, opening, 1_800))
    assert datetime.fromtimestamp(opening, UTC)
