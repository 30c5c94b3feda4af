# SPDX-License-Identifier: Apache-2.0
"""Keys change, are lost and are stolen; hosts that have been there from the first root follow.

Each story that is an attack: refused, the host as it was; then the publisher recovers and the host goes on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tuf.api.metadata import Targets

from documents.host_state import Floor
from keys.anchor import TrustAnchor
from keys.signers import open_role
from lab.hostile import CHANNELS, Host, Scene, body
from lab.publishing import DAY, PASSPHRASE
from publisher.custody import Rotation, renew_role, rotate_role
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.floor import load_floor, raised, save_floor
from updater.errors import ClockWrong, MetadataExpired, MetadataRefused
from updater.formats import metadata_name
from updater.repository.chain import load_chain, meta_of, sign
from updater.repository.errors import SignersMissing
from updater.repository.export import export_bundle
from updater.repository.refresh import refresh
from updater.repository.verify import verify_repository

TIMESTAMP = "metadata/timestamp.json"
ROLES = ["root", "targets", "snapshot", "timestamp", "releases-platform"]


def rotate(stage: Scene, role: str, **wanted: object) -> None:
    """As the publisher does."""
    rotation = Rotation(role=role, **wanted)  # type: ignore[arg-type]
    rotate_role(stage.publisher.repository, stage.publisher.keys, PASSPHRASE, rotation, now=stage.now)


def discard(stage: Scene, *names: str) -> None:
    """These keys are lost."""
    for name in names:
        (stage.publisher.keys / f"{name}.pem").unlink()


def follows(stage: Scene, number: int, fresh: Path) -> None:
    """The old host and one that starts from the first root both get the next releases."""
    stage.publisher.publish_platform(number)
    stage.publisher.publish_workload(number)
    verify_repository(stage.publisher.repository, now=stage.now)
    for host in (stage.host, Host(fresh, stage.publisher.anchor)):
        generation = host.apply(stage.source, stage.now)
        assert generation is not None
        assert generation.platform.number == number


@pytest.mark.parametrize("role", ROLES)
def test_hosts_follow_new_keys(stage: Scene, tmp_path: Path, role: str) -> None:
    before = {key.stem for key in stage.publisher.keys.glob(f"{role}-*.pem")}
    rotate(stage, role)
    assert {key.stem for key in stage.publisher.keys.glob(f"{role}-*.pem")} > before
    assert stage.host.apply(stage.source, stage.now) is None, "nothing is new for a host"
    discard(stage, *before)
    follows(stage, 2, tmp_path / "fresh")


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp", "releases-platform"])
def test_lost_keys_are_replaced_without_them(stage: Scene, tmp_path: Path, role: str) -> None:
    discard(stage, *(key.stem for key in stage.publisher.keys.glob(f"{role}-*.pem")))
    with pytest.raises(SignersMissing):
        renew_or_refresh(stage, role)
    rotate(stage, role, make=3 if role == "targets" else 1)
    follows(stage, 2, tmp_path / "fresh")


def renew_or_refresh(stage: Scene, role: str) -> None:
    publisher = stage.publisher
    if role in {"snapshot", "timestamp"}:
        refresh(publisher.repository, publisher.keys, PASSPHRASE, now=stage.now)
    else:
        renew_role(publisher.repository, publisher.keys, PASSPHRASE, role, now=stage.now)


def test_one_lost_root_key_is_replaced_and_two_are_too_many(stage: Scene, tmp_path: Path) -> None:
    root = load_chain(stage.publisher.repository).root.signed
    discard(stage, "root-2")
    rotate(stage, "root", make=1, remove=(root.roles["root"].keyids[1][:12],))
    new = load_chain(stage.publisher.repository).root.signed
    assert len(new.roles["root"].keyids) == 3
    assert set(new.roles["root"].keyids) & set(root.roles["root"].keyids) == {
        root.roles["root"].keyids[0], root.roles["root"].keyids[2],
    }  # fmt: skip
    follows(stage, 2, tmp_path / "fresh")
    discard(stage, "root-1", "root-3")
    with pytest.raises(SignersMissing, match="root 3 lacks 1 of the keys"):
        rotate(stage, "root")


@pytest.mark.parametrize("role", ROLES)
def test_threshold_and_number_of_keys_may_change(stage: Scene, tmp_path: Path, role: str) -> None:
    for count, threshold in ((4, 3), (1, 1), (3, 2)):
        rotate(stage, role, make=count, threshold=threshold)
        chain = load_chain(stage.publisher.repository)
        delegator = chain.targets.signed if role in chain.releases else chain.root.signed
        found = delegator.get_delegated_role(role)
        assert (len(found.keyids), found.threshold) == (count, threshold)
    follows(stage, 2, tmp_path / "fresh")


def test_a_year_is_survived_by_renewing_each_role(stage: Scene, tmp_path: Path) -> None:
    publisher = stage.publisher
    for _ in range(3):
        publisher.now += 300 * DAY
        for role in ("root", "targets", "releases-platform", "releases-desktop"):
            renew_role(publisher.repository, publisher.keys, PASSPHRASE, role, now=stage.now)
        refresh(publisher.repository, publisher.keys, PASSPHRASE, now=stage.now)
        assert stage.host.apply(stage.source, stage.now) is None
    assert load_chain(publisher.repository).root.signed.version == 4
    follows(stage, 2, tmp_path / "fresh")


def test_a_root_that_expired_is_renewed_too(stage: Scene, tmp_path: Path) -> None:
    publisher = stage.publisher
    publisher.now += 400 * DAY
    refresh(publisher.repository, publisher.keys, PASSPHRASE, now=stage.now)
    stage.host.refuses(MetadataExpired, stage.source, stage.now, "root expired on")
    for role in ("root", "targets", "releases-platform", "releases-desktop"):
        renew_role(publisher.repository, publisher.keys, PASSPHRASE, role, now=stage.now)
    follows(stage, 2, tmp_path / "fresh")


def thief(stage: Scene, version: int, *, expires: int = 2100) -> tuple[bytes, bytes, str]:
    """Timestamp and snapshot as the holder of the stolen online keys makes them; nothing in them is new."""
    chain = load_chain(stage.publisher.repository)
    snapshot, timestamp = chain.snapshot.metadata, chain.timestamp.metadata
    for metadata in (snapshot, timestamp):
        metadata.signed.version = version
        metadata.signed.expires = metadata.signed.expires.replace(year=expires)
    data = sign(snapshot, open_role("snapshot", stage.publisher.keys, PASSPHRASE))
    timestamp.signed.snapshot_meta = meta_of(snapshot.signed, data)
    name = metadata_name("snapshot", version)
    return sign(timestamp, open_role("timestamp", stage.publisher.keys, PASSPHRASE)), data, name


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_a_fast_forward_by_stolen_online_keys_ends_with_a_rotation(stage: Scene, tmp_path: Path, role: str) -> None:
    """The thief drives the versions up, so that nothing of the publisher's looks new any more."""
    timestamp, snapshot, name = thief(stage, 2**31)
    stage.server.rules = {TIMESTAMP: body(timestamp), name: body(snapshot)}
    assert stage.host.apply(stage.source, stage.now) is None, "nothing is gained but a standstill"
    stage.server.rules.clear()
    stage.publisher.publish_platform(2)
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "BadVersionNumberError")

    for name in ("timestamp", "snapshot"):
        rotate(stage, name)
    follows(stage, 3, tmp_path / "fresh")
    # What the thief signed is worth nothing any more.
    stage.server.rules[TIMESTAMP] = body(timestamp)
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "0/1 keys")


