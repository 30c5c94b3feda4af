# SPDX-License-Identifier: Apache-2.0
"""``--allow-stale`` lets through what came too late, and nothing else: not what is forged, older, or of the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from documents.errors import VmgateError
from keys.anchor import TrustAnchor
from lab.hostile import CHANNELS, Host, Scene, served
from lab.publishing import DAY, PASSPHRASE, Publisher
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.floor import load_floor, raised, save_floor
from updater.client.http import HttpSource
from updater.client.source import Source
from updater.errors import BelowFloor, ClockWrong, ImportTooLate, MetadataExpired, MetadataRefused, WrongAnchor
from updater.repository.export import export_bundle
from updater.repository.refresh import refresh

MOST = 3660
YEARS = 400 * DAY
"""Long after the 90 days that the releases allow."""


@pytest.fixture
def bundle(stage: Scene, tmp_path: Path) -> Path:
    """Release 2 of both channels."""
    stage.publisher.publish_platform(2)
    stage.publisher.publish_workload(2)
    path = tmp_path / "release-2.bundle"
    export_bundle(stage.publisher.repository, CHANNELS, path)
    return path


@pytest.fixture
def source(bundle: Path) -> Iterator[Source]:
    with BundleReader(bundle) as reader:
        yield BundleSource(reader)


def _refuses(
    host: Host, source: Source, error: type[VmgateError], now: int, days: int = MOST, match: str | None = None
) -> None:
    """Refused whatever is allowed, and the host, its floor included, is as it was."""
    before = host.state()
    with pytest.raises(error, match=match):
        host.update.check(source, CHANNELS, now=now, allow_stale=days)
    assert host.state() == before


def test_a_bundle_is_taken_up_to_the_days_that_are_allowed(stage: Scene, source: Source) -> None:
    now = stage.now + YEARS
    _refuses(stage.host, source, ImportTooLate, now, days=0, match="may be imported for 90 days")
    _refuses(stage.host, source, ImportTooLate, now, days=90, match="may be imported for 90 days")
    _refuses(stage.host, source, ImportTooLate, now + 1, days=400, match="for 400 days as --allow-stale says")
    update = stage.host.update
    candidate = update.check(source, CHANNELS, now=now, allow_stale=400)
    update.fetch(candidate, source)
    update.verify()
    update.stage()
    update.switch()
    update.confirm()
    generation = update.active()
    assert generation is not None
    assert generation.stale
    assert [release.number for release in generation.parsed()] == [2, 2]
    # Nothing confirmed the clock: a network that comes back is judged as before.
    assert load_floor(stage.host.folder / "floor", _anchor(stage)).time == stage.now
    assert stage.host.apply(stage.source, stage.now) is None


def test_fewer_days_than_the_releases_allow_take_nothing_away(stage: Scene, source: Source) -> None:
    assert stage.host.update.check(source, CHANNELS, now=stage.now + 89 * DAY, allow_stale=1).stale


def test_what_is_fresh_does_not_become_stale(stage: Scene, source: Source) -> None:
    assert not stage.host.update.check(source, CHANNELS, now=stage.now, allow_stale=MOST).stale


def test_the_network_is_not_a_bundle(stage: Scene, bundle: Path) -> None:
    assert bundle.exists()
    _refuses(stage.host, stage.source, MetadataExpired, stage.now + 8 * DAY)
    _refuses(stage.host, stage.source, MetadataExpired, stage.now + YEARS)


def test_what_nobody_signed_is_not_taken(stage: Scene, bundle: Path, tmp_path: Path) -> None:
    """Another byte in each metadata file and each release that a new host reads; the first root is its own."""
    good = bundle.read_bytes()
    with BundleReader(bundle) as reader:
        start = len(good) - reader.index.size
        metadata = [e for e in reader.index.entries if e.name.startswith("metadata/")]
        releases = [e for e in reader.index.entries if e.name.endswith(".current.json")]
    assert (len(metadata), len(releases)) == (6, 2)
    for number, entry in enumerate([e for e in metadata if e.name != "metadata/1.root.json"] + releases):
        position = good.index(b'"', start + entry.offset + entry.length // 2) + 1
        bundle.write_bytes(good[:position] + b"#" + good[position + 1 :])
        host = Host(tmp_path / f"new-{number}", stage.publisher.anchor)
        with BundleReader(bundle) as reader:
            _refuses(host, BundleSource(reader), MetadataRefused, stage.now + YEARS)


def test_another_publisher_is_not_believed(stage: Scene, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    other.publish_platform(9)
    other.publish_workload(9)
    path = tmp_path / "other.bundle"
    export_bundle(other.repository, CHANNELS, path)
    with BundleReader(path) as reader:
        _refuses(stage.host, BundleSource(reader), MetadataRefused, stage.now + YEARS)
        _refuses(Host(tmp_path / "new", stage.publisher.anchor), BundleSource(reader), WrongAnchor, stage.now + YEARS)


def test_what_is_older_than_what_came_before_is_not_taken(stage: Scene, source: Source, tmp_path: Path) -> None:
    stage.publisher.publish_platform(3)
    export_bundle(stage.publisher.repository, CHANNELS, tmp_path / "newer")
    with BundleReader(tmp_path / "newer") as reader:
        assert stage.host.apply(BundleSource(reader), stage.now) is not None
    _refuses(stage.host, source, MetadataRefused, stage.now + YEARS)
    # Whoever empties the cache of metadata gains nothing: the floor knows.
    for path in (stage.host.folder / "tuf").glob("*.json"):
        path.unlink()
    _refuses(stage.host, source, BelowFloor, stage.now + YEARS)


def test_what_is_below_the_floor_is_not_taken(stage: Scene, source: Source) -> None:
    path, anchor = stage.host.folder / "floor", _anchor(stage)
    floor = load_floor(path, anchor)
    save_floor(path, raised(floor, releases={"platform": 3}))
    _refuses(stage.host, source, BelowFloor, stage.now + YEARS, match="platform 2 is offered")
    save_floor(path, raised(floor, root=2))
    _refuses(stage.host, source, BelowFloor, stage.now + YEARS, match="root")


def test_what_had_expired_when_this_host_saw_fresh_metadata_is_not_taken(stage: Scene, bundle: Path) -> None:
    """It is certainly out of date: there is something newer, and this host has seen it."""
    publisher, later = stage.publisher, stage.now + 20 * DAY
    refresh(publisher.repository, publisher.keys, PASSPHRASE, now=later)
    kept = Host(publisher.folder / "kept", publisher.anchor)
    with served(publisher.repository) as server:
        assert kept.apply(HttpSource(server.url), later) is not None
    for path in (kept.folder / "tuf").glob("*.json"):
        path.unlink()
    with BundleReader(bundle) as reader:
        _refuses(kept, BundleSource(reader), MetadataExpired, later + YEARS)


def test_a_clock_that_is_wrong_stays_wrong(stage: Scene, source: Source) -> None:
    _refuses(stage.host, source, ClockWrong, stage.now - 2 * DAY, match="already seen")
    _refuses(Host(stage.publisher.folder / "new", stage.publisher.anchor), source, ClockWrong, 0, match="published on")


def _anchor(stage: Scene) -> TrustAnchor:
    return TrustAnchor(stage.publisher.anchor)
