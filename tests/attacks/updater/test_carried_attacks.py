# SPDX-License-Identifier: Apache-2.0
"""A hostile repository, brought by network and by bundle: each attack is refused on both ways.

The forged copy has release 2 of both channels, the host has release 1. Who attacks holds no key, one of several keys
that must sign together, or the keys of another channel. For stolen online keys see ``test_stolen_online_keys``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Root, Targets

from content.errors import DigestMismatch
from documents.errors import VmgateError
from documents.host_state import Floor
from documents.release import Release
from keys.anchor import TrustAnchor
from lab.carriers import Carrier
from lab.forge import Forge
from lab.hostile import PATIENT, Host, Scene, body, served
from lab.publishing import DAY, PASSPHRASE, Publisher, platform
from updater.client.floor import load_floor
from updater.client.http import HttpSource
from updater.errors import BelowFloor, MetadataRefused, NotOffered, WrongAnchor
from updater.formats import blob_name, metadata_name, release_target
from updater.repository.refresh import refresh

PLATFORM = "releases-platform"
DESKTOP = "releases-desktop"


@pytest.fixture
def forge(stage: Scene, tmp_path: Path) -> Forge:
    stage.publisher.publish_platform(2)
    stage.publisher.publish_workload(2)
    return Forge(stage.publisher, tmp_path / "forged")


def _refused(
    stage: Scene, forge: Forge, carry: Carrier, match: str | None = None, error: type[VmgateError] = MetadataRefused
) -> None:
    with carry(forge.repository) as source:
        stage.host.refuses(error, source, stage.now, match)


def _numbers(stage: Scene) -> list[int]:
    generation = stage.host.update.active()
    assert generation is not None
    return [release.number for release in generation.parsed()]


def _floor(host: Host, anchor: bytes) -> Floor:
    return load_floor(host.folder / "floor", TrustAnchor(anchor))


def _lose_cache(host: Host) -> None:
    for path in (host.folder / "tuf").glob("*.json"):
        path.unlink()


def test_what_is_carried_as_it_was_signed_is_taken(stage: Scene, forge: Forge, carry: Carrier) -> None:
    forge.list()
    with carry(forge.repository) as source:
        assert stage.host.apply(source, stage.now) is not None
    assert _numbers(stage) == [2, 2]


# Arbitrary software


@pytest.mark.parametrize("thief", ["nobody", DESKTOP], ids=["a key of nobody", "the key of another channel"])
def test_a_release_that_its_channel_did_not_sign_is_refused(
    stage: Scene, forge: Forge, carry: Carrier, thief: str
) -> None:
    artifact, path = stage.publisher.artifact("vmm/host-files", "host-files", b"software of an attacker")
    blob = forge.repository / blob_name(artifact.fsverity)
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(path.read_bytes())
    evil = platform(3, artifact).encode()
    signers = [CryptoSigner.generate_ecdsa()] if thief == "nobody" else forge.signers(thief)
    forge.release(PLATFORM, release_target("platform", None), evil, signers)
    _refused(stage, forge, carry, "0/1 keys")


def test_a_channels_key_offers_nothing_for_another_channel(stage: Scene, forge: Forge, carry: Carrier) -> None:
    """The name of a release leads to the one role that may sign it; what another role says of it is not looked at."""
    evil = platform(9, *Release.parse(forge.current("platform").read_bytes()).artifacts).encode()
    forge.release(DESKTOP, release_target("platform", None), evil, forge.signers(DESKTOP))
    with carry(forge.repository) as source:
        assert stage.host.apply(source, stage.now) is not None
    assert _numbers(stage) == [2, 2]


def test_the_right_name_with_another_channels_release_is_refused(stage: Scene, forge: Forge, carry: Carrier) -> None:
    """Wrong software: validly signed, by the right key even, and not what was asked for."""
    desktop = forge.current("desktop").read_bytes()
    forge.release(PLATFORM, release_target("platform", None), desktop, forge.signers(PLATFORM))
    _refused(stage, forge, carry, "a release of another channel")


def test_changed_artifacts_and_documents_are_refused(stage: Scene, forge: Forge, carry: Carrier) -> None:
    document = forge.current("platform")
    good = document.read_bytes()
    document.write_bytes(good.replace(b'"epoch":1', b'"epoch":7'))
    _refused(stage, forge, carry, "LengthOrHashMismatch")
    document.write_bytes(good)
    (artifact,) = Release.parse(good).artifacts
    blob = forge.repository / blob_name(artifact.fsverity)
    blob.chmod(0o644)
    blob.write_bytes(bytes(artifact.length))
    _refused(stage, forge, carry, error=DigestMismatch)
    blob.unlink()
    _refused(stage, forge, carry, error=NotOffered)


# Endless data


@pytest.mark.parametrize("name", ["metadata/timestamp.json", "metadata/2.root.json", "the release", "the artifact"])
def test_more_than_was_signed_for_is_cut_off(stage: Scene, forge: Forge, carry: Carrier, name: str) -> None:
    release = forge.current("platform")
    (artifact,) = Release.parse(release.read_bytes()).artifacts
    files = {"the release": release, "the artifact": forge.repository / blob_name(artifact.fsverity)}
    path = files.get(name, forge.repository / name)
    if path.exists():
        path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b" " * 1_000_000)
    if name == "the artifact":
        _refused(stage, forge, carry, "found at least", DigestMismatch)
    else:
        _refused(stage, forge, carry, "bytes that were signed for")


# Rollback, mix and match


def test_an_old_repository_is_refused_with_and_without_the_metadata_cache(
    stage: Scene, tmp_path: Path, carry: Carrier
) -> None:
    old = Forge(stage.publisher, tmp_path / "old")
    stage.publisher.publish_platform(2)
    assert stage.host.apply(stage.source, stage.now) is not None
    _refused(stage, old, carry, "BadVersionNumberError")
    _lose_cache(stage.host)
    _refused(stage, old, carry, "platform 1 is offered and this host has confirmed 2", BelowFloor)


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("metadata/4.releases-platform.json", "metadata/2.releases-platform.json"),
        ("metadata/6.snapshot.json", "metadata/3.snapshot.json"),
        ("metadata/3.releases-desktop.json", "metadata/3.releases-platform.json"),
    ],
    ids=["an old channel", "an old snapshot", "a channel for another"],
)
def test_metadata_that_does_not_belong_together_is_refused(
    stage: Scene, forge: Forge, carry: Carrier, name: str, old: str
) -> None:
    signed = forge.newest(PLATFORM)
    assert isinstance(signed, Targets)
    forge.retarget(PLATFORM, signed, forge.signers(PLATFORM))
    assert (forge.repository / name).exists(), "the story is not about what is asked for"
    (forge.repository / name).write_bytes((forge.repository / old).read_bytes())
    _refused(stage, forge, carry, "LengthOrHashMismatch|bytes that were signed for")


# Keys


def test_one_targets_key_of_three_appoints_nobody(stage: Scene, forge: Forge, carry: Carrier) -> None:
    """Nor does it if its signature stands there twice: under its own name, or under that of a colleague."""
    thief = CryptoSigner.generate_ecdsa()
    targets = forge.newest(Targets.type)
    assert isinstance(targets, Targets)
    assert targets.delegations is not None
    targets.add_key(thief.public_key, PLATFORM)
    one, two = forge.signers(Targets.type)
    forge.retarget(Targets.type, targets, [one])
    _refused(stage, forge, carry, "1/2 keys")

    path = forge.repository / f"metadata/{targets.version}.targets.json"
    signed = json.loads(path.read_bytes())
    for signer, why in ((one, "DeserializationError"), (two, "1/2 keys")):
        again = {**signed["signatures"][0], "keyid": signer.public_key.keyid}
        path.write_bytes(json.dumps({**signed, "signatures": [*signed["signatures"], again]}).encode())
        forge.list(forge.as_it_was(Targets.type, targets.version))
        _refused(stage, forge, carry, why)


def test_one_root_key_of_three_changes_no_root(stage: Scene, forge: Forge, carry: Carrier) -> None:
    thief = CryptoSigner.generate_ecdsa()
    forge.new_root(dict.fromkeys(("snapshot", "timestamp"), thief), forge.signers(Root.type)[:1])
    _refused(stage, forge, carry, "1/2 keys")


def test_a_new_root_by_the_old_keys_is_followed(stage: Scene, forge: Forge, carry: Carrier) -> None:
    fresh = {role: CryptoSigner.generate_ecdsa() for role in ("snapshot", "timestamp")}
    forge.new_root(fresh, forge.signers(Root.type))
    # Metadata by the keys that were dismissed is worth nothing any more.
    _refused(stage, forge, carry, "0/1 keys")
    forge.online = {role: [signer] for role, signer in fresh.items()}
    forge.list()
    with carry(forge.repository) as source:
        assert stage.host.apply(source, stage.now) is not None
    assert _numbers(stage) == [2, 2]
    assert _floor(stage.host, stage.publisher.anchor).root == 2


@pytest.mark.parametrize("host", ["old", "new"])
def test_the_first_root_is_never_taken_from_what_is_carried(
    stage: Scene, forge: Forge, tmp_path: Path, carry: Carrier, host: str
) -> None:
    """A repository, whole and consistent, from its own first root on: it convinces nobody of itself."""
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    other.publish_platform(9)
    other.publish_workload(9)
    if host == "new":
        stage.host = Host(tmp_path / "fresh", stage.publisher.anchor)
    foreign = Forge(other, tmp_path / "foreign")
    _refused(stage, foreign, carry, error=WrongAnchor if host == "new" else MetadataRefused)
    # And a foreign first root beside our own metadata is not even read.
    forge.list()
    (forge.repository / "metadata/1.root.json").write_bytes(other.anchor)
    with carry(forge.repository) as source:
        assert stage.host.apply(source, stage.now) is not None
    assert _numbers(stage) == [2, 2]


def test_a_channel_that_disappears_is_refused(stage: Scene, forge: Forge, carry: Carrier) -> None:
    """The list of a snapshot only grows, so that nobody is served by silence."""
    forge.list(drop=[DESKTOP])
    _refused(stage, forge, carry, "RepositoryError")


# What is carried lowers nothing


def test_what_is_carried_lowers_no_floor(stage: Scene, forge: Forge, carry: Carrier) -> None:
    """The host was online for half a day; then its clock and what it is given are of before."""
    refresh(stage.publisher.repository, stage.publisher.keys, PASSPHRASE, now=stage.now + DAY // 2)
    assert stage.host.apply(stage.source, stage.now + DAY // 2) is not None
    before = _floor(stage.host, stage.publisher.anchor)
    assert before.time == stage.now + DAY // 2
    stage.publisher.publish_platform(3)
    newer = Forge(stage.publisher, forge.repository.with_name("newer"))
    newer.list()
    with carry(newer.repository) as source:
        assert stage.host.apply(source, stage.now) is not None
    after = _floor(stage.host, stage.publisher.anchor)
    assert (after.time, after.root) == (before.time, before.root)
    assert dict(after.releases) == dict(before.releases) | {"platform": 3}
    _refused(stage, forge, carry)


# Names


def test_a_role_whose_name_is_a_path_leads_nowhere(stage: Scene, forge: Forge, tmp_path: Path) -> None:
    """Only the targets keys could appoint it. No bundle can hold such a name (``test_bundle_attacks``)."""
    name = "../../../escaped"
    signer = CryptoSigner.generate_ecdsa()
    targets = forge.newest(Targets.type)
    assert isinstance(targets, Targets)
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    role = DelegatedRole(name, [], 1, terminating=False, paths=["releases/platform/*"])
    targets.delegations.roles = {name: role, **targets.delegations.roles}
    targets.add_key(signer.public_key, name)
    data = forge.put(name, Targets(expires=targets.expires), [signer])
    forge.retarget(Targets.type, targets, forge.signers(Targets.type))
    forge.list(forge.as_it_was(name, 1))
    with served(forge.repository) as server:
        server.rules[metadata_name(name, 1)] = body(data)
        assert stage.host.apply(HttpSource(server.url, PATIENT), stage.now) is not None
        assert (metadata_name(name, 1), None) in server.requests
    assert _numbers(stage) == [2, 2]
    assert not list(tmp_path.rglob("escaped*"))
