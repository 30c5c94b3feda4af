# SPDX-License-Identifier: Apache-2.0
"""Which platform releases a host may be at while an update is under way: the old one, either, or the new one.

A fleet is never at one release at once. Between the moment when the newest release may be taken and the one when it
must have been, hosts of the release before are as good as those of the newest; but one host that was seen at the newest
has no way back. ``TABLE`` is the whole of it, and its events come from times and numbers alone.

Whatever the state: a release is one set of reference values, and a host matches one set as a whole or none
(``measure.verifying``); no release counts whose security epoch is below the newest's; what the newest refuses, all
refuse. This module does not appraise and has no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from documents.release import Release

OLD: Final = "old"
BOTH: Final = "old and new"
NEW: Final = "new"
STATES: Final = (OLD, BOTH, NEW)

TABLE: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        (OLD, "opened"): BOTH,
        (BOTH, "epoch-raised"): NEW,
        (BOTH, "host-seen-at-new"): NEW,
        (BOTH, "deadline-passed"): NEW,
    }
)
"""The state after an event. An event that is not in a state's rows leaves it: nothing leads back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When the releases before the newest count, in seconds since 1970 UTC.

    Attributes:
        opens: from when on the newest release counts.
        closes: until when the release before it counts; without a later time than ``opens`` it never counts beside.
        seen: number of the newest platform release at which the host was seen; 0 for none.
    """

    opens: int = 0
    closes: int = 0
    seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """What counts now.

    Attributes:
        state: one of ``STATES``.
        numbers: of the releases that count, the newest first; never empty.
        refused: digests that the newest release refuses.
    """

    state: str
    numbers: tuple[int, ...]
    refused: tuple[str, ...]


def valid_releases(releases: Iterable[Release], terms: Terms, now: int) -> Valid:
    """Which of several releases of one platform channel count.

    Only the newest and the one before it can: a host further behind has missed an update.

    Args:
        releases: at least one, of one channel, each number once.
        terms: when they count.
        now: seconds since 1970 UTC.
    """
    newest, *older = sorted(releases, key=lambda release: release.number, reverse=True)
    if not older:
        # Nothing else is known, so that there is nothing to wait for.
        return Valid(state=NEW, numbers=(newest.number,), refused=newest.refused)
    before = older[0]
    state = OLD
    for event in _events(newest, before, terms, now):
        state = TABLE.get((state, event), state)
    numbers = {OLD: (before.number,), BOTH: (newest.number, before.number), NEW: (newest.number,)}
    return Valid(state=state, numbers=numbers[state], refused=newest.refused)


def _events(newest: Release, before: Release, terms: Terms, now: int) -> Iterator[str]:
    """What has happened by now, in the order in which it does."""
    if now >= terms.opens:
        yield "opened"
        if before.epoch < newest.epoch:
            yield "epoch-raised"
        if terms.seen >= newest.number:
            yield "host-seen-at-new"
        if now >= terms.closes:
            yield "deadline-passed"
