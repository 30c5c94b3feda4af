# SPDX-License-Identifier: Apache-2.0
"""The folder of metadata on a disk that rots, or that somebody wrote to while the host was off: it is never trusted.

What is no good there is fetched again. What cannot be taken from it is the floor, which lies elsewhere.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root

from lab.carriers import network
from lab.forge import ONLINE, Forge
from lab.hostile import Scene
from lab.publishing import Publisher
from updater.errors import BelowFloor

SPOILT = {
    "nothing": b"",
    "zeros": bytes(1000),
    "half of it": None,
    "null": b"null",
    "lists in lists": b"[" * 16_000,
    "a long number": b'{"signed":{"version":' + b"9" * 10_000 + b'},"signatures":[]}',
    "no text": b"\xff\xfe\x00",
}


def _kept(stage: Scene) -> dict[Path, bytes]:
    """All that the host keeps of metadata, but for the link to the newest root."""
    return {p: p.read_bytes() for p in sorted((stage.host.folder / "tuf").rglob("*.json")) if not p.is_symlink()}


@pytest.fixture
def followed(stage: Scene, tmp_path: Path) -> Forge:
    """A repository with a second root; the host has seen it."""
    forge = Forge(stage.publisher, tmp_path / "followed")
    fresh = {role: CryptoSigner.generate_ecdsa() for role in ONLINE}
    forge.new_root(fresh, forge.signers(Root.type))
    forge.online = {role: [signer] for role, signer in fresh.items()}
    forge.list()
    with network(forge.repository) as source:
        assert stage.host.apply(source, stage.now) is None
    assert {path.name for path in _kept(stage)} == {
        "1.root.json", "2.root.json", "timestamp.json", "snapshot.json", "targets.json",
        "releases-platform.json", "releases-desktop.json",
    }  # fmt: skip
    return forge


@pytest.mark.parametrize("what", SPOILT)
def test_what_rots_is_fetched_again(stage: Scene, followed: Forge, what: str) -> None:
    before, kept = stage.host.state(), _kept(stage)
    with network(followed.repository) as source:
        for path, good in kept.items():
            spoilt = SPOILT[what]
            path.write_bytes(good[: len(good) // 2] if spoilt is None else spoilt)
            assert stage.host.apply(source, stage.now) is None, path
            assert _kept(stage) == kept, path
        for path in kept:
            path.write_bytes(SPOILT[what] or b"")
        assert stage.host.apply(source, stage.now) is None
    assert _kept(stage) == kept
    assert stage.host.state() == before


def test_the_metadata_of_somebody_else_is_not_taken_for_ours(stage: Scene, followed: Forge, tmp_path: Path) -> None:
    """It is whole and signed, and its versions are higher."""
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    other.publish_platform(7)
    other.publish_workload(7)
    foreign = Forge(other, tmp_path / "foreign")
    foreign.new_root({"targets": CryptoSigner.generate_ecdsa()}, foreign.signers(Root.type))
    foreign.list(jump=100)
    kept = _kept(stage)
    for path in kept:
        role = path.name.removesuffix(".json")
        newest = max((foreign.repository / "metadata").glob(f"*{role.removeprefix('2.')}.json"))
        path.write_bytes(newest.read_bytes())
    with network(followed.repository) as source:
        assert stage.host.apply(source, stage.now) is None
    assert _kept(stage) == kept


def test_links_and_strange_files_lead_nowhere(stage: Scene, followed: Forge, tmp_path: Path) -> None:
    """What stands in the way is replaced; what it leads to is not written to."""
    folder = stage.host.folder / "tuf"
    kept = _kept(stage)
    precious = tmp_path / "precious"
    precious.write_bytes(b"not to be touched")
    for name in ("root.json", "timestamp.json", "snapshot.json", "root_history/2.root.json"):
        (folder / name).unlink()
        (folder / name).symlink_to(precious)
    (folder / "targets.json").unlink()
    (folder / "9.root.json").write_bytes(b"{}")
    with network(followed.repository) as source:
        assert stage.host.apply(source, stage.now) is None
    assert precious.read_bytes() == b"not to be touched"
    assert (folder / "root.json").resolve() == (folder / "root_history/2.root.json").resolve()
    (folder / "9.root.json").unlink()
    assert _kept(stage) == kept


def test_a_folder_that_was_put_back_lowers_nothing(stage: Scene, followed: Forge, tmp_path: Path) -> None:
    """All of the metadata folder as it was before, and a repository that was kept still: the floor is not in there."""
    shutil.copytree(stage.host.folder / "tuf", tmp_path / "before", symlinks=True)
    stage.publisher.publish_platform(2)
    newer = Forge(stage.publisher, tmp_path / "newer")
    shutil.copy(followed.repository / "metadata/2.root.json", newer.repository / "metadata")
    newer.online = followed.online
    newer.list(jump=2)
    with network(newer.repository) as source:
        assert stage.host.apply(source, stage.now) is not None
    shutil.rmtree(stage.host.folder / "tuf")
    shutil.copytree(tmp_path / "before", stage.host.folder / "tuf", symlinks=True)
    with network(followed.repository) as source:
        stage.host.refuses(BelowFloor, source, stage.now, "platform 1 is offered and this host has confirmed 2")
