# SPDX-License-Identifier: Apache-2.0
"""Maintenance windows: ``Mon-Fri 22:00-05:00``. Pure, but for the zone that the caller loads.

A window is open while the wall clock of the zone shows a time in it, so daylight saving needs no rule of its own: an
hour that is shown twice is open twice, and one that is skipped is not there. One that ends before it begins goes on
into the next day, and its days are those on which it begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 1_440
SHORTEST = 60
"""Minutes. The timer comes once an hour: a shorter window could be missed for ever."""

SEARCH_DAYS = 15
"""How far ahead an opening is looked for: one of a week may fall into the hour that is skipped."""

_DAY = "|".join(DAYS)
FORM = re.compile(
    rf"(?:(?P<days>(?:{_DAY})(?:-(?:{_DAY}))?(?:,(?:{_DAY})(?:-(?:{_DAY}))?)*) )?"
    r"(?P<start>(?:[01][0-9]|2[0-3]):[0-5][0-9])-(?P<end>(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window of a week.

    Attributes:
        days: on which it begins; 0 is Monday.
        start: minute of the day, included.
        end: minute, not included; above 1,440 it is in the next day.
    """

    days: frozenset[int]
    start: int
    end: int

    def has(self, local: datetime) -> bool:
        """Whether the wall clock shows a time in the window."""
        minute = local.hour * 60 + local.minute
        today = local.weekday() in self.days and self.start <= minute < self.end
        return today or ((local.weekday() - 1) % 7 in self.days and minute + DAY_MINUTES < self.end)


def read_window(untrusted_text: str) -> Window | None:
    """Read a window; None where the text is none, or is one of less than ``SHORTEST`` minutes."""
    found = FORM.fullmatch(untrusted_text)
    if found is None:
        return None
    start, end = _minutes(found["start"]), _minutes(found["end"])
    length = end - start if end >= start else end + DAY_MINUTES - start
    return Window(days=_days(found["days"]), start=start, end=start + length) if length >= SHORTEST else None


def is_open(windows: Iterable[Window], zone: tzinfo, now: int) -> bool:
    """Whether any of the windows is open at ``now``, in seconds since 1970 UTC."""
    local = datetime.fromtimestamp(now, UTC).astimezone(zone)
    return any(window.has(local) for window in windows)


def next_opening(windows: Iterable[Window], zone: tzinfo, now: int) -> int | None:
    """The first minute from ``now`` on at which one of the windows is open; None if none opens at all."""
    known = tuple(windows)
    if is_open(known, zone, now):
        return now
    first = now - now % 60 + 60
    minutes = range(first, first + SEARCH_DAYS * DAY_MINUTES * 60, 60)
    return next((minute for minute in minutes if is_open(known, zone, minute)), None)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = DAYS.index(first), DAYS.index(last or first)
        # Fri-Mon goes over the week's end.
        found |= {day % 7 for day in range(low, high + 1 if high >= low else high + 8)}
    return frozenset(found)
