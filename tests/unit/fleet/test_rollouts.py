# SPDX-License-Identifier: Apache-2.0
"""A release that comes to more and more hosts: who may have it, when it goes on, and what stops it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.assignment import Range
from documents.release import MAX_NUMBER
from fleet.errors import PlanWrong, StateWrong
from fleet.rolling import made
from fleet.rollouts import (
    DONE,
    PAUSED,
    RUNNING,
    STATES,
    TABLE,
    WITHDRAWN,
    Member,
    Rollout,
    after,
    cap,
    capped,
    has_turn,
    progress,
    step,
)
from fleet.states import FAILED, STALE, TRUSTED, UNKNOWN

NOW = 1_800_000_000
HOSTS = [f"00000000-0000-4000-8000-{number:012}" for number in range(400)]
NONE: frozenset[str] = frozenset()
GUIDE = Path(__file__).resolve().parents[3] / "docs/guide/fleet.md"


def rollout(number: int = 42, state: str = RUNNING, stage: int = 0, **more: object) -> Rollout:
    begun = made(
        f"to-{number}",
        channel="platform",
        number=number,
        label="",
        stages=(1, 10, 50, 100),
        threshold=5,
        wait=60,
        now=NOW,
    )
    return replace(begun, state=state, stage=stage, **more)  # type: ignore[arg-type]


def member(host: str, standing: str = TRUSTED, number: int = 42, **more: object) -> Member:
    base = Member(
        host=host, labels=NONE, standing=standing, follows="platform", release=f"platform/{number}", troubled=False
    )
    return replace(base, **more)  # type: ignore[arg-type]


def turns(found: Rollout) -> set[str]:
    return {host for host in HOSTS if has_turn(found, host, NONE)}


def test_each_stage_has_all_of_the_one_before_and_the_last_has_all() -> None:
    shares = [turns(rollout(stage=stage)) for stage in range(4)]
    assert shares[0] < shares[1] < shares[2] < shares[3] == set(HOSTS)
    assert 0 < len(shares[1]) < 80
    assert 150 < len(shares[2]) < 250
    other = replace(rollout(stage=2), name="another")
    assert turns(other) != shares[2], "it is not the same hosts that are first each time"


def test_canaries_are_first() -> None:
    found = replace(rollout(), label="ring=canary", stages=(0, 100))
    assert turns(found) == set()
    assert has_turn(found, HOSTS[0], frozenset({"ring=canary"}))


def test_nobody_gets_it_whose_turn_it_is_not() -> None:
    first = turns(rollout())
    for host in HOSTS:
        assert cap([rollout()], "platform", host, NONE) == (42 if host in first else 41)
        assert cap([rollout(state=PAUSED)], "platform", host, NONE) == (42 if host in first else 41)
        assert cap([rollout(state=WITHDRAWN, stage=3)], "platform", host, NONE) == 41
        assert cap([rollout(state=DONE)], "platform", host, NONE) == MAX_NUMBER
        assert cap([rollout()], "desktop", host, NONE) == MAX_NUMBER


def test_a_newer_release_goes_around_one_that_was_withdrawn() -> None:
    both = [rollout(42, WITHDRAWN), rollout(43)]
    first = turns(rollout(43))
    assert {cap(both, "platform", host, NONE) for host in first} == {43}
    assert {cap(both, "platform", host, NONE) for host in set(HOSTS) - first} == {41}
    finished = [rollout(42, WITHDRAWN), rollout(43, DONE)]
    assert {cap(finished, "platform", host, NONE) for host in HOSTS} == {MAX_NUMBER}


CHANNELS = (Range(channel="desktop", lowest=1, highest=9), Range(channel="platform", lowest=40, highest=50))
ROLLOUTS = st.lists(
    st.builds(rollout, number=st.integers(39, 52), state=st.sampled_from(STATES), stage=st.integers(0, 3)),
    max_size=4, unique_by=lambda found: found.number,
)  # fmt: skip


@given(rollouts=ROLLOUTS, host=st.sampled_from(HOSTS))
def test_a_rollout_takes_away_and_never_adds(rollouts: list[Rollout], host: str) -> None:
    for left in capped(rollouts, CHANNELS, host, NONE):
        (allowed,) = [one for one in CHANNELS if one.channel == left.channel]
        assert allowed.lowest == left.lowest <= left.highest <= allowed.highest
    assert capped(rollouts, CHANNELS, host, NONE)[0].channel == "desktop"


def test_of_a_channel_of_which_nothing_is_left_a_host_keeps_what_it_has() -> None:
    pinned = (Range(channel="platform", lowest=42, highest=42),)
    later = next(host for host in HOSTS if host not in turns(rollout()))
    assert capped([rollout()], pinned, later, NONE) == ()


@pytest.fixture
def first() -> list[str]:
    return sorted(turns(rollout(stage=1)))


def test_it_goes_on_when_it_waited_and_half_run_it(first: list[str]) -> None:
    found = rollout(stage=1)
    good = [member(host) for host in HOSTS]
    later = NOW + 3_600
    assert step(found, good, later - 1) == found
    assert step(found, good, later) == replace(found, stage=2, since=later)
    assert step(found, good, NOW - 10) == found, "a clock that went back"
    waiting = [member(host, number=41) for host in first]
    assert step(found, waiting, later) == found
    half = [member(host, number=42 if at % 2 else 41) for at, host in enumerate(first[: len(first) // 2 * 2])]
    assert step(found, half, later).stage == 2
    # Who runs a newer one already is no reason to wait, and who is not heard neither; of workloads no verdict tells.
    assert step(found, [member(host, number=43) for host in first], later).stage == 2
    assert step(found, [member(host, standing=STALE, number=41) for host in first], later).stage == 2
    assert step(replace(found, channel="desktop"), waiting, later).stage == 2
    assert step(rollout(stage=3), good, later).state == DONE


@pytest.mark.parametrize("more", [{"standing": FAILED}, {"troubled": True}, {"troubled": True, "standing": UNKNOWN}])
def test_it_pauses_by_itself_when_too_many_fail(first: list[str], more: dict[str, object]) -> None:
    found = replace(rollout(stage=1), threshold=100 * 2 // len(first))
    others = [member(host) for host in HOSTS if host not in first]
    for bad in range(4):
        hosts = [member(host, **more) if at < bad else member(host) for at, host in enumerate(first)]
        after_ = step(found, [*hosts, *others], NOW + 1)
        assert (after_.state == PAUSED) == (bad * 100 > found.threshold * progress(found, hosts).heard), bad
        assert (after_.why != "") == (after_.state == PAUSED)
    # Those whose turn it is not do not count.
    assert step(found, [*map(member, first), *(replace(o, standing=FAILED) for o in others)], NOW + 1) == found


def test_one_failure_is_enough_where_none_may_fail(first: list[str]) -> None:
    found = replace(rollout(stage=1), threshold=0)
    assert step(found, [member(first[0], standing=FAILED), *map(member, first[1:])], NOW + 9_999).state == PAUSED
    assert step(found, [], NOW + 9_999).stage == 2


@pytest.mark.parametrize("state", [PAUSED, WITHDRAWN, DONE])
def test_what_does_not_run_stays_as_it_is(state: str) -> None:
    found = rollout(state=state)
    assert step(found, [member(host, standing=FAILED) for host in HOSTS], NOW + 10**6) == found
    assert step(found, [member(host) for host in HOSTS], NOW + 10**6) == found


def test_states_change_by_the_table_alone() -> None:
    for state in (*STATES, "", "trusted"):
        for event in ("pause", "resume", "withdraw", "finish", "start", ""):
            if (state, event) in TABLE:
                assert after(state, event) == TABLE[state, event]
            else:
                with pytest.raises(StateWrong):
                    after(state, event)


def test_the_guide_has_the_table() -> None:
    part = GUIDE.read_text().split("## Letting a release come slowly\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")
    ]
    head, told = rows[0][1:], {row[0]: row[1:] for row in rows[1:]}
    said = {(state, event): to for state in told for event, to in zip(head, told[state], strict=True) if to}
    assert said == dict(TABLE)


@pytest.mark.parametrize(
    "more",
    [
        {"name": "A"}, {"channel": "*"}, {"number": 0}, {"number": MAX_NUMBER + 1}, {"label": "x"}, {"stages": ()},
        {"stages": (1, 50)}, {"stages": (50, 10, 100)}, {"stages": (1, 1, 100)}, {"stages": tuple(range(80, 101))},
        {"threshold": 101}, {"threshold": -1}, {"wait": -1}, {"wait": 100_001},
    ],
)  # fmt: skip
def test_rollouts_that_are_none(more: dict[str, object]) -> None:
    given_: dict[str, object] = {
        "name": "r", "channel": "platform", "number": 1, "label": "", "stages": (100,), "threshold": 5, "wait": 1,
        **more,
    }  # fmt: skip
    name = str(given_.pop("name"))
    with pytest.raises(PlanWrong):
        made(name, now=NOW, **given_)  # type: ignore[arg-type]
