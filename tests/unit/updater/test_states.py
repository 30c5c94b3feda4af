# SPDX-License-Identifier: Apache-2.0
"""The table of update states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.host_state import UPDATE_STATES, UpdateJournal
from updater.client.states import MAX_REFUSED, NEW, ON_ITS_WAY, TRANSITIONS, active, advance

EVENTS = sorted({event for _, event in TRANSITIONS})


def test_the_table_has_only_known_states() -> None:
    assert {state for state, _ in TRANSITIONS} == set(UPDATE_STATES)
    assert set(TRANSITIONS.values()) == set(UPDATE_STATES)
    assert set(UPDATE_STATES) >= ON_ITS_WAY


def test_a_good_update_and_the_next_one() -> None:
    journal = NEW
    for number in (1, 2):
        journal = advance(journal, "fetch", generation=number)
        assert active(journal) == number - 1
        for event in ("verify", "stage"):
            journal = advance(journal, event)
            assert active(journal) == number - 1
        journal = advance(journal, "switch")
        assert active(journal) == number
        journal = advance(journal, "confirm")
    assert journal == UpdateJournal(state="confirmed", generation=2, previous=1, refused=())


@pytest.mark.parametrize("events", [[], ["verify"], ["verify", "stage"]])
def test_before_the_switch_an_update_is_forgotten(events: list[str]) -> None:
    before = UpdateJournal(state="confirmed", generation=2, previous=1, refused=())
    journal = advance(before, "fetch", generation=3)
    for event in events:
        journal = advance(journal, event)
    after = advance(journal, "abandon", previous=1)
    assert (after.state, after.generation, after.previous) == ("idle", 2, 1)


def test_after_the_switch_it_is_rolled_back_and_remembered() -> None:
    before = UpdateJournal(state="switched", generation=3, previous=2, refused=("a" * 64,))
    after = advance(before, "roll_back", refused=("b" * 64, "a" * 64))
    assert after == UpdateJournal(state="idle", generation=2, previous=0, refused=("a" * 64, "b" * 64))
    with pytest.raises(ValueError, match="no generation"):
        advance(after, "roll_back")


def test_what_is_remembered_is_bounded() -> None:
    many = tuple(f"{i:064x}" for i in range(MAX_REFUSED))
    before = UpdateJournal(state="switched", generation=3, previous=2, refused=many)
    after = advance(before, "roll_back", refused=("f" * 64,))
    assert after.refused == (*many[1:], "f" * 64)
    assert UpdateJournal.parse(after.encode()) == after


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_any_events_lead_along_the_table_or_are_bugs(events: list[str]) -> None:
    journal, number = NEW, 0
    for event in events:
        number += 1
        try:
            following = advance(journal, event, generation=number)
        except ValueError:
            assert (journal.state, event) not in TRANSITIONS or event == "roll_back"
            continue
        assert following.state == TRANSITIONS[journal.state, event]
        # The active generation changes only by a switch, and by going back.
        if event not in ("switch", "roll_back"):
            assert active(following) == active(journal)
        journal = following


def test_a_generation_is_never_fetched_twice() -> None:
    with pytest.raises(ValueError, match="not new"):
        advance(UpdateJournal(state="idle", generation=3, previous=0, refused=()), "fetch", generation=3)
