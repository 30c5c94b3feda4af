# SPDX-License-Identifier: Apache-2.0
"""The store serves a digest's bytes or nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content import durable, effects
from content.errors import DigestMismatch, NotInStore, StorageFailed, StorageFull
from content.fsverity import Measured, digest_bytes
from content.store import ContentStore

IMAGE = bytes(range(256)) * 100
DIGEST = digest_bytes(IMAGE)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


def receive(store: ContentStore, data: bytes, fsverity: str = DIGEST, length: int = len(IMAGE)) -> None:
    with store.receive(fsverity, length) as incoming:
        incoming.write(data)
        incoming.commit()


def partials(store: ContentStore) -> list[str]:
    return sorted(path.name for path in (store.root / "partial").iterdir())


def damage(store: ContentStore) -> None:
    path = store.path(DIGEST)
    path.chmod(0o644)
    path.write_bytes(b"X" + IMAGE[1:])


def test_what_is_added_can_be_verified(store: ContentStore, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    assert store.add_bytes(b"small") == Measured(fsverity=digest_bytes(b"small"), length=5)
    assert store.add_file(tmp_path / "image") == Measured(fsverity=DIGEST, length=len(IMAGE))
    store.verify(DIGEST, len(IMAGE))
    assert store.path(DIGEST).read_bytes() == IMAGE
    assert store.contains(DIGEST, len(IMAGE))
    assert not store.contains(DIGEST, len(IMAGE) + 1)
    assert {item.fsverity for item in store.items()} == {DIGEST, digest_bytes(b"small")}
    assert partials(store) == []


def test_another_user_may_read_and_nobody_write(store: ContentStore) -> None:
    receive(store, IMAGE)
    path = store.path(DIGEST)
    assert [p.stat().st_mode & 0o777 for p in (path, path.parent, store.root)] == [0o444, 0o755, 0o755]
    assert (store.root / "partial").stat().st_mode & 0o777 == 0o700


def test_an_empty_store_has_nothing(store: ContentStore) -> None:
    assert store.items() == ()
    assert not store.contains(DIGEST, 1)
    assert store.gc(set()) == []
    store.sweep()
    with pytest.raises(NotInStore):
        store.verify(DIGEST, len(IMAGE))
    assert not store.root.exists()


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1], DIGEST + "\n", f"../{DIGEST}"])
def test_what_is_not_a_digest_never_becomes_a_path(store: ContentStore, digest: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        store.path(digest)
    with pytest.raises(ValueError, match="digest"), store.receive(digest, 1):
        pass
    store.add_bytes(IMAGE)
    with pytest.raises(ValueError, match="digest"):
        store.gc({digest})
    assert store.contains(DIGEST, len(IMAGE))


@pytest.mark.parametrize("add", ["bytes", "file", "transfer"])
def test_a_damaged_file_is_refused_and_replaced(store: ContentStore, tmp_path: Path, add: str) -> None:
    store.add_bytes(IMAGE)
    damage(store)
    with pytest.raises(DigestMismatch):
        store.verify(DIGEST, len(IMAGE))
    assert store.contains(DIGEST, len(IMAGE)), "presence is not proof"

    (tmp_path / "image").write_bytes(IMAGE)
    match add:
        case "bytes":
            store.add_bytes(IMAGE)
        case "file":
            store.add_file(tmp_path / "image")
        case _:
            receive(store, IMAGE)
    store.verify(DIGEST, len(IMAGE))


def test_a_link_in_the_place_of_a_file_is_not_followed(store: ContentStore, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    store.add_bytes(IMAGE)
    store.path(DIGEST).unlink()
    store.path(DIGEST).symlink_to(tmp_path / "image")
    assert not store.contains(DIGEST, len(IMAGE))
    store.add_bytes(IMAGE)
    assert not store.path(DIGEST).is_symlink()


@given(cuts=st.lists(st.integers(0, len(IMAGE)), max_size=4))
def test_a_transfer_cut_anywhere_goes_on(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    store = ContentStore(tmp_path_factory.mktemp("transfer") / "store")
    at = 0
    for cut in sorted(cuts):
        with store.receive(DIGEST, len(IMAGE)) as incoming:
            assert incoming.offset == at
            incoming.write(IMAGE[at:cut])
            at = cut
        assert not store.contains(DIGEST, len(IMAGE))
    with store.receive(DIGEST, len(IMAGE)) as incoming:
        incoming.write(IMAGE[incoming.offset :])
        incoming.commit()
    store.verify(DIGEST, len(IMAGE))
    assert partials(store) == []


@pytest.mark.parametrize(
    "data",
    [b"X" + IMAGE[1:], IMAGE[:-1], IMAGE + b"X", b""],
    ids=["other bytes", "too few", "too many", "none"],
)
def test_other_bytes_are_refused_and_thrown_away(store: ContentStore, data: bytes) -> None:
    with pytest.raises(DigestMismatch):
        receive(store, data)
    assert store.items() == ()
    assert partials(store) == []
    receive(store, IMAGE)
    store.verify(DIGEST, len(IMAGE))


def test_a_refused_transfer_leaves_the_good_file(store: ContentStore) -> None:
    receive(store, IMAGE)
    with pytest.raises(DigestMismatch):
        receive(store, b"X" * len(IMAGE))
    store.verify(DIGEST, len(IMAGE))


def test_a_foreign_unfinished_file_is_no_way_in(store: ContentStore) -> None:
    """Somebody puts bytes where a transfer would go on."""
    with store.receive(DIGEST, len(IMAGE)):
        pass
    (store.root / "partial" / DIGEST).write_bytes(b"X" * (len(IMAGE) + 1))
    with store.receive(DIGEST, len(IMAGE)) as incoming:
        assert incoming.offset == 0, "longer than the whole: worth nothing"
    (store.root / "partial" / DIGEST).write_bytes(b"X" * len(IMAGE))
    with pytest.raises(DigestMismatch):
        receive(store, b"")
    assert store.items() == ()


def test_a_sender_that_cannot_go_on_starts_anew(store: ContentStore) -> None:
    with store.receive(DIGEST, len(IMAGE)) as incoming:
        incoming.write(b"half")
    with store.receive(DIGEST, len(IMAGE)) as incoming:
        incoming.restart()
        assert incoming.offset == 0
        incoming.write(IMAGE)
        incoming.commit()
    store.verify(DIGEST, len(IMAGE))


def test_a_transfer_that_cannot_fit_is_refused_at_once(store: ContentStore) -> None:
    with pytest.raises(StorageFull) as full, store.receive(DIGEST, 2**62):
        pass
    assert full.value.needed == 2**62


def test_a_transfer_that_was_not_synchronised_begins_anew(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel forgets what it could not write: the next ``fsync`` of that file would succeed and prove nothing."""

    def broken(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(effects, "fsync", broken)
        with pytest.raises(StorageFailed, match="broken"):
            receive(store, IMAGE)
    assert partials(store) == []
    receive(store, IMAGE)
    store.verify(DIGEST, len(IMAGE))


def test_room_is_required_for_all_that_is_missing(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("content.durable.require_space", lambda _, needed: asked.append(needed))
    there = store.add_bytes(b"x" * 10_000)
    half = b"y" * 20_000
    with store.receive(digest_bytes(half), len(half)) as incoming:
        incoming.write(half[:8192])
    wanted = {there.fsverity: there.length, digest_bytes(half): len(half), DIGEST: len(IMAGE)}
    store.require_room(wanted, besides=7)
    assert asked[-1] == len(half) - 8192 + len(IMAGE) + 7
    store.require_room({there.fsverity: there.length})
    assert asked[-1] == 0


def test_a_transfer_that_finds_the_disk_full_names_the_rest(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(effects, "write", full)
    with pytest.raises(StorageFull) as caught, store.receive(DIGEST, 100_000) as incoming:
        incoming.write(b"x" * 10)
    assert caught.value.needed == 100_000


def test_gc_keeps_what_is_named(store: ContentStore) -> None:
    kept, gone = store.add_bytes(b"kept").fsverity, store.add_bytes(b"gone").fsverity
    for digest in (DIGEST, "0" * 64):
        with store.receive(digest, 10) as incoming:
            incoming.write(b"x")
    left = durable.temporary(store.path(kept).parent)
    left.touch()
    (store.root / "README").touch()

    assert store.gc({kept, DIGEST}) == [gone]

    assert [item.fsverity for item in store.items()] == [kept]
    assert partials(store) == [DIGEST]
    assert not left.exists()
    assert (store.root / "README").exists()
