# SPDX-License-Identifier: Apache-2.0
"""What the store installs is sealed, and nothing depends on whether that can be done. The rig has a kernel that can."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from content import effects
from content.fsverity import SPAN, HashedSpan, digest_bytes, hash_blocks
from content.store import ContentStore

IMAGE = os.urandom(2 * SPAN)
DIGEST = digest_bytes(IMAGE)


class Kernel:
    """A kernel that refuses, and notes which files it was asked to seal."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked: list[tuple[Path, bool]] = []

    def __call__(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        writers = [
            other
            for other in Path("/proc/self/fd").iterdir()
            if other.resolve() == path and fcntl.fcntl(int(other.name), fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        ]
        self.asked.append((path, not writers))
        if self.number:
            raise OSError(self.number, os.strerror(self.number))


REFUSALS = [0, errno.ENOTTY, errno.EOPNOTSUPP, errno.EEXIST, errno.ETXTBSY, errno.EPERM, errno.ENOSPC, errno.EIO]


@pytest.fixture(params=REFUSALS, ids=lambda number: errno.errorcode.get(number, "done"))
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(request.param)
    monkeypatch.setattr(effects, "enable_verity", kernel)
    return kernel


def test_each_way_into_the_store_seals_the_file_once_it_has_its_name(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    stores = [ContentStore(tmp_path / name) for name in ("bytes", "file", "receive", "assemble")]
    added, copied, received, assembled = stores
    added.add_bytes(IMAGE)
    copied.add_file(tmp_path / "image")
    with received.receive(DIGEST, len(IMAGE)) as incoming:
        incoming.write(IMAGE)
        incoming.commit()
    with assembled.assemble(DIGEST, len(IMAGE), hash_blocks(hash_blocks(IMAGE))) as assembly:
        for span in range(2):
            assert assembly.take(span, HashedSpan(IMAGE[span * SPAN : (span + 1) * SPAN]))
        assembly.commit()
    assert kernel.asked == [(store.path(DIGEST).resolve(), True) for store in stores], "sealed, and nobody can write"
    for store in stores:
        store.verify(DIGEST, len(IMAGE))


def test_what_did_not_come_to_its_end_is_not_sealed(kernel: Kernel, tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with store.receive(DIGEST, len(IMAGE)) as incoming:
        incoming.write(IMAGE[:100])
    with store.assemble(DIGEST, len(IMAGE), hash_blocks(hash_blocks(IMAGE))):
        pass
    assert not kernel.asked


def test_a_file_that_is_there_already_is_sealed_after_all(kernel: Kernel, tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    store.add_bytes(IMAGE)
    store.add_bytes(IMAGE)
    store.seal(DIGEST)
    assert kernel.asked == 3 * [(store.path(DIGEST).resolve(), True)]


def test_what_is_missing_is_not_sealed(kernel: Kernel, tmp_path: Path) -> None:
    ContentStore(tmp_path).seal(DIGEST)
    assert not kernel.asked


def test_the_kernel_here_seals_or_not_and_the_file_is_the_same(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    store.add_bytes(IMAGE)
    store.verify(DIGEST, len(IMAGE))
    assert store.path(DIGEST).read_bytes() == IMAGE
