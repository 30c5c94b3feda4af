# SPDX-License-Identifier: Apache-2.0
"""The floor only rises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.errors import DocumentError, DocumentNewer, Exit
from documents.host_state import Floor
from keys.anchor import TrustAnchor
from lab.publishing import DAY, NOW, Publisher, platform
from updater.client.floor import (
    load_floor,
    raised,
    require_clock,
    require_published,
    require_release,
    require_root,
    save_floor,
)
from updater.errors import BelowFloor, ClockWrong

channels = st.sampled_from(["a", "b", "c"])
numbers = st.dictionaries(channels, st.integers(1, 1000))
floors = st.builds(
    lambda time, root, releases: Floor(time=time, root=root, releases=tuple(sorted(releases.items()))),
    st.integers(0, 2**40),
    st.integers(1, 1000),
    numbers,
)
FLOOR = Floor(time=NOW, root=3, releases=(("platform", 5),))


@given(floors, st.integers(0, 2**40), st.integers(0, 1000), numbers)
def test_nothing_ever_falls(floor: Floor, time: int, root: int, releases: dict[str, int]) -> None:
    higher = raised(floor, time=time, root=root, releases=releases)
    assert higher.time == max(floor.time, time)
    assert higher.root == max(floor.root, root)
    old, new = dict(floor.releases), dict(higher.releases)
    assert new.keys() == old.keys() | releases.keys()
    assert all(new[c] == max(old.get(c, 0), releases.get(c, 0)) for c in new)
    assert raised(higher, time=time, root=root, releases=releases) == higher
    assert Floor.parse(higher.encode()) == higher


@pytest.fixture(scope="module")
def anchor(tmp_path_factory: pytest.TempPathFactory) -> TrustAnchor:
    return TrustAnchor(Publisher(tmp_path_factory.mktemp("publisher")).anchor)


@given(floors, floors)
def test_what_a_witness_says_is_the_least_and_its_time_does_not_count(
    anchor: TrustAnchor, tmp_path_factory: pytest.TempPathFactory, kept: Floor, said: Floor
) -> None:
    path = tmp_path_factory.getbasetemp() / "floor"
    save_floor(path, kept)
    found = load_floor(path, anchor, lambda: said)
    assert found == raised(kept, root=said.root, releases=dict(said.releases))
    assert found.time == kept.time
    assert load_floor(path, anchor, lambda: None) == load_floor(path, anchor) == kept


@pytest.mark.parametrize("now", [0, NOW - DAY - 1])
def test_a_clock_before_the_floor_is_wrong(now: int) -> None:
    with pytest.raises(ClockWrong) as caught:
        require_clock(FLOOR, now)
    assert caught.value.exit == Exit.NOT_READY
    assert caught.value.remedy == "set the clock"


@pytest.mark.parametrize("now", [NOW - DAY, NOW, NOW + 10_000 * DAY])
def test_a_small_step_back_is_tolerated(now: int) -> None:
    require_clock(FLOOR, now)


def test_nothing_is_published_in_the_future() -> None:
    require_published(NOW + DAY, NOW)
    with pytest.raises(ClockWrong, match="was published on"):
        require_published(NOW + DAY + 1, NOW)


def test_releases_and_roots_below_are_refused() -> None:
    for number in (5, 6):
        require_release(FLOOR, platform(number))
    with pytest.raises(BelowFloor):
        require_release(FLOOR, platform(4))
    require_release(FLOOR, platform(1, channel="other"))
    require_root(FLOOR, 3)
    with pytest.raises(BelowFloor):
        require_root(FLOOR, 2)


def test_the_file(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    anchor = TrustAnchor(Publisher(tmp_path / "p").anchor)
    path = tmp_path / "floor"
    assert load_floor(path, anchor) == Floor(time=0, root=1, releases=())
    save_floor(path, FLOOR)
    assert load_floor(path, anchor) == FLOOR
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(DocumentNewer):
        load_floor(path, anchor)
    path.write_bytes(b"")
    with pytest.raises(DocumentError):
        load_floor(path, anchor)
