# SPDX-License-Identifier: Apache-2.0
"""What somebody between publisher and host can do to metadata (TUF specification 1.0.34, section 1.5.2).

Each story: a good update, a look that all is well, the attack; then refused, the host as it was, and what was asked.
"""

from __future__ import annotations

import json
from pathlib import Path

from tuf.api.metadata import TargetFile

from documents.release import Release
from keys.signers import open_role
from lab.hostile import CHANNELS, Host, Scene, body, served
from lab.publishing import DAY, PASSPHRASE, Publisher, platform
from updater.client.http import HttpSource
from updater.errors import (
    BelowFloor,
    ClockWrong,
    MetadataExpired,
    MetadataRefused,
    NoSuchChannel,
    NotOffered,
    Unreachable,
    WrongAnchor,
)
from updater.formats import metadata_name, release_target, target_name
from updater.repository.chain import load_chain, meta_of, sign, write
from updater.repository.periods import PERIODS
from updater.repository.refresh import Refresher, refresh
from updater.repository.serve import _Handler

TIMESTAMP = "metadata/timestamp.json"


def _sign_as_current(publisher: Publisher, release_bytes: bytes) -> None:
    """What only the holder of the release key can do: offer any release as the newest."""
    release = Release.parse(release_bytes)
    chain = load_chain(publisher.repository)
    name = f"releases-{release.channel}"
    held = chain.releases[name]
    target = TargetFile.from_data(release_target(release.channel, None), release_bytes, ["sha256"])
    target.unrecognized_fields["custom"] = {"published": publisher.now}
    write(publisher.repository, target_name(target.path, target.hashes["sha256"]), release_bytes)
    held.signed.targets[target.path] = target
    held.signed.version += 1
    data = sign(held.metadata, open_role(name, publisher.keys, PASSPHRASE))
    write(publisher.repository, metadata_name(name, held.signed.version), data)
    refresher = Refresher(publisher.keys, PASSPHRASE, chain)
    refresher.write(publisher.repository, {f"{name}.json": meta_of(held.signed, data)}, publisher.now, PERIODS)


def test_an_old_timestamp_is_refused(stage: Scene) -> None:
    old = (stage.publisher.repository / TIMESTAMP).read_bytes()
    stage.publisher.publish_platform(2)
    assert stage.host.apply(stage.source, stage.now) is not None
    stage.server.requests.clear()
    stage.server.rules[TIMESTAMP] = body(old)
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "BadVersionNumberError")
    assert stage.asked() == ["metadata/2.root.json", TIMESTAMP]


def test_an_old_timestamp_is_refused_although_the_metadata_cache_was_lost(stage: Scene) -> None:
    """Without the cache only the floor is left: of the release, not of the timestamp."""
    repository = stage.publisher.repository
    old = (repository / TIMESTAMP).read_bytes()
    stage.publisher.publish_platform(2)
    assert stage.host.apply(stage.source, stage.now) is not None
    for path in (stage.host.folder / "tuf").glob("*.json"):
        path.unlink()
    stage.server.rules[TIMESTAMP] = body(old)
    stage.host.refuses(BelowFloor, stage.source, stage.now, "platform 1 is offered and this host has confirmed 2")


def test_an_older_release_is_refused_even_if_validly_signed_as_the_newest(stage: Scene) -> None:
    first = stage.host.state().generation
    assert first is not None
    stage.publisher.publish_platform(2)
    assert stage.host.apply(stage.source, stage.now) is not None
    _sign_as_current(stage.publisher, first.releases[1])
    stage.server.requests.clear()
    stage.host.refuses(BelowFloor, stage.source, stage.now)
    assert not [name for name in stage.asked() if name.startswith("blobs/")]


def test_a_release_that_changes_under_its_number_is_refused(stage: Scene) -> None:
    other, _ = stage.publisher.artifact("vmm/host-files", "host-files", b"something else")
    _sign_as_current(stage.publisher, platform(1, other).encode())
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "never changes")


