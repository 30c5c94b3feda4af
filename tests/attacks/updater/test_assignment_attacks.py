# SPDX-License-Identifier: Apache-2.0
"""A stolen assignments key, and somebody between a fleet and its hosts.

Each story: hosts that follow their assignments, the attack; then refused or without effect, the host as it was. What a
thief of that key *can* do stands here too: hold a host where it is, or at an allowed release above its floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets

from keys.roles import P256
from keys.signers import open_role, open_signer
from lab.fleet import Fleet, FleetHost, assignment
from lab.hostile import CHANNELS, Scene, body
from lab.publishing import DAY, PASSPHRASE, Publisher, platform
from updater.assignment import list_assignment
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.http import HttpSource
from updater.client.source import Source
from updater.errors import (
    AssignmentExpired,
    AssignmentRefused,
    Incompatible,
    MetadataExpired,
    MetadataRefused,
    NotAssigned,
    NotOffered,
)
from updater.formats import release_target
from updater.repository.assignments import bin_names, load_bin
from updater.repository.assignments_role import replace_key
from updater.repository.chain import load_chain, sign
from updater.repository.export import export_bundle

Edit = Callable[[Targets], None]


class Story:
    """The scene of the other attacks, where hosts follow assignments."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self.publisher = scene.publisher
        self.source = scene.source
        self.fleet = Fleet(scene.publisher)
        self.fleet.assign("host-a", "host-b")
        self.host = FleetHost(folder / "host-a", scene.publisher.anchor, "host-a")
        assert self.host.apply(scene.source, scene.now) is not None
        scene.server.requests.clear()

    @property
    def now(self) -> int:
        return self.publisher.now

    def bin(self, host: str = "host-a") -> str:
        """The role that lists a host."""
        return bin_names(load_chain(self.publisher.repository)).get_role_for_target(f"assignments/{host}.json")

    def forge(self, edit: Edit, host: str = "host-a", key: Publisher | None = None) -> None:
        """Serve another bin in place of the one that is listed, of the same version: only a key is needed for that."""
        name = self.bin(host)
        held = load_bin(self.publisher.repository, load_chain(self.publisher.repository), name)
        edit(held.signed)
        data = sign(held.metadata, open_role("assignments", (key or self.publisher).keys, PASSPHRASE))
        self.scene.server.rules[f"metadata/{held.signed.version}.{name}.json"] = body(data)

    def again(self) -> None:
        """A new version of the bin is published, so that the host asks for it."""
        self.fleet.assign("host-a")


@pytest.fixture
def story(stage: Scene, tmp_path: Path) -> Iterator[Story]:
    (tmp_path / "fleet").mkdir()
    return Story(stage, tmp_path / "fleet")


def _set(**ranges: tuple[int, int]) -> Edit:
    def edit(targets: Targets) -> None:
        target = list_assignment(assignment("host-a", 2**33, **ranges))
        targets.targets[target.path] = target

    return edit


def test_a_host_takes_what_it_is_assigned_and_nothing_newer(story: Story) -> None:
    for number in (2, 3, 4):
        story.publisher.publish_platform(number)
    story.fleet.assign("host-a", platform=(1, 3), desktop=(1, 9))
    assert story.host.apply(story.source, story.now) is not None
    assert story.host.numbers() == {"platform": 3, "desktop": 1}
    candidate = story.host.update.check(story.source, CHANNELS, now=story.now)
    assert not candidate.resolution.new
    # A host that follows no assignment takes the newest.
    assert story.scene.host.apply(story.source, story.now) is not None
    # And so does this one, once it may.
    story.fleet.assign("host-a")
    assert story.host.apply(story.source, story.now) is not None
    assert story.host.numbers()["platform"] == 4


def test_a_host_without_an_assignment_takes_nothing(story: Story, tmp_path: Path) -> None:
    story.publisher.publish_platform(2)
    story.fleet.unassign("host-a")
    story.host.refuses(NotAssigned, story.source, story.now, "this host is host-a")
    # Nor does one of whose bin nobody has ever heard.
    lonely = next(f"n{n}" for n in range(100) if story.bin(f"n{n}") not in {story.bin(), story.bin("host-b")})
    stranger = FleetHost(tmp_path / "stranger", story.publisher.anchor, lonely)
    stranger.refuses(NotAssigned, story.source, story.now)
    assert stranger.update.active() is None


def test_a_host_takes_nothing_from_a_repository_without_assignments(stage: Scene, tmp_path: Path) -> None:
    host = FleetHost(tmp_path / "fleet-host", stage.publisher.anchor, "host-a")
    host.refuses(NotAssigned, stage.source, stage.now)


