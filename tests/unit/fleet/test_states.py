# SPDX-License-Identifier: Apache-2.0
"""The states of a host, and how it stands: by a table, and by time alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import StateWrong
from fleet.states import (
    ACTIVE,
    PENDING,
    REVOKED,
    STALE,
    STANDINGS,
    STATES,
    TABLE,
    TRUSTED,
    LastVerdict,
    after,
    standing,
)

NOW = 1_800_000_000
EVENTS = ("approve", "revoke", "enrol", "readmit", "", "trust")


def test_what_is_not_in_the_table_is_refused() -> None:
    for state in (*STATES, "", "unheard-of"):
        for event in EVENTS:
            if (state, event) in TABLE:
                assert after(state, event) in STATES
            else:
                with pytest.raises(StateWrong):
                    after(state, event)


def test_a_revoked_host_comes_back_through_an_administrator_alone() -> None:
    assert {event for state, event in TABLE if state == REVOKED} == {"readmit"}
    assert after(REVOKED, "readmit") == PENDING


@given(
    state=st.sampled_from((*STATES, "?")),
    status=st.sampled_from(("affirming", "warning", "contraindicated", "none", "", "?")),
    judged=st.integers(NOW - 10, NOW + 10),
    expires=st.integers(NOW - 10, NOW + 10),
)
def test_only_a_current_good_verdict_about_an_active_host_is_trust(
    state: str, status: str, judged: int, expires: int
) -> None:
    found = standing(state, LastVerdict(status=status, judged=judged, expires=expires), NOW)
    assert found in STANDINGS
    good = state == ACTIVE and status in ("affirming", "warning") and judged <= NOW < expires
    assert (found == TRUSTED) is good


def test_a_host_that_falls_silent_becomes_stale_by_itself() -> None:
    last = LastVerdict(status="affirming", judged=NOW, expires=NOW + 300)
    assert standing(ACTIVE, last, NOW + 299) == TRUSTED
    assert standing(ACTIVE, last, NOW + 300) == STALE
    # And one that was judged by a clock of the future.
    assert standing(ACTIVE, last, NOW - 1) == STALE