def test_a_repository_that_stands_still_is_refused_when_it_expires(stage: Scene) -> None:
    stage.publisher.publish_platform(2)
    old = (stage.publisher.repository / TIMESTAMP).read_bytes()
    assert stage.host.apply(stage.source, stage.now) is not None
    stage.publisher.now += 8 * DAY
    stage.publisher.publish_platform(3)
    stage.server.rules[TIMESTAMP] = body(old)
    stage.server.requests.clear()
    error = stage.host.refuses(MetadataExpired, stage.source, stage.now, "timestamp expired on 2026-")
    assert isinstance(error, MetadataExpired)
    assert error.role == "timestamp"
    assert stage.asked()[:2] == ["metadata/2.root.json", TIMESTAMP]


def test_each_expired_role_is_named(stage: Scene) -> None:
    publisher = stage.publisher
    for days, role in ((31, "snapshot"), (366, "root")):
        # Only what is older than the role's period has expired: the rest is refreshed first.
        later = publisher.now + days * DAY
        timestamp = load_chain(publisher.repository)
        if role == "root":
            refresh(publisher.repository, publisher.keys, PASSPHRASE, now=later)
        else:
            metadata = timestamp.timestamp.metadata
            metadata.signed.version += 1
            metadata.signed.expires = metadata.signed.expires.replace(year=2030)
            write(publisher.repository, TIMESTAMP, sign(metadata, open_role("timestamp", publisher.keys, PASSPHRASE)))
        stage.host.refuses(MetadataExpired, stage.source, later, f"the metadata of {role} expired")


def test_garbage_behind_an_expired_role_is_not_read(stage: Scene) -> None:
    """What follows the expired role is fetched before its expiry is looked at, and may be anything."""
    stage.server.rules[TIMESTAMP] = body(b'{"signed":')
    stage.host.refuses(MetadataExpired, stage.source, stage.now + 4000 * DAY, "the metadata of root expired")


def test_an_expired_release_role_is_named(stage: Scene) -> None:
    publisher = stage.publisher
    chain = load_chain(publisher.repository)
    held = chain.releases["releases-platform"]
    held.signed.version += 1
    held.signed.expires = held.signed.expires.replace(year=2020)
    data = sign(held.metadata, open_role("releases-platform", publisher.keys, PASSPHRASE))
    write(publisher.repository, metadata_name("releases-platform", held.signed.version), data)
    Refresher(publisher.keys, PASSPHRASE, chain).write(
        publisher.repository, {"releases-platform.json": meta_of(held.signed, data)}, publisher.now, PERIODS
    )
    stage.host.refuses(MetadataExpired, stage.source, stage.now, "releases-platform expired on 2020-")


def test_old_release_metadata_with_a_new_snapshot_is_refused(stage: Scene) -> None:
    """Mix and match: everything is validly signed, but not together."""
    repository = stage.publisher.repository
    old = (repository / "metadata/2.releases-platform.json").read_bytes()
    stage.publisher.publish_platform(2)
    stage.server.rules["metadata/3.releases-platform.json"] = body(old)
    stage.host.refuses(MetadataRefused, stage.source, stage.now)
    assert stage.asked()[-1] == "metadata/3.releases-platform.json"
    stage.server.rules.clear()
    assert stage.host.apply(stage.source, stage.now) is not None


def test_an_old_snapshot_with_a_new_timestamp_is_refused(stage: Scene) -> None:
    repository = stage.publisher.repository
    old = (repository / "metadata/3.snapshot.json").read_bytes()
    stage.publisher.publish_platform(2)
    stage.server.rules["metadata/4.snapshot.json"] = body(old)
    stage.host.refuses(MetadataRefused, stage.source, stage.now)
    assert stage.asked()[-1] == "metadata/4.snapshot.json"


def test_another_release_document_than_the_signed_one_is_refused(stage: Scene) -> None:
    data = stage.publisher.publish_platform(2)
    target = load_chain(stage.publisher.repository).releases["releases-platform"].signed.targets
    name = target_name("releases/platform/current.json", target["releases/platform/current.json"].hashes["sha256"])
    for wrong in (data.replace(b'"epoch":1', b'"epoch":2'), data + b" ", data[:-1]):
        stage.server.rules[name] = body(wrong)
        stage.host.refuses(MetadataRefused, stage.source, stage.now)