def test_an_expired_assignment_is_refused(story: Story) -> None:
    story.publisher.publish_platform(2)
    story.fleet.assign("host-a", days=3)
    story.host.refuses(AssignmentExpired, story.source, story.now + 4 * DAY, "host-a expired on")
    assert story.host.apply(story.source, story.now + 2 * DAY) is not None


def test_an_unsigned_or_foreign_bin_is_refused(story: Story, tmp_path: Path) -> None:
    story.publisher.publish_platform(2)
    story.again()
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    Fleet(other)
    story.forge(_set(), key=other)
    story.host.refuses(MetadataRefused, story.source, story.now, "0/1 keys")


def test_another_hosts_assignment_is_refused(story: Story) -> None:
    """The key's owner could sign any; but a document of another host is none for this one."""
    story.publisher.publish_platform(2)
    story.again()

    def swap(targets: Targets) -> None:
        targets.targets["assignments/host-a.json"] = list_assignment(assignment("host-b", 2**33))

    story.forge(swap)
    story.host.refuses(AssignmentRefused, story.source, story.now)


def test_the_bin_of_other_hosts_is_no_bin_for_this_one(story: Story) -> None:
    """Bins are listed by version alone and signed by one key, so one can be served for another: it says nothing."""
    story.publisher.publish_platform(2)
    chain = load_chain(story.publisher.repository)
    story.fleet.assign("host-a")
    name, other = story.bin(), next(f"h{n}" for n in range(100) if story.bin(f"h{n}") != story.bin())
    story.fleet.assign(other)
    story.fleet.assign(other)
    repository = story.publisher.repository
    version = load_chain(repository).snapshot.signed.meta[f"{name}.json"].version
    assert version > chain.snapshot.signed.meta[f"{name}.json"].version
    story.scene.server.rules[f"metadata/{version}.{name}.json"] = body(
        (repository / f"metadata/2.{story.bin(other)}.json").read_bytes()
    )
    story.host.refuses(NotAssigned, story.source, story.now)


def test_an_older_bin_with_a_new_snapshot_is_refused(story: Story) -> None:
    story.fleet.assign("host-a", platform=(1, 1), desktop=(1, 1))
    version = load_chain(story.publisher.repository).snapshot.signed.meta[f"{story.bin()}.json"].version
    old = (story.publisher.repository / f"metadata/{version}.{story.bin()}.json").read_bytes()
    story.publisher.publish_platform(2)
    story.fleet.assign("host-a")
    story.scene.server.rules[f"metadata/{version + 1}.{story.bin()}.json"] = body(old)
    story.host.refuses(MetadataRefused, story.source, story.now)


def test_a_stolen_key_leads_no_host_below_its_floor(story: Story) -> None:
    story.publisher.publish_platform(2)
    assert story.host.apply(story.source, story.now) is not None
    story.publisher.publish_platform(3)
    story.again()
    story.forge(_set(platform=(1, 1), desktop=(1, 1)))
    story.host.refuses(Incompatible, story.source, story.now, "none of them is offered that this host may take")
    assert story.host.numbers() == {"platform": 2, "desktop": 1}
    assert not [name for name in story.scene.asked() if name.endswith(".1.json") and "platform" in name]


def test_a_stolen_key_brings_no_release_that_the_offline_role_does_not_list(story: Story) -> None:
    """Neither by a number that is not there nor by listing release and artifact itself."""
    story.publisher.publish_platform(2)
    story.again()
    story.forge(_set(platform=(9, 9), desktop=(1, 1)))
    story.host.refuses(Incompatible, story.source, story.now, "platform 2: assigned are 9 to 9")

    evil, _ = story.publisher.artifact("vmm/host-files", "host-files", b"not from the publisher")
    data = platform(9, evil).encode()

    def smuggle(targets: Targets) -> None:
        _set(platform=(9, 9), desktop=(1, 1))(targets)
        for number in (9, None):
            target = TargetFile.from_data(release_target("platform", number), data, ["sha256"])
            target.unrecognized_fields["custom"] = {"published": story.now}
            targets.targets[target.path] = target

    story.again()
    story.forge(smuggle)
    story.host.refuses(Incompatible, story.source, story.now)
    assert not [name for name in story.scene.asked() if name.startswith("blobs/") or ".9.json" in name]


def test_a_stolen_key_adds_no_channel_to_a_host(story: Story) -> None:
    story.publisher.publish_platform(2)
    story.again()
    story.forge(_set(platform=(1, 9), desktop=(1, 9), other=(1, 9)))
    assert story.host.apply(story.source, story.now) is not None
    assert story.host.numbers() == {"platform": 2, "desktop": 1}
    assert not [name for name in story.scene.asked() if "other" in name]


