# SPDX-License-Identifier: Apache-2.0
"""Which releases fit together."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.fsverity import digest_bytes
from documents.errors import Exit
from documents.host_state import Generation
from documents.release import Artifact, Release
from lab.publishing import platform, workload
from updater.client.resolve import Resolution, resolve
from updater.errors import BelowFloor, Incompatible, MetadataRefused


def _artifact(seed: int) -> Artifact:
    return Artifact(name="thing", kind="image", fsverity=f"{seed:064x}", length=1)


def _p(number: int, **changes: object) -> Release:
    return platform(number, _artifact(number), **changes)


def _w(number: int, **changes: object) -> Release:
    return workload(number, _artifact(1000 + number), **changes)


def _active(*releases: Release) -> Generation:
    data = {release.channel: release.encode() for release in releases}
    return Generation(number=1, releases=tuple(data[c] for c in sorted(data)), stale=False)


def _resolve(
    *offered: Release, active: Generation | None = None, refused: Collection[str] = (), agent: str = "0.1.0"
) -> Resolution:
    return resolve({r.channel: r.encode() for r in offered}, active, refused=refused, agent=agent)


def _numbers(resolution: Resolution) -> dict[str, int]:
    return {r.channel: r.number for r in map(Release.parse, resolution.releases)}


def test_the_newest_that_fits_is_chosen() -> None:
    resolution = _resolve(_p(2), _w(2), active=_active(_p(1), _w(1)))
    assert _numbers(resolution) == {"platform": 2, "desktop": 2}
    assert (resolution.new, resolution.held_back) == (True, ())


def test_nothing_new_is_no_error() -> None:
    resolution = _resolve(_p(1), _w(1), active=_active(_p(1), _w(1)))
    assert (resolution.new, resolution.held_back) == (False, ())


def test_a_workload_that_needs_the_old_platform_holds_the_new_one_back() -> None:
    resolution = _resolve(_p(2), _w(1, accepts=(1, 1)), active=_active(_p(1), _w(1, accepts=(1, 1))))
    assert not resolution.new
    assert resolution.held_back == ("platform 2: no release of desktop runs on it",)


def test_a_workload_that_needs_the_new_platform_comes_with_it() -> None:
    resolution = _resolve(_p(2), _w(2, accepts=(2, 2)), active=_active(_p(1), _w(1, accepts=(1, 1))))
    assert _numbers(resolution) == {"platform": 2, "desktop": 2}


def test_a_workload_that_does_not_run_on_the_new_platform_stays_back() -> None:
    resolution = _resolve(_p(2), _w(2, accepts=(1, 1)), active=_active(_p(1), _w(1)))
    assert _numbers(resolution) == {"platform": 2, "desktop": 1}
    assert resolution.held_back == ("desktop 2: does not run on platform 2",)


@pytest.mark.parametrize(("needed", "fits"), [("0.1.0", True), ("0.1.1", False), ("0.0.9", True), ("0.10.0", False)])
def test_a_release_may_need_a_newer_agent(needed: str, fits: bool) -> None:
    resolution = _resolve(_p(2, minimum_agent=needed), active=_active(_p(1)), agent="0.1.0")
    assert resolution.new is fits
    assert bool(resolution.held_back) is not fits


def test_versions_are_numbers() -> None:
    assert _resolve(_p(2, minimum_agent="0.9.0"), active=_active(_p(1)), agent="0.10.0").new


def test_refused_bytes_are_refused_whatever_signed_them() -> None:
    bad = _artifact(2).fsverity
    for offered in ((_p(2, refused=(bad,)),), (_p(2), _w(1, refused=(bad,)))):
        with pytest.raises(Incompatible, match="thing is refused"):
            _resolve(*offered)
    # Also where only the active release says so.
    resolution = _resolve(_p(2), active=_active(_p(1, refused=(bad,))))
    assert not resolution.new


def test_a_revocation_does_not_wait_for_the_publisher_of_what_it_revokes() -> None:
    """Site 1 has no successor; platform 2 refuses its image and becomes active all the same: the gate does the rest."""
    site = _w(1)
    resolution = _resolve(_p(2, refused=(site.artifacts[0].fsverity,)), site, active=_active(_p(1), site))
    assert _numbers(resolution) == {"platform": 2, "desktop": 1}
    assert resolution.held_back == ()


def test_what_failed_here_is_not_offered_again_but_its_successor_is() -> None:
    failed = [digest_bytes(_p(2).encode())]
    resolution = _resolve(_p(2), active=_active(_p(1)), refused=failed)
    assert (resolution.new, resolution.held_back) == (
        False,
        ("platform 2: failed or was rolled back on this host before",),
    )
    assert _resolve(_p(3), active=_active(_p(1)), refused=failed).new
    # An active release is never counted against itself.
    assert not _resolve(_p(2), active=_active(_p(2)), refused=failed).held_back


@pytest.mark.parametrize(
    "offered", [(_w(1),), (_p(1), _p(1, channel="other")), ()], ids=["no platform", "two platforms", "nothing"]
)
def test_there_is_exactly_one_platform(offered: tuple[Release, ...]) -> None:
    with pytest.raises(Incompatible, match="exactly one") as caught:
        _resolve(*offered)
    assert caught.value.exit == Exit.POLICY


def test_older_and_changed_releases_are_refused() -> None:
    with pytest.raises(BelowFloor):
        _resolve(_p(1), active=_active(_p(2)))
    with pytest.raises(MetadataRefused, match="never changes"):
        _resolve(_p(2, epoch=2), active=_active(_p(2)))


def test_a_channel_never_changes_its_authority() -> None:
    with pytest.raises(Incompatible, match="authority"):
        _resolve(_p(1, channel="main"), _w(2, channel="platform"), active=_active(_p(1)))


def test_a_first_update_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Incompatible, match="no release of desktop runs on it"):
        _resolve(_p(3), _w(1, accepts=(1, 2)))


bounds = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda pair: (min(pair), max(pair)))


@given(st.integers(1, 4), st.integers(1, 4), bounds, bounds)
def test_whatever_is_chosen_fits(
    old: int, new: int, old_accepts: tuple[int, int], new_accepts: tuple[int, int]
) -> None:
    active = _active(_p(min(old, new)), _w(1, accepts=old_accepts))
    try:
        resolution = _resolve(_p(max(old, new)), _w(2, accepts=new_accepts), active=active)
    except Incompatible:
        return
    numbers = _numbers(resolution)
    lowest, highest = (old_accepts, new_accepts)[numbers["desktop"] - 1]
    assert lowest <= numbers["platform"] <= highest
    assert list(numbers) == sorted(numbers)
