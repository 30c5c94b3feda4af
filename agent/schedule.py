# SPDX-License-Identifier: Apache-2.0
"""Whether a host that updates itself does so now: one pure decision over what is known, with its reason.

The rows of ``RULES`` are asked in their order; the first that applies says no, and if none does the answer is yes:

1. an update waits for a reboot: another one would be measured on top of what nobody confirmed;
2. there is nothing new, or nothing that is due on this host yet (``updater.client.waves``);
3. an administrator paused updates: that holds against everything, urgent releases included;
4. the connection is metered: ``never`` holds against everything, ``urgent`` lets urgent releases through;
5. no maintenance window is open, unless a release is urgent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from agent.windows import Window, is_open, next_opening


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the decision stands on.

    Attributes:
        now: seconds since 1970 UTC.
        zone: of the windows.
        windows: when updates may happen; at any time if there is none.
        paused_until: end of an administrator's pause; 0 for none.
        metered: the setting: ``never``, ``urgent`` or ``always``.
        on_metered: the connection is metered.
        pending: an update is active but not confirmed.
        new: something can be applied.
        urgent: one of what can be applied is urgent.
        due: when the next offered release is due on this host; 0 if none waits for its wave.
        held_back: something is offered that this host cannot take.
    """

    now: int
    zone: tzinfo
    windows: tuple[Window, ...] = ()
    paused_until: int = 0
    metered: str = "urgent"
    on_metered: bool = False
    pending: bool = False
    new: bool = False
    urgent: bool = False
    due: int = 0
    held_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do.

    Attributes:
        act: update now.
        why: the reason for not doing so, by name; ``due`` where there is none.
        sentence: the same for people.
        next: when the answer may change by itself, in seconds since 1970 UTC; 0 if nobody knows.
    """

    act: bool
    why: str
    sentence: str
    next: int = 0


def decide(situation: Situation) -> Decision:
    """Whether to update now."""
    for rule in RULES:
        refusal = rule(situation)
        if refusal is not None:
            return refusal
    return Decision(act=True, why="due", sentence="an update is due", next=situation.now)


def window_open(situation: Situation) -> bool:
    """Whether what belongs into a window may happen: always where there is none."""
    return not situation.windows or is_open(situation.windows, situation.zone, situation.now)


def clock(time: int, zone: tzinfo) -> str:
    """A time for people, with its zone."""
    return datetime.fromtimestamp(time, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def _pending(situation: Situation) -> Decision | None:
    if not situation.pending:
        return None
    return Decision(act=False, why="reboot", sentence="not now: an update waits for the next boot")


def _nothing(situation: Situation) -> Decision | None:
    if situation.new:
        return None
    if situation.due:
        when = clock(situation.due, situation.zone)
        return Decision(
            act=False, why="wave", sentence=f"not now: its wave reaches this host at {when}", next=situation.due
        )
    if situation.held_back:
        return Decision(act=False, why="held-back", sentence="not now: this host cannot take what is offered")
    return Decision(act=False, why="nothing-new", sentence="up to date")


def _paused(situation: Situation) -> Decision | None:
    if situation.paused_until <= situation.now:
        return None
    when = clock(situation.paused_until, situation.zone)
    return Decision(act=False, why="paused", sentence=f"not now: paused until {when}", next=situation.paused_until)


def _on_metered(situation: Situation) -> Decision | None:
    passes = situation.metered == "always" or (situation.metered == "urgent" and situation.urgent)
    if passes or not situation.on_metered:
        return None
    return Decision(act=False, why="metered", sentence="not now: the connection is metered")


def _outside_windows(situation: Situation) -> Decision | None:
    if situation.urgent or window_open(situation):
        return None
    opening = next_opening(situation.windows, situation.zone, situation.now)
    if opening is None:
        return Decision(act=False, why="window", sentence="not now: no maintenance window opens")
    when = clock(opening, situation.zone)
    return Decision(act=False, why="window", sentence=f"not now: window opens at {when}", next=opening)


RULES: tuple[Callable[[Situation], Decision | None], ...] = (_pending, _nothing, _paused, _on_metered, _outside_windows)
"""What can say no, in order."""