def test_a_stolen_key_delegates_to_nobody(story: Story, tmp_path: Path) -> None:
    """A bin that delegates on, or another key in it, opens no way: paths of releases never lead there."""
    story.publisher.publish_platform(2)
    story.again()
    thief = CryptoSigner.generate_ecdsa()
    signed = Metadata(Targets(version=2, targets={}))
    signed.sign(thief)
    story.scene.server.rules[f"metadata/2.{story.bin()}.json"] = body(signed.to_bytes())
    story.host.refuses(MetadataRefused, story.source, story.now)


def test_what_a_stolen_key_can_do_is_hold_a_host(story: Story) -> None:
    """Stated in the threat model: freeze it, or keep it at an allowed release above its floor, until it is noticed."""
    for number in (2, 3):
        story.publisher.publish_platform(number)
    story.again()
    story.forge(_set(platform=(2, 2), desktop=(1, 1)))
    assert story.host.apply(story.source, story.now) is not None
    assert story.host.numbers()["platform"] == 2
    story.again()
    story.forge(lambda targets: targets.targets.clear())
    story.host.refuses(NotAssigned, story.source, story.now)
    # A hidden bin is noticed at once, and all of it when the timestamp expires.
    story.again()
    version = load_chain(story.publisher.repository).snapshot.signed.meta[f"{story.bin()}.json"].version
    story.scene.server.rules[f"metadata/{version}.{story.bin()}.json"] = body(b"", 404)
    story.host.refuses(NotOffered, story.source, story.now)
    story.host.refuses(MetadataExpired, story.source, story.now + 8 * DAY)
    story.scene.server.rules.clear()
    assert story.host.apply(story.source, story.now) is not None
    assert story.host.numbers()["platform"] == 3


def test_a_stolen_key_is_worth_nothing_once_it_is_replaced(story: Story, tmp_path: Path) -> None:
    file = story.publisher.keys / "assignments-1.pem"
    stolen = file.rename(tmp_path / "assignments-1.pem")
    replace_key(story.publisher.repository, story.publisher.keys, PASSPHRASE, now=story.now)
    story.publisher.publish_platform(2)
    name = story.bin()
    held = load_bin(story.publisher.repository, load_chain(story.publisher.repository), name)
    _set(platform=(1, 1), desktop=(1, 1))(held.signed)
    thief = open_signer(f"file:{stolen}", P256, PASSPHRASE)
    forged = f"metadata/{held.signed.version}.{name}.json"
    story.scene.server.rules[forged] = body(sign(held.metadata, [thief]))
    story.host.refuses(MetadataRefused, story.source, story.now, "0/1 keys")
    del story.scene.server.rules[forged]
    assert story.host.apply(story.source, story.now) is not None
    assert story.host.numbers()["platform"] == 2


def _bundle(story: Story, path: Path, *hosts: str) -> Source:
    export_bundle(story.publisher.repository, CHANNELS, path, hosts=hosts)
    return BundleSource(BundleReader(path))


def test_a_bundle_is_no_way_around_an_assignment(story: Story, tmp_path: Path) -> None:
    for number in (2, 3):
        story.publisher.publish_platform(number)
    story.fleet.assign("host-a", platform=(1, 2), desktop=(1, 9))
    # Made for nobody: what is assigned is not in it.
    story.host.refuses(NotOffered, _bundle(story, tmp_path / "plain"), story.now)
    # Made for a host of another bin.
    other = next(f"h{n}" for n in range(100) if story.bin(f"h{n}") != story.bin())
    story.fleet.assign(other)
    story.host.refuses(NotOffered, _bundle(story, tmp_path / "other", other), story.now)
    assert story.host.apply(_bundle(story, tmp_path / "own", "host-a"), story.now) is not None
    assert story.host.numbers() == {"platform": 2, "desktop": 1}


def test_a_bundle_may_outlive_its_metadata_but_not_the_assignment(story: Story, tmp_path: Path) -> None:
    story.publisher.publish_platform(2)
    story.fleet.assign("host-a", days=20)
    bundle = _bundle(story, tmp_path / "bundle", "host-a")
    story.host.refuses(AssignmentExpired, bundle, story.now + 21 * DAY)
    with pytest.raises(AssignmentExpired):
        story.host.update.check(bundle, CHANNELS, now=story.now + 21 * DAY, allow_stale=3660)
    candidate = story.host.update.check(bundle, CHANNELS, now=story.now + 19 * DAY)
    assert candidate.stale
    assert candidate.resolution.new


def test_the_server_is_asked_for_one_bin_only(story: Story) -> None:
    story.fleet.assign(*[f"many-{n}" for n in range(100)])
    story.fleet.assign("host-a")
    story.scene.server.requests.clear()
    story.host.update.check(HttpSource(story.scene.server.url), CHANNELS, now=story.now)
    assert len([name for name in story.scene.asked() if "assignments-" in name]) == 1
