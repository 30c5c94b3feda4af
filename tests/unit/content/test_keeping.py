# SPDX-License-Identifier: Apache-2.0
"""What may change a file between its measurement and its use is found on the way to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from content.keeping import Ground, opened
from content.mounts import Mounts

MOUNTS = Mounts()


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A machine whose top is the test's folder and whose root is whoever runs the test."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    mount = MOUNTS.of(descriptor)
    os.close(descriptor)
    assert mount is not None
    return Ground(top=tmp_path, owner=os.getuid(), filesystems=frozenset({mount.filesystem}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file two folders deep."""
    path = tmp_path / "a/b/file"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"data")
    for place in (tmp_path, path.parents[1], path.parent):
        place.chmod(0o755)
    path.chmod(0o444)
    return path


def judged(path: Path, ground: Ground) -> tuple[bool, bool, str]:
    with opened(path, MOUNTS, ground) as found:
        return found.settled, found.private, found.kept(verity=False)


GOOD = (True, True, "root-only store")


def test_a_file_that_only_the_owner_can_change_is_private(file: Path, ground: Ground) -> None:
    assert judged(file, ground) == GOOD
    with opened(file, MOUNTS, ground) as found:
        assert os.pread(found.descriptor, 10, 0) == b"data"
        assert found.status.st_ino == file.stat().st_ino
        assert found.kept(verity=True) == "fs-verity"


@pytest.mark.parametrize("mode", [0o666, 0o464, 0o446])
def test_a_file_that_others_may_write_is_not(file: Path, ground: Ground, mode: int) -> None:
    file.chmod(mode)
    assert judged(file, ground) == ((True, False, "nothing") if mode & 0o022 else GOOD)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_below_a_folder_that_others_may_write_nothing_is_kept(
    file: Path, ground: Ground, level: int, mode: int
) -> None:
    file.parents[level].chmod(mode)
    assert judged(file, ground) == (False, False, "nothing")
    with opened(file, MOUNTS, ground) as found:
        # The kernel would keep the bytes, but anybody could put another file in its place.
        assert found.kept(verity=True) == "nothing"


def test_somebody_elses_file_is_not(file: Path, ground: Ground) -> None:
    stranger = Ground(top=ground.top, owner=ground.owner + 1, filesystems=ground.filesystems)
    assert judged(file, stranger) == (False, False, "nothing")


def test_a_second_name_is_somebody_elses_way_in(file: Path, ground: Ground) -> None:
    (file.parent / "other").hardlink_to(file)
    assert judged(file, ground) == (True, False, "nothing")


def test_a_file_system_that_is_not_the_machines_own_keeps_nothing(file: Path, ground: Ground) -> None:
    foreign = Ground(top=ground.top, owner=ground.owner, filesystems=frozenset({"another"}))
    assert judged(file, foreign) == (False, False, "nothing")
    with opened(file, MOUNTS, foreign) as found:
        assert found.mount is None


@pytest.mark.parametrize("target", ["a", "./a", "a/b/..", "{top}/a"])
def test_a_link_on_the_way_is_followed_and_its_way_judged(file: Path, ground: Ground, target: str) -> None:
    (ground.top / "link").symlink_to(target.format(top=""))
    path = ground.top / "link/b/file"
    assert judged(path, ground) == GOOD
    file.parents[1].chmod(0o777)
    assert judged(path, ground) == (False, False, "nothing")


def test_a_link_in_a_folder_of_others_keeps_nothing(file: Path, ground: Ground) -> None:
    shared = ground.top / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "link").symlink_to("../a")
    assert judged(shared / "link/b/file", ground) == (False, False, "nothing")


def test_the_last_name_must_not_be_a_link(file: Path, ground: Ground) -> None:
    (file.parent / "link").symlink_to("file")
    with pytest.raises(OSError) as refused, opened(file.parent / "link", MOUNTS, ground):
        pass
    assert refused.value.errno == errno.ELOOP


def test_links_in_a_circle_end(ground: Ground) -> None:
    (ground.top / "x").symlink_to("y")
    (ground.top / "y").symlink_to("x")
    with pytest.raises(OSError) as refused, opened(ground.top / "x/file", MOUNTS, ground):
        pass
    assert refused.value.errno == errno.ELOOP


@pytest.mark.parametrize("name", ["none", "none/file", "a/b/file/inner"])
def test_what_is_not_there_is_an_error(file: Path, ground: Ground, name: str) -> None:
    with pytest.raises((FileNotFoundError, NotADirectoryError)), opened(ground.top / name, MOUNTS, ground):
        pass


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_private(ground: Ground, make: Callable[[Path], None]) -> None:
    make(ground.top / "it")
    assert judged(ground.top / "it", ground)[1:] == (False, "nothing")


def test_no_descriptor_is_left(file: Path, ground: Ground) -> None:
    (ground.top / "link").symlink_to("a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    judged(ground.top / "link/b/file", ground)
    with pytest.raises(OSError), opened(ground.top / "link/b/none", MOUNTS, ground):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_machine_begins_at_its_top_and_root_owns_it() -> None:
    assert Ground() == Ground(top=Path("/"), owner=0)
    assert not Ground().filesystems & {"fuse", "fuseblk", "nfs", "nfs4", "cifs", "overlay", "9p", "virtiofs", "vfat"}
