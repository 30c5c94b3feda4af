# SPDX-License-Identifier: Apache-2.0
"""The life of a host's generations. Updates come from bundles here; the network has tests of its own."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pytest
from tuf.ngclient import Updater
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from content import durable
from content.errors import DigestMismatch, StorageFull
from content.store import ContentStore
from documents.errors import DocumentNewer, Exit
from documents.host_state import Generation
from keys.anchor import TrustAnchor
from lab.publishing import NOW, Publisher
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.download import fetch_artifacts
from updater.client.generations import Generations
from updater.client.metadata import GivenTimeUpdater
from updater.client.places import Places
from updater.client.transaction import Update
from updater.errors import Incompatible, NoGeneration, NotConfirmed, RollbackRefused, StateInconsistent
from updater.repository.export import export_bundle

CHANNELS = ("platform", "desktop")


class World:
    """A publisher and a host that shares nothing with it but a stick."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "publisher").mkdir()
        self.publisher = Publisher(folder / "publisher")
        self.publisher.publish_workload(1)
        self.anchor = TrustAnchor(self.publisher.anchor)
        self.store = ContentStore(folder / "store")
        self.places = Places.below(folder / "state")
        self.host = self.process()

    def process(self) -> Update:
        """A new process of the agent."""
        (self.folder / "state").mkdir(exist_ok=True)
        update = Update(self.places, self.anchor, self.store, "0.1.0")
        update.recover()
        return update

    def apply(self) -> Generation | None:
        stick = self.folder / "stick"
        export_bundle(self.publisher.repository, CHANNELS, stick)
        with BundleReader(stick) as reader:
            return self.host.apply(BundleSource(reader), CHANNELS, now=NOW)

    def release(self, number: int, **changes: object) -> None:
        """Publish, apply and confirm."""
        self.publisher.publish_platform(number, **changes)
        assert self.apply() is not None
        self.host.confirm()

    def active(self) -> int:
        generation = self.host.active()
        return generation.platform.number if generation else 0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_new_host_has_nothing(world: World) -> None:
    assert world.host.active() is None
    assert world.host.journal.state == "idle"
    with pytest.raises(NoGeneration) as caught:
        world.host.roll_back()
    assert caught.value.exit == Exit.NOT_FOUND


def test_updates_follow_each_other_and_only_two_generations_stay(world: World) -> None:
    for number in (1, 2, 3):
        world.release(number)
        assert world.active() == number
    assert sorted(p.name for p in world.places.generations.iterdir()) == ["2", "3", "current"]
    assert world.apply() is None


def test_a_rollback_goes_back_and_remembers(world: World) -> None:
    world.release(1)
    world.release(2)
    back = world.host.roll_back()
    assert back is not None
    assert world.active() == back.platform.number == 1
    assert (world.places.generations / "current").readlink() == Path("1")
    # Release 2 is still the newest, and is not offered again on its own.
    with pytest.raises(Incompatible, match="failed or was rolled back on this host before") as caught:
        world.apply()
    assert caught.value.exit == Exit.POLICY
    with pytest.raises(NoGeneration):
        world.host.roll_back()
    world.release(3)
    assert world.active() == 3
    generation = world.host.active()
    assert generation is not None
    assert generation.number == 3, "numbers are never used twice"


def test_a_first_generation_that_fails_leaves_none(world: World) -> None:
    world.publisher.publish_platform(1)
    assert world.apply() is not None
    assert world.host.roll_back() is None
    assert world.host.active() is None
    assert not (world.places.generations / "current").is_symlink()
    world.process()


def test_an_unconfirmed_generation_survives_a_restart_and_blocks_the_next(world: World) -> None:
    world.release(1)
    world.publisher.publish_platform(2)
    world.apply()
    world.host = world.process()
    assert (world.host.journal.state, world.active()) == ("switched", 2)
    world.publisher.publish_platform(3)
    with pytest.raises(NotConfirmed) as caught:
        world.apply()
    assert caught.value.exit == Exit.NOT_READY
    world.host.roll_back()
    assert world.active() == 1


def test_a_confirmed_epoch_is_not_left(world: World) -> None:
    world.release(1)
    world.publisher.publish_platform(2, epoch=2)
    world.apply()
    world.host.roll_back()
    world.release(3, epoch=2)
    with pytest.raises(RollbackRefused, match="epoch 2 was confirmed"):
        world.host.roll_back()
    assert world.active() == 3


def test_steps_out_of_order_are_bugs(world: World) -> None:
    for step in (world.host.verify, world.host.stage, world.host.switch, world.host.confirm, world.host.abandon):
        with pytest.raises(ValueError, match="cannot happen while idle"):
            step()


def test_what_is_damaged_before_the_switch_is_never_switched_to(world: World) -> None:
    world.release(1)
    world.publisher.publish_platform(2)
    stick = world.folder / "stick"
    export_bundle(world.publisher.repository, CHANNELS, stick)
    with BundleReader(stick) as reader:
        source = BundleSource(reader)
        candidate = world.host.check(source, CHANNELS, now=NOW)
        world.host.fetch(candidate, source)
    for item in world.store.items():
        path = world.store.path(item.fsverity)
        path.chmod(0o644)
        path.write_bytes(bytes(item.length))
    with pytest.raises(DigestMismatch):
        world.host.verify()
    with pytest.raises(ValueError, match="cannot happen while fetched"):
        world.host.switch()
    world.host = world.process()
    assert (world.host.journal.state, world.active()) == ("idle", 1)
    assert world.apply() is not None
    assert world.active() == 2


