# SPDX-License-Identifier: Apache-2.0
"""The table of revocations: every cause in every state has its answer, and it is the one that was decided."""

from __future__ import annotations

import pytest

from agent.revocation import (
    ACT,
    AT_ONCE,
    CAUSES,
    DROP,
    LATER,
    LEASE,
    LOCKED,
    NO_RESTORE,
    NO_RESUME,
    NO_START,
    POLICY,
    REVOKED,
    SHRED,
    STATES,
    TABLE,
    TOLD,
    UNASSIGNED,
    WITHDRAWN,
    Row,
    cause_of,
    order,
    row,
)
from agent.taken_back import said
from documents.revocation import ACTS, DEFAULT, Revocation
from lab.revocation_page import PAGE, page

ON = (TOLD, ACT, NO_RESUME, NO_START)
OFF = (NO_RESTORE, NO_START)
EXPECTED: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    (REVOKED, "running"): (POLICY, ON),
    (REVOKED, "paused"): (POLICY, ON),
    (REVOKED, "saved"): (AT_ONCE, OFF),
    (REVOKED, "checkpointed"): (AT_ONCE, OFF),
    (REVOKED, "cloned"): (AT_ONCE, (NO_START,)),
    (REVOKED, "offline"): (LATER, ON),
    (WITHDRAWN, "running"): (POLICY, ON),
    (WITHDRAWN, "paused"): (POLICY, ON),
    (WITHDRAWN, "saved"): (AT_ONCE, OFF),
    (WITHDRAWN, "checkpointed"): (AT_ONCE, OFF),
    (WITHDRAWN, "cloned"): (AT_ONCE, ()),
    (WITHDRAWN, "offline"): (LATER, ON),
    (LOCKED, "running"): (AT_ONCE, (*ON, DROP)),
    (LOCKED, "paused"): (AT_ONCE, (*ON, DROP)),
    (LOCKED, "saved"): (AT_ONCE, (*OFF, DROP)),
    (LOCKED, "checkpointed"): (AT_ONCE, (*OFF, DROP)),
    (LOCKED, "cloned"): (AT_ONCE, ()),
    (LOCKED, "offline"): (LATER, (*ON, DROP)),
    (UNASSIGNED, "running"): (POLICY, (*ON, DROP, SHRED)),
    (UNASSIGNED, "paused"): (POLICY, (*ON, DROP, SHRED)),
    (UNASSIGNED, "saved"): (AT_ONCE, (*OFF, DROP, SHRED)),
    (UNASSIGNED, "checkpointed"): (AT_ONCE, (*OFF, DROP, SHRED)),
    (UNASSIGNED, "cloned"): (AT_ONCE, ()),
    (UNASSIGNED, "offline"): (LATER, (*ON, DROP, SHRED)),
    (LEASE, "running"): (AT_ONCE, (*ON, DROP)),
    (LEASE, "paused"): (AT_ONCE, (*ON, DROP)),
    (LEASE, "saved"): (AT_ONCE, (*OFF, DROP)),
    (LEASE, "checkpointed"): (AT_ONCE, (*OFF, DROP)),
    (LEASE, "cloned"): (AT_ONCE, ()),
    (LEASE, "offline"): (LATER, (*ON, DROP)),
}
"""Written out once more, so that no change of the rule changes a cell unseen."""


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text() == page(), "write it anew: PYTHONPATH=tests python -m lab.revocation_page"


def test_every_cause_has_an_answer_in_every_state() -> None:
    assert {(one.cause, one.state) for one in TABLE} == {(cause, state) for cause in CAUSES for state in STATES}
    assert set(EXPECTED) == {(one.cause, one.state) for one in TABLE}


@pytest.mark.parametrize("one", TABLE, ids=lambda one: f"{one.cause} {one.state}")
def test_a_cell_is_what_was_decided(one: Row) -> None:
    assert (one.when, one.acts) == EXPECTED[one.cause, one.state]


def test_there_is_no_answer_to_what_is_not_known() -> None:
    with pytest.raises(KeyError):
        row("disliked", "running")
    with pytest.raises(KeyError):
        row(REVOKED, "dreaming")


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("cause", CAUSES)
def test_an_order_follows_policy_and_the_table(cause: str, act: str) -> None:
    policy = Revocation(act=act, seconds=90, message="Ask the desk.")
    got = order(cause, "hello", policy)
    waits = EXPECTED[cause, "running"][0] == POLICY
    assert got.seconds == (90 if waits else 0)
    assert got.drop == (DROP in EXPECTED[cause, "running"][1])
    assert got.shred == (cause == UNASSIGNED)
    assert got.act == ("kill" if got.shred else act), "what has no keys any more does not stand by"
    assert got.message.startswith("vmgate: hello was taken back, for ")
    assert got.message.endswith("Ask the desk.")
    assert ("in 90 seconds" in got.message) == waits


def test_without_a_word_of_policy_there_is_time_to_save_ones_work() -> None:
    got = order(REVOKED, "hello", DEFAULT)
    assert (got.act, got.seconds) == ("suspend", 600)
    assert got.message.endswith("Save your work in it.")


@pytest.mark.parametrize(
    ("made_of", "defined", "refused", "cause"),
    [
        ({"a", "b"}, {"hello"}, set(), ""),
        ({"a", "b"}, {"hello"}, {"b", "z"}, REVOKED),
        ({"a", "b"}, {"hello"}, {"z"}, ""),
        ({"a", "b"}, {"other"}, set(), WITHDRAWN),
        ({"a", "b"}, set(), {"a"}, REVOKED),
        (set(), {"hello"}, {"a"}, ""),
        (set(), set(), set(), WITHDRAWN),
    ],
)
def test_the_cause_follows_from_the_releases(
    made_of: set[str], defined: set[str], refused: set[str], cause: str
) -> None:
    assert cause_of("hello", made_of, defined, refused) == cause


@pytest.mark.parametrize(
    ("causes", "strongest"),
    [((), ""), (("", ""), ""), (("", LEASE), LEASE), ((LEASE, LOCKED), LOCKED), (("something new",), LOCKED)],
)
def test_of_several_words_the_strongest_counts_and_an_unknown_one_locks(
    causes: tuple[str, ...], strongest: str
) -> None:
    assert said([lambda _, cause=cause: cause for cause in causes], "hello") == strongest  # type: ignore[misc]
