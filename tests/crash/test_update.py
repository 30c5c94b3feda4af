# SPDX-License-Identifier: Apache-2.0
"""An update that is cut anywhere leaves the old generation or the new one, and the next one works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from content.store import ContentStore
from documents.host_state import Floor
from keys.anchor import TrustAnchor
from lab.crash import crash_points
from lab.publishing import NOW, Publisher
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.transaction import Places, Update
from updater.errors import StateInconsistent
from updater.repository.export import export_bundle

CHANNELS = ("platform", "desktop")


class Stick:
    """Bundles of release 1 and 2, and the anchor."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        publisher = Publisher(folder)
        self.anchor = TrustAnchor(publisher.anchor)
        self.bundles = []
        for number in (1, 2):
            publisher.publish_platform(number)
            publisher.publish_workload(number)
            self.bundles.append(folder / f"{number}.bundle")
            export_bundle(publisher.repository, CHANNELS, self.bundles[-1])

    def host(self, root: Path) -> Update:
        return Update(Places.below(root), self.anchor, ContentStore(root / "store"), "0.1.0")

    def apply(self, update: Update, number: int) -> None:
        with BundleReader(self.bundles[number - 1]) as reader:
            update.apply(BundleSource(reader), CHANNELS, now=NOW)

    def prepare(self, root: Path) -> None:
        """Generation 1, confirmed."""
        update = self.host(root)
        update.recover()
        self.apply(update, 1)
        update.confirm()

    def release(self, root: Path) -> int:
        """Recover, as at each start; which release is active, with all that it needs."""
        update = self.host(root)
        journal = update.recover()
        assert journal.state in ("idle", "switched", "confirmed")
        generation = update.active()
        assert generation is not None
        link = root / "generations" / "current"
        assert link.readlink() == Path(str(generation.number))
        numbers = {release.number for release in generation.parsed()}
        assert len(numbers) == 1, "a mixture"
        store = ContentStore(root / "store")
        for release in generation.parsed():
            for artifact in release.artifacts:
                store.verify(artifact.fsverity, artifact.length)
        return numbers.pop()


@pytest.fixture
def stick(tmp_path: Path) -> Stick:
    return Stick(tmp_path / "stick")


def _scratch(tmp_path: Path) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return scratch


@pytest.mark.timeout(600)
def test_a_cut_during_an_update_leaves_old_or_new(stick: Stick, tmp_path: Path) -> None:
    seen = set()

    def update(root: Path) -> None:
        stick.apply(stick.host(root), 2)

    for point in crash_points(_scratch(tmp_path), stick.prepare, update):
        number = stick.release(point.root)
        assert number == 2 if point.finished else number in (1, 2), point.label
        seen.add(number)
        host = stick.host(point.root)
        if number == 1:
            stick.apply(host, 2)
        if host.journal.state == "switched":
            host.confirm()
        assert stick.release(point.root) == 2, point.label
    assert seen == {1, 2}


@pytest.mark.timeout(600)
def test_a_cut_during_confirmation_keeps_the_new_one(stick: Stick, tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        stick.prepare(root)
        stick.apply(stick.host(root), 2)

    for point in crash_points(_scratch(tmp_path), prepare, lambda root: stick.host(root).confirm()):
        assert stick.release(point.root) == 2, point.label
        host = stick.host(point.root)
        if host.journal.state == "switched":
            host.confirm()
        assert dict(_floor(point.root)) == {"platform": 2, "desktop": 2}, point.label


@pytest.mark.timeout(600)
def test_a_cut_during_a_rollback_leaves_old_or_new(stick: Stick, tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        stick.prepare(root)
        stick.apply(stick.host(root), 2)

    for point in crash_points(_scratch(tmp_path), prepare, lambda root: stick.host(root).roll_back()):
        number = stick.release(point.root)
        assert number == 1 if point.finished else number in (1, 2), point.label
        host = stick.host(point.root)
        if number == 2:
            host.roll_back()
        assert stick.release(point.root) == 1, point.label
        assert len(host.journal.refused) == 2


def _floor(root: Path) -> tuple[tuple[str, int], ...]:
    return Floor.parse((root / "floor").read_bytes()).releases


def test_a_host_whose_generation_was_removed_says_so(stick: Stick, tmp_path: Path) -> None:
    root = tmp_path / "host"
    root.mkdir()
    stick.prepare(root)
    shutil.rmtree(root / "generations" / "1")
    with pytest.raises(StateInconsistent, match="missing"):
        stick.host(root).recover()
