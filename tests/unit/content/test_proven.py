# SPDX-License-Identifier: Apache-2.0
"""What was hashed on its way into the store is not hashed again by the next step, unless anybody touched it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from content import store as store_module
from content.errors import DigestMismatch, NotInStore
from content.fsverity import Measured, digest_bytes
from content.proven import WORTH
from content.store import ContentStore

LARGE = b"".join(number.to_bytes(8, "big") for number in range(WORTH // 8 + 1))
DIGEST = digest_bytes(LARGE)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    store = ContentStore(tmp_path / "store")
    with store.receive(DIGEST, len(LARGE)) as incoming:
        incoming.write(LARGE)
        incoming.commit()
    return store


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were hashed as a whole."""
    seen: list[Path] = []
    real = store_module.verify_file

    def noting(path: Path, fsverity: str, length: int) -> None:
        seen.append(path)
        real(path, fsverity, length)

    monkeypatch.setattr(store_module, "verify_file", noting)
    return seen


def test_what_was_received_is_not_hashed_again(store: ContentStore, hashed: list[Path]) -> None:
    store.verify_once(DIGEST, len(LARGE))
    assert not hashed
    # Who wants to know of the disk now still gets it read.
    store.verify(DIGEST, len(LARGE))
    assert hashed == [store.path(DIGEST)]


def test_what_was_verified_is_not_hashed_again(tmp_path: Path, hashed: list[Path]) -> None:
    store = ContentStore(tmp_path / "store")
    store.add_bytes(LARGE)
    hashed.clear()
    store.verify_once(DIGEST, len(LARGE))
    store.verify_once(DIGEST, len(LARGE))
    assert hashed == [store.path(DIGEST)]


def _flip(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(b"!")


def _put_in_its_place(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"!" + LARGE[1:])
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("touch", [_flip, _put_in_its_place])
def test_what_was_touched_since_is_hashed_and_refused(store: ContentStore, touch: object) -> None:
    touch(store.path(DIGEST))  # type: ignore[operator]
    with pytest.raises(DigestMismatch):
        store.verify_once(DIGEST, len(LARGE))


def test_what_is_gone_is_refused(store: ContentStore) -> None:
    store.path(DIGEST).unlink()
    with pytest.raises(NotInStore):
        store.verify_once(DIGEST, len(LARGE))


def test_another_length_is_refused(store: ContentStore) -> None:
    with pytest.raises(DigestMismatch):
        store.verify_once(DIGEST, len(LARGE) - 1)


def test_another_process_hashes_for_itself(store: ContentStore, hashed: list[Path]) -> None:
    ContentStore(store.root).verify_once(DIGEST, len(LARGE))
    assert hashed == [store.path(DIGEST)]


def test_a_small_file_is_hashed_each_time(tmp_path: Path, hashed: list[Path]) -> None:
    store = ContentStore(tmp_path / "small")
    small: Measured = store.add_bytes(b"small")
    hashed.clear()
    store.verify_once(small.fsverity, small.length)
    store.verify_once(small.fsverity, small.length)
    assert len(hashed) == 2
