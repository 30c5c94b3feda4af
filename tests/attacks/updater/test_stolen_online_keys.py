# SPDX-License-Identifier: Apache-2.0
"""Stolen snapshot and timestamp keys, and the repository in the thief's hands: by network and by bundle.

What the thief gains is time, and nothing else: hosts can be kept on what they have, each channel for itself, until the
channel's own metadata expires; a host that has no floor yet can be given an old release. What runs is still what the
release keys signed, and a host never goes back. A root with other online keys ends all of it, whatever versions the
thief has used up.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Timestamp

from documents.errors import VmgateError
from lab.carriers import CARRIERS, Carrier
from lab.forge import ONLINE, Forge
from lab.hostile import Host, Scene
from lab.publishing import DAY
from updater.errors import BelowFloor, ClockWrong, ImportTooLate, Incompatible, MetadataExpired, MetadataRefused
from updater.repository.periods import PERIODS

PLATFORM = "releases-platform"
DESKTOP = "releases-desktop"
FIRST = 2
"""The version of a channel's metadata that has release 1."""


@pytest.fixture
def thief(stage: Scene, tmp_path: Path) -> Forge:
    """Holds the online keys, and a repository with release 2; the host has release 1."""
    stage.publisher.publish_platform(2)
    stage.publisher.publish_workload(2)
    return Forge(stage.publisher, tmp_path / "stolen")


def _apply(host: Host, thief: Forge, carry: Carrier) -> list[int]:
    """Update; which releases are active then, desktop first."""
    with carry(thief.repository) as source:
        host.apply(source, thief.now)
    generation = host.update.active()
    assert generation is not None
    return [release.number for release in generation.parsed()]


def _refused(host: Host, thief: Forge, carry: Carrier, error: type[VmgateError], match: str | None = None) -> None:
    with carry(thief.repository) as source:
        host.refuses(error, source, thief.now, match)


def _old(thief: Forge, *roles: str) -> None:
    """List the first version of channels again."""
    for role in roles:
        thief.list(thief.as_it_was(role, FIRST))


def test_a_host_never_goes_back(stage: Scene, thief: Forge, carry: Carrier) -> None:
    assert _apply(stage.host, thief, carry) == [2, 2]
    _old(thief, PLATFORM)
    _refused(stage.host, thief, carry, MetadataRefused, "BadVersionNumberError")
    # Without the metadata cache the floor is left.
    for path in (stage.host.folder / "tuf").glob("*.json"):
        path.unlink()
    _refused(stage.host, thief, carry, BelowFloor, "platform 1 is offered and this host has confirmed 2")


def test_releases_are_still_signed_by_their_channel(stage: Scene, thief: Forge, carry: Carrier) -> None:
    evil = thief.current("platform").read_bytes().replace(b'"number":2', b'"number":3')
    both = [signer for role in ONLINE for signer in thief.online[role]]
    thief.release(PLATFORM, "releases/platform/current.json", evil, both)
    _refused(stage.host, thief, carry, MetadataRefused, "0/1 keys")


def test_the_thief_makes_no_root(stage: Scene, thief: Forge, carry: Carrier) -> None:
    own = CryptoSigner.generate_ecdsa()
    thief.new_root({"targets": own}, [signer for role in ONLINE for signer in thief.online[role]])
    _refused(stage.host, thief, carry, MetadataRefused, "0/2 keys")


def test_hosts_can_be_kept_still_until_the_channel_expires(stage: Scene, thief: Forge, carry: Carrier) -> None:
    """Timestamps that are always fresh hide what is new. The end of it was signed by the channel."""
    _old(thief, PLATFORM, DESKTOP)
    for _ in range(3):
        thief.now += 100 * DAY
        thief.list()
        assert _apply(stage.host, thief, carry) == [1, 1]
    thief.now = stage.now + PERIODS.releases + DAY
    thief.list()
    # A bundle is judged as of the last time that the host was sure of, and then by the days that its release allows.
    late = {CARRIERS["network"]: MetadataExpired, CARRIERS["bundle"]: ImportTooLate}
    _refused(stage.host, thief, carry, late[carry])


def test_a_clock_that_runs_ahead_raises_the_floor_no_further_than_the_offline_roles_allow(
    stage: Scene, thief: Forge, carry: Carrier
) -> None:
    """A wrong clock alone is found by the timestamp's expiry; with the timestamp key, by the channel's."""
    late = {CARRIERS["network"]: MetadataExpired, CARRIERS["bundle"]: ImportTooLate}
    honest = stage.now
    thief.now = honest + 3000 * DAY
    thief.list()
    _refused(stage.host, thief, carry, late[carry])
    thief.now = honest + PERIODS.releases - DAY
    thief.list()
    assert _apply(stage.host, thief, carry) == [2, 2]
    # What is gained by it: until then, updates are refused by hosts whose clock was put right.
    thief.now = honest
    _refused(stage.host, thief, carry, ClockWrong)


def test_a_channel_can_be_held_back_alone(stage: Scene, thief: Forge, carry: Carrier) -> None:
    """The mixture is one that its publishers allow: the old desktop says that it runs on the new platform."""
    _old(thief, DESKTOP)
    assert _apply(stage.host, thief, carry) == [1, 2]


def test_a_mixture_that_its_publisher_does_not_allow_is_not_made(stage: Scene, tmp_path: Path, carry: Carrier) -> None:
    stage.publisher.publish_workload(2, accepts=(1, 1))
    assert stage.host.apply(stage.source, stage.now) is not None
    stage.publisher.publish_platform(2)
    stage.publisher.publish_workload(3, accepts=(2, 2))
    thief = Forge(stage.publisher, tmp_path / "stolen")
    thief.list(thief.as_it_was(DESKTOP, FIRST + 1))
    _refused(stage.host, thief, carry, Incompatible, "runs on it")


def test_a_new_host_can_be_given_an_old_release(stage: Scene, thief: Forge, tmp_path: Path, carry: Carrier) -> None:
    """It has no floor yet. From its first honest look on it has one."""
    _old(thief, PLATFORM, DESKTOP)
    host = Host(tmp_path / "fresh", stage.publisher.anchor)
    assert _apply(host, thief, carry) == [1, 1]
    honest = Forge(stage.publisher, tmp_path / "honest")
    honest.list(jump=10)
    assert _apply(host, honest, carry) == [2, 2]
    thief.list(jump=20)
    _refused(host, thief, carry, MetadataRefused)


def test_versions_that_were_used_up_are_got_back_by_a_new_root(
    stage: Scene, thief: Forge, tmp_path: Path, carry: Carrier
) -> None:
    """Fast-forward: after the thief's numbers all honest ones look old, until other keys sign them."""
    _old(thief, PLATFORM, DESKTOP)
    thief.list(jump=2**31)
    assert _apply(stage.host, thief, carry) == [1, 1]
    honest = Forge(stage.publisher, tmp_path / "honest")
    honest.list()
    _refused(stage.host, honest, carry, MetadataRefused, "BadVersionNumberError")
    fresh = {role: CryptoSigner.generate_ecdsa() for role in ONLINE}
    honest.new_root(fresh, honest.signers(Root.type))
    honest.online = {role: [signer] for role, signer in fresh.items()}
    honest.list()
    assert honest.newest(Timestamp.type).version < 2**31
    assert _apply(stage.host, honest, carry) == [2, 2]
    # And the thief's keys are worth nothing, whatever number they sign.
    thief.list(jump=2**31)
    (thief.repository / "metadata/2.root.json").write_bytes((honest.repository / "metadata/2.root.json").read_bytes())
    _refused(stage.host, thief, carry, MetadataRefused, "0/1 keys")
