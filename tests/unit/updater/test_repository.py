# SPDX-License-Identifier: Apache-2.0
"""What the publisher's side writes, checks and refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from content import locks
from content.errors import Busy, ContentError, DigestMismatch, NotInStore
from documents.errors import DocumentError
from documents.release import Release
from keys.errors import KeyExists, PassphraseWrong
from lab.publishing import DAY, NOW, PASSPHRASE, Publisher, platform, workload
from publisher.desk import SUPPORTED
from updater.errors import MetadataExpired, NoSuchChannel
from updater.repository.chain import load_chain
from updater.repository.create import create
from updater.repository.errors import ReleaseRefused, RepositoryDamaged, RepositoryExists, SignersMissing
from updater.repository.export import export_bundle
from updater.repository.refresh import refresh
from updater.repository.release import LISTED, publish
from updater.repository.verify import Inventory, verify_repository


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


def _tree(repository: Path) -> dict[str, bytes]:
    files = [p for p in sorted(repository.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(repository)): p.read_bytes() for p in files}


def test_a_new_repository_is_what_the_architecture_says(publisher: Publisher) -> None:
    root = Metadata[Root].from_bytes(publisher.anchor).signed
    assert root.consistent_snapshot
    assert {name: (r.threshold, len(r.keyids)) for name, r in root.roles.items()} == {
        "root": (2, 3),
        "targets": (2, 3),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    schemes = {root.keys[k].scheme for name in ("root", "targets") for k in root.roles[name].keyids}
    assert schemes == {"ecdsa-sha2-nistp384"}
    assert {root.keys[root.roles[n].keyids[0]].scheme for n in ("snapshot", "timestamp")} == {"ecdsa-sha2-nistp256"}
    targets = Metadata[Targets].from_file(str(publisher.repository / "metadata/1.targets.json")).signed
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    delegated = {n: (r.threshold, r.terminating, r.paths) for n, r in targets.delegations.roles.items()}
    assert delegated == {
        "releases-platform": (1, True, ["releases/platform/*"]),
        "releases-desktop": (1, True, ["releases/desktop/*"]),
    }
    assert sorted(p.name for p in publisher.keys.iterdir()) == [
        "releases-desktop-1.pem",
        "releases-platform-1.pem",
        "root-1.pem",
        "root-2.pem",
        "root-3.pem",
        "snapshot-1.pem",
        "targets-1.pem",
        "targets-2.pem",
        "targets-3.pem",
        "timestamp-1.pem",
        "tpm-policy-1.pem",
    ]
    assert verify_repository(publisher.repository, now=NOW) == Inventory(
        root=1, channels=(("releases-platform", 0), ("releases-desktop", 0)), releases=0, blobs=0, length=0
    )


def test_a_repository_and_keys_are_never_overwritten(publisher: Publisher, tmp_path: Path) -> None:
    before = _tree(publisher.repository)
    with pytest.raises(RepositoryExists, match="has one already"):
        create(publisher.repository, tmp_path / "k", PASSPHRASE, ("platform",), now=NOW)
    with pytest.raises(KeyExists):
        create(tmp_path / "r", publisher.keys, PASSPHRASE, ("platform",), now=NOW)
    assert _tree(publisher.repository) == before


@pytest.mark.parametrize("channels", [(), ("a", "a"), ("../a",)])
def test_channels_are_distinct_names(tmp_path: Path, channels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="channel"):
        create(tmp_path / "r", tmp_path / "k", PASSPHRASE, channels, now=NOW)


def test_a_release_needs_no_root_and_no_targets_key(publisher: Publisher) -> None:
    for path in [*publisher.keys.glob("root-*"), *publisher.keys.glob("targets-*")]:
        path.unlink()
    publisher.publish_platform(1)
    publisher.publish_workload(4)
    found = verify_repository(publisher.repository, now=NOW)
    assert found.channels == (("releases-platform", 1), ("releases-desktop", 4))
    assert (found.releases, found.blobs) == (2, 2)


def test_all_releases_stay(publisher: Publisher) -> None:
    for number in (1, 2, 5):
        publisher.publish_platform(number)
    held = load_chain(publisher.repository).releases["releases-platform"].signed
    assert sorted(held.targets) == [f"releases/platform/{name}.json" for name in ("1", "2", "5", "current")]
    assert held.targets["releases/platform/5.json"].hashes == held.targets["releases/platform/current.json"].hashes
    assert held.targets["releases/platform/5.json"].custom == {"published": NOW}


def test_the_role_lists_the_newest_and_the_rest_stays_on_the_disk(publisher: Publisher) -> None:
    first = publisher.publish_platform(1)
    for number in range(2, LISTED + 3):
        publisher.publish_platform(number)
    held = load_chain(publisher.repository).releases["releases-platform"].signed
    newest = [f"releases/platform/{number}.json" for number in range(3, LISTED + 3)]
    assert sorted(held.targets) == sorted([*newest, "releases/platform/current.json"])
    assert len(list((publisher.repository / "targets/releases/platform").glob("*.[0-9]*.json"))) == LISTED + 2
    assert sum(path.is_file() for path in (publisher.repository / "blobs").rglob("*")) == LISTED + 2
    assert verify_repository(publisher.repository, now=NOW).channels[0] == ("releases-platform", LISTED + 2)
    # What is no longer listed still counts: no number comes back.
    with pytest.raises(ReleaseRefused, match=f"is at {LISTED + 2}"):
        publisher.publish(Release.parse(first))
    # Every publication looks back at fewer than stay.
    assert LISTED > SUPPORTED


def test_a_publisher_may_list_fewer(publisher: Publisher) -> None:
    for number in (1, 2, 3):
        artifact, path = publisher.artifact("vmm/host-files", "host-files", b"of %d" % number)
        release = platform(number, artifact).encode()
        publish(
            publisher.repository, publisher.keys, PASSPHRASE, release, [path], now=NOW, listed=0 if number == 3 else 2
        )
        listed = sorted(load_chain(publisher.repository).releases["releases-platform"].signed.targets)
        assert f"releases/platform/{number}.json" in listed
        assert len(listed) == {1: 2, 2: 3, 3: 2}[number]


def test_what_may_not_be_published_changes_nothing(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish_platform(3)
    artifact, path = publisher.artifact("vmm/host-files", "host-files", b"more")
    stray = tmp_path / "stray"
    stray.write_bytes(b"stray")
    before = _tree(publisher.repository)
    for number in (2, 3):
        with pytest.raises(ReleaseRefused, match="is at 3"):
            publisher.publish(platform(number, artifact), path)
    with pytest.raises(NoSuchChannel):
        publisher.publish(platform(4, artifact, channel="other"), path)
    with pytest.raises(ReleaseRefused, match="none of its artifacts"):
        publisher.publish(platform(4, artifact), stray)
    with pytest.raises(ReleaseRefused, match="nobody gave the bytes"):
        publisher.publish(platform(4, artifact))
    with pytest.raises(DocumentError):
        publish(publisher.repository, publisher.keys, PASSPHRASE, b"{}", [], now=NOW)
    with pytest.raises(PassphraseWrong):
        publish(publisher.repository, publisher.keys, b"wrong", platform(4, artifact).encode(), [path], now=NOW)
    assert _tree(publisher.repository) == before
    publisher.publish(platform(4, artifact), path)


def test_keys_of_another_repository_do_not_sign(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    artifact, path = publisher.artifact("vmm/host-files", "host-files", b"more")
    before = _tree(publisher.repository)
    with pytest.raises(SignersMissing, match=r"releases-platform needs 1 of its keys and .* has 0, and 1 that are not"):
        publish(publisher.repository, other.keys, PASSPHRASE, platform(1, artifact).encode(), [path], now=NOW)
    shutil.copy(publisher.keys / "releases-platform-1.pem", other.keys)
    with pytest.raises(SignersMissing, match="snapshot needs 1 of its keys"):
        publish(publisher.repository, other.keys, PASSPHRASE, platform(1, artifact).encode(), [path], now=NOW)
    assert _tree(publisher.repository) == before


def test_a_missing_key_file_changes_nothing(publisher: Publisher) -> None:
    artifact, path = publisher.artifact("vmm/host-files", "host-files", b"more")
    before = _tree(publisher.repository)
    (publisher.keys / "timestamp-1.pem").unlink()
    with pytest.raises(SignersMissing, match="timestamp needs 1 of its keys"):
        publisher.publish(platform(1, artifact), path)
    assert _tree(publisher.repository) == before


def test_there_is_one_writer_at_a_time(publisher: Publisher) -> None:
    with locks.exclusive(publisher.repository / ".lock", wait=False), pytest.raises(Busy):
        publisher.publish_platform(1)


def test_a_refresh_makes_what_expired_fresh_again(publisher: Publisher) -> None:
    publisher.publish_platform(1)
    later = NOW + 40 * DAY
    with pytest.raises(MetadataExpired, match="timestamp"):
        verify_repository(publisher.repository, now=later)
    (publisher.keys / "releases-platform-1.pem").unlink()
    refresh(publisher.repository, publisher.keys, PASSPHRASE, now=later)
    verify_repository(publisher.repository, now=later)
    chain = load_chain(publisher.repository)
    assert (chain.timestamp.signed.version, chain.snapshot.signed.version) == (3, 3)


def test_every_damaged_file_is_found(publisher: Publisher) -> None:
    publisher.publish_platform(1)
    publisher.publish_workload(1)
    chain = load_chain(publisher.repository)
    current = {chain.timestamp.name, chain.snapshot.name, chain.targets.name, chain.root.name}
    current |= {held.name for held in chain.releases.values()}
    for name, data in _tree(publisher.repository).items():
        path = publisher.repository / name
        if name.startswith("metadata/") and name not in current:
            continue  # Older metadata is not used any more.
        path.chmod(0o644)
        for wrong in (data[:-1], data.replace(b"1", b"2") if b"1" in data else data[::-1]):
            path.write_bytes(wrong)
            with pytest.raises((RepositoryDamaged, DigestMismatch)):
                verify_repository(publisher.repository, now=NOW)
        path.unlink()
        with pytest.raises((RepositoryDamaged, NotInStore, ContentError)):
            verify_repository(publisher.repository, now=NOW)
        path.write_bytes(data)
    verify_repository(publisher.repository, now=NOW)


def test_publishing_onto_a_damaged_repository_is_refused(publisher: Publisher) -> None:
    publisher.publish_platform(1)
    path = publisher.repository / "metadata" / "2.releases-platform.json"
    path.write_bytes(path.read_bytes().replace(b"current.json", b"current.jsom"))
    with pytest.raises(RepositoryDamaged):
        publisher.publish_platform(2)


def test_a_bundle_has_what_a_host_needs_and_no_more(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish_platform(1)
    publisher.publish_platform(2)
    publisher.publish_workload(1)
    path = tmp_path / "b.bundle"
    index = export_bundle(publisher.repository, ("platform",), path)
    names = [entry.name for entry in index.entries]
    assert [n for n in names if n.startswith("metadata/")] == [
        "metadata/1.root.json",
        "metadata/1.targets.json",
        "metadata/3.releases-platform.json",
        "metadata/4.snapshot.json",
        "metadata/timestamp.json",
    ]
    assert sum(n.startswith("targets/") for n in names) == 2
    assert sum(n.startswith("blobs/") for n in names) == 1
    with pytest.raises(NoSuchChannel):
        export_bundle(publisher.repository, ("other",), path)


def test_a_bundle_is_written_whole_or_not_at_all(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish_platform(1)
    path = tmp_path / "b.bundle"
    export_bundle(publisher.repository, ("platform",), path)
    before = path.read_bytes()
    with pytest.raises(NoSuchChannel, match="no release yet"):
        export_bundle(publisher.repository, ("platform", "desktop"), path)
    for blob in (publisher.repository / "blobs").rglob("?" * 64):
        blob.chmod(0o644)
        blob.write_bytes(b"damaged")
    with pytest.raises(DigestMismatch):
        export_bundle(publisher.repository, ("platform",), path)
    assert path.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".vmgate")]


def test_a_workload_may_share_artifacts_with_its_predecessor(publisher: Publisher) -> None:
    artifact, path = publisher.artifact("image/desktop", "image", b"the same")
    publisher.publish(workload(1, artifact), path)
    publisher.publish(workload(2, artifact))
    assert verify_repository(publisher.repository, now=NOW).blobs == 1
