# SPDX-License-Identifier: Apache-2.0
"""Where files can share bytes, a delta writes only what is new; what is shared is verified all the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from content import effects
from content.fsverity import SPAN, Measured, digest_bytes
from content.store import ContentStore
from lab import images
from lab.hostile import served
from lab.publishing import Publisher, workload
from updater.client.download import fetch_artifacts
from updater.client.http import HttpSource

OLD = images.first()
NEW = images.edited(OLD)


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A folder on XFS, mounted in a loop."""
    image, folder = tmp_path / "xfs.img", tmp_path / "xfs"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * 1024 * 1024)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Offsets at which bytes were shared."""
    done: list[int] = []
    real = effects.clone

    def noting(source: int, start: int, length: int, target: int, offset: int) -> None:
        real(source, start, length, target, offset)
        done.append(offset)

    monkeypatch.setattr(effects, "clone", noting)
    return done


def _update(folder: Path, store: ContentStore) -> None:
    """The store has the old image and fetches the new one."""
    publisher = Publisher(folder)
    releases = []
    for number, image in ((1, OLD), (2, NEW)):
        artifact, path = publisher.artifact("image/desktop", "image", image)
        publisher.publish(workload(number, artifact), path)
        releases.append(artifact)
    with served(publisher.repository) as server:
        fetch_artifacts(HttpSource(server.url), store, [releases[1]], None, [releases[0]])


def test_what_did_not_change_is_shared_and_not_written(xfs: Path, tmp_path: Path, shared: list[int]) -> None:
    store = ContentStore(xfs / "store")
    store.add_bytes(OLD)
    _update(tmp_path, store)
    store.verify(digest_bytes(NEW), len(NEW))
    assert store.path(digest_bytes(NEW)).read_bytes() == NEW
    # Spans 0 and 5 have new blocks, span 2 is zeros, and the last one is not whole.
    assert sorted(shared) == [number * SPAN for number in (1, 3, 4)]


def test_bytes_that_rotted_are_shared_with_nobody(xfs: Path, tmp_path: Path, shared: list[int]) -> None:
    store = ContentStore(xfs / "store")
    measured = store.add_bytes(OLD)
    assert measured == Measured(fsverity=digest_bytes(OLD), length=len(OLD))
    path = store.path(measured.fsverity)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(3 * SPAN + 5000)
        file.write(b"rotten")
    _update(tmp_path, store)
    assert 3 * SPAN in shared
    assert store.path(digest_bytes(NEW)).read_bytes() == NEW


def test_another_file_system_is_written_to(tmp_path: Path, shared: list[int]) -> None:
    store = ContentStore(tmp_path / "store")
    store.add_bytes(OLD)
    _update(tmp_path, store)
    assert store.path(digest_bytes(NEW)).read_bytes() == NEW
