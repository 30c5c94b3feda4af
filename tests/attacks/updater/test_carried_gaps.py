# SPDX-License-Identifier: Apache-2.0
"""What is missing, malformed or too much in what is carried, by network and by bundle: nothing is made up for it.

See ``test_carried_attacks`` for what is wrong in it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from content.fsverity import digest_bytes
from documents.bundle import BundleEntry, BundleIndex
from documents.errors import DocumentError
from documents.release import Release
from lab.carriers import Carrier
from lab.forge import ONLINE, Forge
from lab.hostile import Scene
from updater.bundle import MAGIC, BundleReader, encode_head
from updater.errors import BelowFloor, BundleMalformed, MetadataRefused, NotOffered
from updater.formats import blob_name, release_target

PLATFORM = "releases-platform"
CURRENT = release_target("platform", None)

MALFORMED = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "a text": b'"metadata"',
    "no signed part": b'{"signatures":[]}',
    "lists in lists": b"[" * 16_000,
    "objects in objects": b'{"a":' * 3_000,
    "a long number": b'{"signed":{"version":' + b"9" * 10_000 + b'},"signatures":[]}',
    "no number": b'{"signed":{"version":NaN},"signatures":[]}',
    "no text": b'{"signed":"\xff\xfe","signatures":[]}',
    "an archive": b"PK\x03\x04" + bytes(100),
}


@pytest.fixture
def forge(stage: Scene, tmp_path: Path) -> Forge:
    """Release 2 of both channels; the host has release 1, and its own metadata is valid still."""
    stage.publisher.publish_platform(2)
    stage.publisher.publish_workload(2)
    return Forge(stage.publisher, tmp_path / "forged")


def test_what_is_missing_is_not_made_up(stage: Scene, forge: Forge, carry: Carrier) -> None:
    """The host has good metadata and artifacts of its own: they do not stand in for what should have come."""
    names = ("timestamp.json", "5.snapshot.json", "3.releases-platform.json", "3.releases-desktop.json")
    paths = [forge.repository / "metadata" / name for name in names]
    for path in (*paths, forge.current("platform"), forge.current("desktop")):
        good = path.read_bytes()
        path.unlink()
        with carry(forge.repository) as source:
            stage.host.refuses(NotOffered, source, stage.now)
        path.write_bytes(good)
    with carry(forge.repository) as source:
        assert stage.host.apply(source, stage.now) is not None


@pytest.mark.parametrize("name", ["metadata/timestamp.json", "metadata/2.root.json"])
def test_what_is_no_metadata_is_refused(stage: Scene, forge: Forge, carry: Carrier, name: str) -> None:
    for data in MALFORMED.values():
        (forge.repository / name).write_bytes(data)
        with carry(forge.repository) as source:
            stage.host.refuses(MetadataRefused, source, stage.now, "DeserializationError|RepositoryError")


def test_metadata_of_another_role_is_refused(stage: Scene, forge: Forge, carry: Carrier) -> None:
    """All of it is signed, and by keys that the host knows."""
    files = forge.repository / "metadata"
    for name, other in (("timestamp.json", "5.snapshot.json"), ("2.root.json", "1.targets.json")):
        kept = (files / name).read_bytes() if (files / name).exists() else None
        (files / name).write_bytes((files / other).read_bytes())
        with carry(forge.repository) as source:
            stage.host.refuses(MetadataRefused, source, stage.now)
        (files / name).unlink()
        if kept is not None:
            (files / name).write_bytes(kept)
    with carry(forge.repository) as source:
        assert stage.host.apply(source, stage.now) is not None


def test_what_no_release_names_is_never_taken(stage: Scene, forge: Forge, carry: Carrier) -> None:
    """Extraneous files, whatever they are called, reach neither the store nor the folder of metadata."""
    extra = b"what nobody asked for"
    for name in (
        blob_name(digest_bytes(extra)),
        "metadata/9.releases-platform.json",
        "metadata/1.releases-other.json",
        "targets/releases/platform/9.json",
    ):
        path = forge.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(extra)
    with carry(forge.repository) as source:
        generation = stage.host.apply(source, stage.now)
    assert generation is not None
    assert [release.number for release in generation.parsed()] == [2, 2]
    files = [path for path in stage.host.folder.rglob("*") if path.is_file()]
    assert extra not in [path.read_bytes() for path in files]


def test_a_root_that_was_seen_is_not_forgotten(stage: Scene, forge: Forge, tmp_path: Path, carry: Carrier) -> None:
    """Who holds back the new root, and with it that keys were dismissed, finds the floor of a host without cache."""
    before = Forge(stage.publisher, tmp_path / "before")
    fresh = {role: CryptoSigner.generate_ecdsa() for role in ONLINE}
    forge.new_root(fresh, forge.signers(Root.type))
    forge.online = {role: [signer] for role, signer in fresh.items()}
    forge.list()
    with carry(forge.repository) as source:
        assert stage.host.apply(source, stage.now) is not None
    before.list(jump=10)
    with carry(before.repository) as source:
        stage.host.refuses(MetadataRefused, source, stage.now, "0/1 keys")
    shutil.rmtree(stage.host.folder / "tuf")
    with carry(before.repository) as source:
        stage.host.refuses(BelowFloor, source, stage.now, "root has version 1 and this host has seen 2")


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_index_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tricky.bundle"
    path.write_bytes(MAGIC + len(data).to_bytes(8) + data)
    with pytest.raises(BundleMalformed):
        BundleReader(path)


def test_an_index_of_too_many_entries_is_refused(tmp_path: Path) -> None:
    """There is room for more of them, within the bytes that an index may have, than anybody needs."""
    path = tmp_path / "many.bundle"
    entries = tuple(BundleEntry(name=f"metadata/{number:06}", offset=0, length=0) for number in range(100_001))
    path.write_bytes(encode_head(BundleIndex(entries=entries)))
    with pytest.raises(BundleMalformed, match="entries"):
        BundleReader(path)


# What a stolen release key could still not do


def test_what_is_no_release_is_refused_whoever_signed_it(stage: Scene, forge: Forge, carry: Carrier) -> None:
    for data in MALFORMED.values():
        forge.release(PLATFORM, CURRENT, data, forge.signers(PLATFORM))
        with carry(forge.repository) as source:
            stage.host.refuses(DocumentError, source, stage.now)


def test_a_release_without_the_time_of_its_publication_is_refused(stage: Scene, forge: Forge, carry: Carrier) -> None:
    for custom in (None, {}, [], {"published": "today"}, {"published": True}, {"published": -1}, {"published": 2**40}):
        signed = forge.newest(PLATFORM)
        assert isinstance(signed, Targets)
        signed.targets[CURRENT].unrecognized_fields["custom"] = custom
        forge.retarget(PLATFORM, signed, forge.signers(PLATFORM))
        with carry(forge.repository) as source:
            stage.host.refuses(MetadataRefused, source, stage.now, "without the time of its publication")


def test_a_release_that_is_not_listed_as_it_must_be_is_refused(stage: Scene, forge: Forge, carry: Carrier) -> None:
    for hashes, length in (({"sha512": "0" * 128}, 1000), ({"none": ""}, 1000), (None, Release.LIMIT + 1)):
        signed = forge.newest(PLATFORM)
        assert isinstance(signed, Targets)
        target = signed.targets[CURRENT]
        target.length = length
        target.hashes = hashes or target.hashes
        forge.retarget(PLATFORM, signed, forge.signers(PLATFORM))
        with carry(forge.repository) as source:
            stage.host.refuses(MetadataRefused, source, stage.now, "without SHA-256 digest, or as too long")
