# SPDX-License-Identifier: Apache-2.0
"""When a release comes to which host, and what a wave must not hold back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.store import ContentStore
from documents.release import Artifact, Release
from documents.waves import HOSTS, Wave
from keys.anchor import TrustAnchor
from lab import documents
from lab.publishing import NOW, Publisher, platform
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.candidate import Candidate
from updater.client.places import Places
from updater.client.transaction import Update
from updater.client.waves import due_at, waiting
from updater.repository.export import export_bundle

HOUR, DAY = 3_600, 86_400
SLOW = (Wave(after=4 * HOUR, share=10), Wave(after=DAY, share=150), Wave(after=6 * DAY, share=1000))


def _release(number: int, *waves: Wave) -> Release:
    return platform(number, Artifact(name="a", kind="image", fsverity="0" * 64, length=1), waves=waves)


@pytest.mark.parametrize("place", [0, 500, 999])
def test_without_waves_everybody_is_due_at_once(place: int) -> None:
    assert due_at(_release(2), NOW, place) == NOW


def test_at_the_time_of_a_step_exactly_its_share_is_due() -> None:
    release = _release(2, *SLOW)
    for wave in SLOW:
        due = [place for place in range(HOSTS) if due_at(release, NOW, place) <= NOW + wave.after]
        assert due == list(range(wave.share))


@given(documents.waves(), st.integers(0, HOSTS - 2))
def test_who_stands_later_is_due_no_sooner_and_all_are_due_in_the_end(waves: tuple[Wave, ...], place: int) -> None:
    release = _release(2, *waves)
    assert NOW <= due_at(release, NOW, place) <= due_at(release, NOW, place + 1) <= NOW + waves[-1].after


def test_between_steps_hosts_come_evenly() -> None:
    """No rush at the step: of a wave of a day and all hosts, half are due after half a day."""
    release = _release(2, Wave(after=DAY, share=1000))
    due = sum(due_at(release, NOW, place) <= NOW + DAY // 2 for place in range(HOSTS))
    assert due == HOSTS // 2


@pytest.mark.parametrize("place", [-1, 1000])
def test_a_place_that_is_none_is_a_bug(place: int) -> None:
    with pytest.raises(ValueError, match="no place"):
        due_at(_release(2), NOW, place)


class World:
    """A publisher of platform 1 and desktop 1, and a host that has nothing yet."""

    def __init__(self, folder: Path) -> None:
        (folder / "publisher").mkdir()
        (folder / "state").mkdir()
        self._stick = folder / "stick"
        self.publisher = Publisher(folder / "publisher")
        self.publisher.publish_workload(1)
        self.publisher.publish_platform(1)
        anchor = TrustAnchor(self.publisher.anchor)
        self.host = Update(Places.below(folder / "state"), anchor, ContentStore(folder / "store"), "0.1.0")
        self.host.recover()

    def check(self, place: int | None, *, now: int = NOW, wait: bool = True) -> Candidate:
        export_bundle(self.publisher.repository, ("platform", "desktop"), self._stick)
        with BundleReader(self._stick) as reader:
            return self.host.check(BundleSource(reader), ("platform", "desktop"), now=now, place=place, wait=wait)

    def apply(self) -> None:
        export_bundle(self.publisher.repository, ("platform", "desktop"), self._stick)
        with BundleReader(self._stick) as reader:
            assert self.host.apply(BundleSource(reader), ("platform", "desktop"), now=NOW)
        self.host.confirm()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _platform(candidate: Candidate) -> int:
    return max(r.number for r in map(Release.parse, candidate.resolution.releases) if r.authority == "platform")


def test_a_host_waits_for_its_wave_and_is_told_how_long(world: World) -> None:
    world.apply()
    world.publisher.publish_platform(2, waves=SLOW)
    candidate = world.check(500)
    assert (_platform(candidate), candidate.resolution.new) == (1, False)
    assert candidate.resolution.held_back == ("platform 2: its wave has not reached this host",)
    (later,) = candidate.waiting
    assert (later.channel, later.number) == ("platform", 2)
    assert NOW + DAY < later.due < NOW + 6 * DAY
    early = world.check(500, now=later.due - 1)
    assert not early.resolution.new
    due = world.check(500, now=later.due)
    assert (_platform(due), due.waiting) == (2, ())


def test_a_command_does_not_wait_but_is_told(world: World) -> None:
    world.apply()
    world.publisher.publish_platform(2, waves=SLOW)
    candidate = world.check(999, wait=False)
    assert _platform(candidate) == 2
    assert [later.number for later in candidate.waiting] == [2]


def test_a_wave_holds_back_no_host_without_a_release(world: World) -> None:
    world.publisher.publish_platform(2, waves=SLOW)
    candidate = world.check(999)
    assert (_platform(candidate), candidate.waiting) == (2, ())


def test_a_wave_holds_back_no_bundle(world: World) -> None:
    world.apply()
    world.publisher.publish_platform(2, waves=SLOW)
    candidate = world.check(None)
    assert (_platform(candidate), candidate.waiting) == (2, ())


def test_an_urgent_release_has_no_waves_and_waits_for_none(world: World) -> None:
    world.apply()
    world.publisher.publish_platform(2, urgent=True)
    assert _platform(world.check(999)) == 2


def test_a_clock_that_is_set_back_does_not_make_a_host_wait_longer(world: World) -> None:
    """Within the tolerance for its steps; beyond it the clock is refused."""
    world.apply()
    world.publisher.publish_platform(2, waves=SLOW)
    (later,) = world.check(500).waiting
    world.check(500, now=later.due)
    assert _platform(world.check(500, now=later.due - HOUR)) == 2


def test_what_is_active_waits_for_nothing() -> None:
    data = _release(2, *SLOW).encode()
    assert waiting({"platform": data}, {"platform": NOW}, (data,), 999, NOW) == ()