def test_a_stolen_channel_key_ends_with_a_rotation_of_it_and_of_the_snapshot(stage: Scene, tmp_path: Path) -> None:
    """The thief has the channel's key and the online keys, and drives the version of the channel's metadata up."""
    chain = load_chain(stage.publisher.repository)
    held = chain.releases["releases-platform"]
    held.signed.version = 2**31
    channel = sign(held.metadata, open_role("releases-platform", stage.publisher.keys, PASSPHRASE))
    snapshot, timestamp = chain.snapshot.metadata, chain.timestamp.metadata
    snapshot.signed.version += 1
    snapshot.signed.meta["releases-platform.json"] = meta_of(held.signed, channel)
    data = sign(snapshot, open_role("snapshot", stage.publisher.keys, PASSPHRASE))
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = meta_of(snapshot.signed, data)
    stage.server.rules = {
        TIMESTAMP: body(sign(timestamp, open_role("timestamp", stage.publisher.keys, PASSPHRASE))),
        metadata_name("snapshot", snapshot.signed.version): body(data),
        metadata_name("releases-platform", 2**31): body(channel),
    }
    assert stage.host.apply(stage.source, stage.now) is None
    stage.server.rules.clear()
    for _ in range(2):
        stage.publisher.publish_platform(load_number(stage) + 1)
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "BadVersionNumberError")
    for role in ("releases-platform", "snapshot", "timestamp"):
        rotate(stage, role)
    follows(stage, 9, tmp_path / "fresh")


def load_number(stage: Scene) -> int:
    targets: Targets = load_chain(stage.publisher.repository).releases["releases-platform"].signed
    return max(int(path.split("/")[-1][:-5]) for path in targets.targets if "current" not in path)


