# SPDX-License-Identifier: Apache-2.0
"""A lookup that is cut or finds the disk full, while a new root and all other metadata arrive: the next one works.

python-tuf itself removes its link to the root before it makes the new one, and synchronises nothing.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root

from content.errors import StorageFull
from content.store import ContentStore
from documents.host_state import Floor
from documents.release import Release
from keys.anchor import TrustAnchor
from lab.carriers import bundle
from lab.crash import changes, crash_points, intercepted
from lab.forge import ONLINE, Forge
from lab.publishing import NOW, Publisher
from updater.client.places import Places
from updater.client.transaction import Update
from updater.errors import MetadataRefused

CHANNELS = ("platform", "desktop")


class World:
    """A repository as it was, and as it is with another root, other online keys and release 2."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        publisher = Publisher(folder)
        self._anchor = TrustAnchor(publisher.anchor)
        for number in (1, 2):
            publisher.publish_platform(number)
            publisher.publish_workload(number)
            if number == 1:
                self.old = Forge(publisher, folder / "old").repository
        new = Forge(publisher, folder / "new")
        fresh = {role: CryptoSigner.generate_ecdsa() for role in ONLINE}
        new.new_root(fresh, new.signers(Root.type))
        new.online = {role: [signer] for role, signer in fresh.items()}
        new.list()
        self.new = new.repository

    def host(self, root: Path) -> Update:
        return Update(Places.below(root), self._anchor, ContentStore(root / "store"), "0.1.0")

    def look_up(self, root: Path, repository: Path) -> list[int]:
        """What is offered."""
        with bundle(repository) as source:
            candidate = self.host(root).check(source, CHANNELS, now=NOW)
        return [Release.parse(release).number for release in candidate.resolution.releases]

    def update(self, root: Path, repository: Path) -> None:
        update = self.host(root)
        update.recover()
        with bundle(repository) as source:
            update.apply(source, CHANNELS, now=NOW)
        update.confirm()

    def numbers(self, root: Path) -> list[int]:
        """What is active after a start."""
        update = self.host(root)
        update.recover()
        generation = update.active()
        assert generation is not None
        return [release.number for release in generation.parsed()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


@pytest.mark.timeout(600)
def test_a_cut_while_a_new_root_arrives(world: World, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for point in crash_points(
        scratch, lambda root: world.update(root, world.old), lambda root: world.look_up(root, world.new)
    ):
        assert world.look_up(point.root, world.new) == [2, 2], point.label
        assert (point.root / "tuf/root.json").resolve().name == "2.root.json", point.label
        assert Floor.parse((point.root / "floor").read_bytes()).root == 2, point.label
        # What the dismissed keys signed is over, whatever the cut left of it.
        with pytest.raises(MetadataRefused):
            world.look_up(point.root, _with_root(world, scratch))


def _with_root(world: World, scratch: Path) -> Path:
    """The old repository, with the new root beside it."""
    mixed = scratch / "mixed"
    if not mixed.exists():
        shutil.copytree(world.old, mixed)
        shutil.copy(world.new / "metadata/2.root.json", mixed / "metadata")
    return mixed


@pytest.mark.timeout(600)
def test_a_full_disk_anywhere_leaves_the_old_state(world: World, tmp_path: Path) -> None:
    """Each write, each new file and folder in turn finds no room; then there is room again."""
    start = tmp_path / "start"
    start.mkdir()
    world.update(start, world.old)
    refusals = 0
    for index in range(1000):
        root = tmp_path / "root"
        shutil.copytree(start, root, symlinks=True)
        with intercepted(_full_at(index)):
            try:
                world.update(root, world.new)
            except StorageFull:
                refusals += 1
                done = False
            else:
                done = True
        assert world.numbers(root) in ([1, 1], [2, 2]), index
        floor = Floor.parse((root / "floor").read_bytes())
        assert min(dict(floor.releases).values()) >= 1, index
        if world.numbers(root) == [1, 1]:
            world.update(root, world.new)
        assert world.numbers(root) == [2, 2], index
        shutil.rmtree(root)
        if done:
            break
    assert refusals > 20


def _full_at(index: int) -> Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]:
    """The effect ``index`` that needs room finds none."""
    count = 0

    def handler(name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        nonlocal count
        if name in ("open_file", "write", "symlink", "mkdir") and changes(name, arguments):
            count += 1
            if count == index + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    return handler
