# SPDX-License-Identifier: Apache-2.0
"""Where an update can stand, as a table. Pure: it says what may follow, not how it is done."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from documents.host_state import UpdateJournal

TRANSITIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("idle", "fetch"): "fetched",
        ("confirmed", "fetch"): "fetched",
        ("fetched", "verify"): "verified",
        ("verified", "stage"): "staged",
        ("staged", "switch"): "switched",
        ("switched", "confirm"): "confirmed",
        ("fetched", "abandon"): "idle",
        ("verified", "abandon"): "idle",
        ("staged", "abandon"): "idle",
        ("switched", "roll_back"): "idle",
        ("confirmed", "roll_back"): "idle",
        ("idle", "roll_back"): "idle",
    }
)
"""(state, event): the next state. In ``switched`` the new generation is active but not confirmed."""

ON_ITS_WAY = frozenset({"fetched", "verified", "staged"})
"""States in which the active generation is still the previous one."""

NEW = UpdateJournal(state="idle", generation=0, previous=0, refused=())
"""The journal of a host that never had an update."""

MAX_REFUSED = 1_000


def advance(
    journal: UpdateJournal, event: str, *, generation: int = 0, previous: int = 0, refused: tuple[str, ...] = ()
) -> UpdateJournal:
    """The journal after an event.

    Args:
        journal: before it.
        event: one of the events in ``TRANSITIONS``.
        generation: for ``fetch``, the number of the new generation.
        previous: for ``abandon``, what the old generation can go back to.
        refused: for ``roll_back``, digests of the releases not to be offered again on their own.

    Raises:
        ValueError: the event cannot happen in this state, or the generation is not new: a bug.
    """
    state = TRANSITIONS.get((journal.state, event))
    if state is None:
        raise ValueError(f"{event} cannot happen while {journal.state}")
    if event == "fetch":
        if generation <= journal.generation:
            raise ValueError(f"generation {generation} is not new")
        return UpdateJournal(state=state, generation=generation, previous=journal.generation, refused=journal.refused)
    if event == "abandon":
        return UpdateJournal(state=state, generation=journal.previous, previous=previous, refused=journal.refused)
    if event == "roll_back":
        if journal.previous == 0 and journal.state != "switched":
            raise ValueError("there is no generation to go back to")
        remembered = tuple(dict.fromkeys((*journal.refused, *refused)))[-MAX_REFUSED:]
        return UpdateJournal(state=state, generation=journal.previous, previous=0, refused=remembered)
    return UpdateJournal(state=state, generation=journal.generation, previous=journal.previous, refused=journal.refused)


def active(journal: UpdateJournal) -> int:
    """The number of the generation that is active by this journal; 0 for none."""
    return journal.previous if journal.state in ON_ITS_WAY else journal.generation