def test_a_full_disk_leaves_the_old_generation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.release(1)
    world.publisher.publish_platform(2)
    before = world.host.journal

    def full(directory: Path, needed: int) -> None:
        raise StorageFull("nothing was written", needed=needed, cause=f"{directory}: 0 bytes are free")

    with monkeypatch.context() as patch:
        patch.setattr("content.durable.require_space", full)
        with pytest.raises(StorageFull):
            world.apply()
    assert (world.host.journal, world.active()) == (before, 1)
    assert world.apply() is not None


def test_a_generation_that_was_removed_is_told(world: World) -> None:
    world.release(1)
    shutil.rmtree(world.places.generations / "1")
    with pytest.raises(StateInconsistent, match="missing"):
        world.process()


def test_an_update_that_could_not_be_abandoned_is_abandoned_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk refuses the new generation, and the journal that would forget it as well."""
    world.release(1)
    world.publisher.publish_platform(2)

    def full(path: Path, data: bytes, mode: int = 0o600) -> None:
        raise StorageFull("the file was not written", needed=len(data), cause=f"{path}: no room")

    stage = Generations.stage

    def filled(self: Generations, generation: Generation) -> None:
        monkeypatch.setattr(durable, "write_file", full)
        stage(self, generation)

    with monkeypatch.context() as patch:
        patch.setattr(Generations, "stage", filled)
        with pytest.raises(StorageFull, match=r"generation\.json"):
            world.apply()
    assert world.host.journal.state == "verified"
    monkeypatch.undo()
    assert world.active() == 1
    assert world.apply() is not None
    assert world.active() == 2
    world.host.confirm()
    assert sorted(p.name for p in world.places.generations.iterdir()) == ["1", "2", "current"]


def test_state_of_a_newer_vmgate_is_refused(world: World) -> None:
    world.release(1)
    for path in (world.places.journal, world.places.floor, world.places.generations / "1" / "generation.json"):
        data = path.read_bytes()
        newer = data.replace(b'"version":1}', b'"version":2}')
        assert newer != data
        path.write_bytes(newer)
        with pytest.raises(DocumentNewer) as caught:
            world.process().apply(_nothing(), CHANNELS, now=NOW)
        assert caught.value.exit == Exit.NOT_READY
        assert path.read_bytes() == newer
        path.write_bytes(data)


def _nothing() -> BundleSource:
    class Nothing:
        offline = True

        def open(self, name: str, start: int = 0, length: int | None = None) -> object:
            raise AssertionError("asked although the state is not readable")

    return Nothing()  # type: ignore[return-value]


def test_a_link_that_points_elsewhere_is_refused(world: World) -> None:
    world.release(1)
    link = world.places.generations / "current"
    link.unlink()
    link.symlink_to("/etc")
    with pytest.raises(StateInconsistent):
        world.process()


def test_the_journal_decides_over_the_link(world: World) -> None:
    world.release(1)
    world.release(2)
    link = world.places.generations / "current"
    link.unlink()
    link.symlink_to("1")
    world.process()
    assert link.readlink() == Path("2")


def test_progress_rises_to_the_whole(world: World) -> None:
    world.publisher.publish_platform(1, b"x" * 2_500_000)
    stick = world.folder / "stick"
    export_bundle(world.publisher.repository, CHANNELS, stick)
    told: list[tuple[int, int]] = []
    with BundleReader(stick) as reader:
        source = BundleSource(reader)
        candidate = world.host.check(source, CHANNELS, now=NOW)
        world.host.fetch(candidate, source, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] == 2_500_000 + len(b"image of release 1")


def test_an_empty_artifact_is_never_asked_for(world: World) -> None:
    empty, _ = world.publisher.artifact("vmm/empty", "host-files", b"")
    fetch_artifacts(_nothing(), world.store, [empty])
    world.store.verify(empty.fsverity, 0)


@pytest.mark.parametrize("name", ["_download_metadata", "_persist_file", "_update_root_symlink"])
def test_the_private_names_of_python_tuf_are_still_there(name: str) -> None:
    """What ``GivenTimeUpdater`` replaces must exist with these arguments, or it would silently replace nothing."""
    ours, theirs = (inspect.signature(getattr(cls, name)) for cls in (GivenTimeUpdater, Updater))
    assert list(ours.parameters) == list(theirs.parameters)


def test_the_time_of_python_tuf_is_still_where_it_was(world: World) -> None:
    world.publisher.publish_platform(1)
    updater = GivenTimeUpdater(world.folder / "tuf", world.anchor.root, _nothing(), NOW)
    assert isinstance(updater._trusted_set, TrustedMetadataSet)
    assert updater._trusted_set.reference_time.timestamp() == NOW
    assert "reference_time" in inspect.getsource(TrustedMetadataSet._check_final_timestamp)