def test_a_channel_key_signs_for_its_own_channel_alone(stage: Scene) -> None:
    """A rotated channel's old key, and another channel's key, count for nothing."""
    old = open_role("releases-platform", stage.publisher.keys, PASSPHRASE)
    rotate(stage, "releases-platform")
    stage.publisher.publish_platform(2)
    held = load_chain(stage.publisher.repository).releases["releases-platform"]
    for signers in (old, open_role("releases-desktop", stage.publisher.keys, PASSPHRASE)):
        stage.server.rules[held.name] = body(sign(held.metadata, signers))
        stage.host.refuses(MetadataRefused, stage.source, stage.now)
    stage.server.rules.clear()
    assert stage.host.apply(stage.source, stage.now) is not None


def test_what_a_thief_left_on_a_hosts_disk_counts_for_nothing(stage: Scene) -> None:
    """After a rotation the old timestamp on the host's disk counts no more, whatever its version."""
    timestamp, _, _ = thief(stage, 2**31)
    rotate(stage, "timestamp")
    (stage.host.folder / "tuf/timestamp.json").write_bytes(timestamp)
    stage.publisher.publish_platform(2)
    assert stage.host.apply(stage.source, stage.now) is not None


class TestTheFloorsTime:
    """A thief with the online keys and the host's clock drives the floor's time up, to lock the host out."""

    LATER = 300 * DAY

    @pytest.fixture
    def driven(self, stage: Scene) -> Scene:
        timestamp, snapshot, name = thief(stage, 50)
        stage.server.rules = {TIMESTAMP: body(timestamp), name: body(snapshot)}
        assert stage.host.apply(stage.source, stage.now + self.LATER) is None
        assert self.floor(stage).time == stage.now + self.LATER
        stage.server.rules.clear()
        # The clock is right again, and so is the repository.
        stage.publisher.publish_platform(2)
        return stage

    def floor(self, stage: Scene) -> Floor:
        return load_floor(stage.host.folder / "floor", TrustAnchor(stage.publisher.anchor))

    def test_it_locks_the_host_out_until_the_keys_are_rotated(self, driven: Scene, tmp_path: Path) -> None:
        driven.host.refuses(ClockWrong, driven.source, driven.now, "this host has already seen 2027-")
        rotate(driven, "snapshot")
        renew_role(driven.publisher.repository, driven.publisher.keys, PASSPHRASE, "root", now=driven.now)
        driven.host.refuses(ClockWrong, driven.source, driven.now)
        rotate(driven, "timestamp")
        generation = driven.host.apply(driven.source, driven.now)
        assert generation is not None
        assert generation.platform.number == 2
        floor = self.floor(driven)
        assert (floor.time, floor.root) == (driven.now, 6)
        follows(driven, 3, tmp_path / "fresh")

    def test_a_rotation_lets_it_sink_once(self, driven: Scene) -> None:
        rotate(driven, "snapshot")
        rotate(driven, "timestamp")
        assert driven.host.apply(driven.source, driven.now) is not None
        before = self.floor(driven)
        driven.host.refuses(ClockWrong, driven.source, driven.now - 30 * DAY)
        assert self.floor(driven) == before

    def test_what_the_thief_signed_makes_it_sink_for_nobody(self, driven: Scene) -> None:
        """An expired or forged state under the old keys is as little believed as before."""
        timestamp, snapshot, name = thief(driven, 60)
        rotate(driven, "snapshot")
        rotate(driven, "timestamp")
        driven.server.rules = {TIMESTAMP: body(timestamp), name: body(snapshot)}
        driven.host.refuses(ClockWrong, driven.source, driven.now)

    def test_releases_never_sink(self, driven: Scene) -> None:
        rotate(driven, "snapshot")
        rotate(driven, "timestamp")
        save_floor(driven.host.folder / "floor", raised(self.floor(driven), releases={"platform": 9}))
        driven.host.refuses(ClockWrong, driven.source, driven.now)
        assert dict(self.floor(driven).releases)["platform"] == 9

    def test_a_bundle_with_the_new_root_recovers_too_and_a_stale_one_does_not(
        self, driven: Scene, tmp_path: Path
    ) -> None:
        rotate(driven, "snapshot")
        rotate(driven, "timestamp")
        export_bundle(driven.publisher.repository, CHANNELS, tmp_path / "bundle")
        with BundleReader(tmp_path / "bundle") as reader:
            source = BundleSource(reader)
            driven.host.refuses(ClockWrong, source, driven.now + 20 * DAY)
            assert driven.host.apply(source, driven.now) is not None
