# SPDX-License-Identifier: Apache-2.0
"""What an assignment leaves of an offer: it only takes away, and never leads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.assignment import Assignment
from documents.errors import DocumentError
from documents.host_state import Generation
from documents.release import Artifact, Release
from lab.documents import DOCUMENTS
from lab.fleet import assignment
from lab.publishing import platform, workload
from updater.assignment import choose, list_assignment, listed_assignment
from updater.client.assignment import require_assignment, require_current, restrict
from updater.errors import AssignmentExpired, AssignmentRefused, Incompatible, NotAssigned
from updater.formats import release_number, release_target

CHANNELS = ("platform", "desktop")
ARTIFACT = Artifact(name="thing", kind="image", fsverity="a" * 64, length=1)


def _active(number: int) -> Generation:
    return Generation(
        number=1,
        releases=(workload(number, ARTIFACT).encode(), platform(number, ARTIFACT).encode()),
        stale=False,
    )


def _numbers(taken: dict[str, bytes]) -> dict[str, int]:
    return {channel: Release.parse(data).number for channel, data in taken.items()}


def test_the_newest_that_is_allowed_is_chosen() -> None:
    listed = (3, 4, 7, 9)
    for (lowest, highest), expected in {
        (1, 100): 9, (1, 8): 7, (7, 7): 7, (8, 8): None, (1, 2): None, (5, 6): None, (10, 20): None,
    }.items():  # fmt: skip
        assert choose(assignment("h", 1, platform=(lowest, highest)), "platform", listed) == expected
    assert choose(assignment("h", 1, platform=(1, 100)), "desktop", listed) is None
    assert choose(assignment("h", 1, locked=True), "platform", listed) is None
    assert choose(assignment("h", 1, platform=(1, 4)), "platform", listed, lowest=4) == 4
    assert choose(assignment("h", 1, platform=(1, 4)), "platform", listed, lowest=5) is None
    assert choose(assignment("h", 1), "platform", ()) is None


@given(
    st.sets(st.integers(1, 20)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)).map(sorted),
    st.integers(0, 20),
    st.booleans(),
)
def test_what_is_chosen_is_listed_allowed_and_not_below_the_floor(
    listed: set[int], bounds: list[int], floor: int, locked: bool
) -> None:
    found = choose(assignment("h", 1, locked=locked, platform=(bounds[0], bounds[1])), "platform", listed, floor)
    fitting = [n for n in listed if bounds[0] <= n <= bounds[1] and n >= floor and not locked]
    assert found == (max(fitting) if fitting else None)


@given(st.integers(1, 9), st.none() | st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_no_assignment_leads_back(active: int, chosen: int | None, newest: int, locked: bool) -> None:
    offered = {} if chosen is None else {"platform": platform(chosen, ARTIFACT).encode()}
    told = assignment("h", 1, locked=locked, platform=(1, 9), desktop=(1, 9))
    taken, held_back = restrict(told, CHANNELS, offered, {"platform": newest}, _active(active))
    numbers = _numbers(taken)
    assert numbers["desktop"] == active
    assert numbers["platform"] == max(active, chosen or 0)
    assert bool(held_back) == ((chosen is None or chosen < active) and newest > active)


def test_why_something_is_held_back_is_told() -> None:
    newest = {"platform": 3, "desktop": 3}
    for told, why in (
        (assignment("h", 1, locked=True), "platform 3: this host is locked by its assignment"),
        (assignment("h", 1, desktop=(1, 9)), "platform 3: the channel is not assigned to this host"),
        (assignment("h", 1, platform=(1, 1)), "platform 3: assigned are 1 to 1, and none of them is offered"),
    ):
        taken, held_back = restrict(told, ("platform",), {}, newest, _active(2))
        assert _numbers(taken) == {"platform": 2}
        assert held_back[0].startswith(why)
        with pytest.raises(Incompatible, match=why.partition(": ")[2]):
            restrict(told, ("platform",), {}, newest, None)


def test_an_assignment_is_of_this_host_and_of_now() -> None:
    whole = assignment("h", 100)
    assert require_assignment(list_assignment(whole), "h") == whole
    require_current(whole, 99)
    for now in (100, 10**9):
        with pytest.raises(AssignmentExpired, match="1970-01-01"):
            require_current(whole, now)
    with pytest.raises(NotAssigned, match="this host is h"):
        require_assignment(None, "h")
    other = list_assignment(assignment("other", 100))
    other.path = "assignments/h.json"
    with pytest.raises(AssignmentRefused):
        require_assignment(other, "h")


@given(DOCUMENTS[Assignment])
def test_a_listing_carries_the_whole_document(whole: Assignment) -> None:
    assert listed_assignment(list_assignment(whole)) == whole


@given(st.text(max_size=30))
def test_numbers_are_read_from_paths_of_releases_only(text: str) -> None:
    for path in (text, f"releases/platform/{text}", f"releases/{text}/1.json", f"releases/platform/{text}.json"):
        number = release_number(path, "platform")
        assert number is None or path == release_target("platform", number)
    assert release_number("releases/platform/7.json", "platform") == 7
    assert release_number("releases/platform/7.json", "desktop") is None
    assert release_number("releases/platform/current.json", "platform") is None
    assert release_number("releases/platform/07.json", "platform") is None
    assert release_number("releases/platform/9999999999.json", "platform") is None


@pytest.mark.parametrize(
    "channels",
    [b'[["a",2,1]]', b'[["a",0,1]]', b'[["a",1]]', b'[["a",1,2,3]]', b'[["b",1,2],["a",1,2]]', b'[["a",1,2],["a",1,2]]',
     b'[["../a",1,2]]', b'[{"channel":"a"}]', b'["a"]', b"[[]]", b'[["a",true,2]]', b'[["a",1,2147483649]]'],
)  # fmt: skip
def test_ranges_are_read_strictly(channels: bytes) -> None:
    data = assignment("h", 1, a=(1, 2)).encode()
    assert Assignment.parse(data).of("a") is not None
    with pytest.raises(DocumentError):
        Assignment.parse(data.replace(b'[["a",1,2]]', channels))