def test_unsigned_metadata_is_refused(stage: Scene) -> None:
    unsigned = json.loads((stage.publisher.repository / TIMESTAMP).read_bytes())
    unsigned["signed"]["version"] += 1
    stage.server.rules[TIMESTAMP] = body(json.dumps(unsigned).encode())
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "0/1 keys")
    unsigned["signatures"] = []
    stage.server.rules[TIMESTAMP] = body(json.dumps(unsigned).encode())
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "0/1 keys")


def test_a_root_that_nobody_signed_is_refused(stage: Scene, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    forged = json.loads(other.anchor)
    forged["signed"]["version"] = 2
    stage.server.rules["metadata/2.root.json"] = body(json.dumps(forged).encode())
    stage.host.refuses(MetadataRefused, stage.source, stage.now)
    assert stage.asked() == ["metadata/2.root.json"]


def test_another_repository_is_refused_by_a_new_and_by_an_old_host(stage: Scene, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    other.publish_platform(7)
    other.publish_workload(7)
    fresh = Host(tmp_path / "fresh", stage.publisher.anchor)
    with served(other.repository) as server:
        source = HttpSource(server.url)
        fresh.refuses(WrongAnchor, source, other.now)
        assert fresh.update.active() is None
        stage.host.refuses(MetadataRefused, source, other.now)
        assert [name for name, _ in server.requests] == ["metadata/2.root.json", TIMESTAMP] * 2


def test_metadata_without_end_is_cut_off(stage: Scene) -> None:
    stage.server.rules[TIMESTAMP] = _endless
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "more than the 16384 bytes")
    assert stage.server.hung_up.wait(20)


def _endless(handler: _Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"[" * 65536)


def test_the_page_of_a_captive_portal_is_refused(stage: Scene) -> None:
    stage.server.every = body(b"<!DOCTYPE html><title>Sign in to the network</title>", Content_Type="text/html")
    stage.host.refuses(Unreachable, stage.source, stage.now, "web page")
    stage.server.every = body(b"", 302, Location="http://portal.invalid/login")
    stage.host.refuses(Unreachable, stage.source, stage.now, "redirected to another server")
    stage.server.every = body(b"", 511)
    stage.host.refuses(Unreachable, stage.source, stage.now, "HTTP 511")
    stage.server.every = None
    stage.publisher.publish_platform(2)
    assert stage.host.apply(stage.source, stage.now) is not None


def test_missing_files_and_channels_are_told_apart(stage: Scene) -> None:
    stage.server.rules[TIMESTAMP] = body(b"", 404)
    stage.host.refuses(NotOffered, stage.source, stage.now)
    stage.server.rules.clear()
    (stage.publisher.folder / "empty").mkdir()
    empty = Publisher(stage.publisher.folder / "empty")
    with served(empty.repository) as server:
        host = Host(empty.folder / "host", empty.anchor)
        host.refuses(NoSuchChannel, HttpSource(server.url), empty.now, f"channel {CHANNELS[0]}")


def test_a_clock_in_the_past_is_named(stage: Scene) -> None:
    before = stage.host.state()
    stage.host.refuses(ClockWrong, stage.source, 0, "the clock says 1970-01-01")
    # A small step back is no reason to stop.
    assert stage.host.apply(stage.source, stage.now - DAY // 2) is None
    assert stage.host.state() == before


def test_a_new_host_with_a_clock_before_the_publication_is_told(stage: Scene, tmp_path: Path) -> None:
    host = Host(tmp_path / "fresh", stage.publisher.anchor)
    host.refuses(ClockWrong, stage.source, 1000, "was published on 2026-")


def test_a_server_that_is_away_is_told(stage: Scene) -> None:
    with served(stage.publisher.repository) as gone:
        source = HttpSource(gone.url)
    stage.host.refuses(Unreachable, source, stage.now, "refused")
