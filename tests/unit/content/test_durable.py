# SPDX-License-Identifier: Apache-2.0
"""What durable operations leave when nothing cuts them, and when the system refuses. Cuts are in ``tests/crash``."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content import durable, effects
from content.errors import Missing, StorageDenied, StorageFailed, StorageFull, TooLarge

SPARSE = 8 * 1024 * 1024


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(
    old=st.none() | st.binary(max_size=300), new=st.binary(max_size=300), mode=st.sampled_from([0o600, 0o444, 0o644])
)
def test_a_written_file_has_its_bytes_and_mode(
    tmp_path_factory: pytest.TempPathFactory, old: bytes | None, new: bytes, mode: int
) -> None:
    path = tmp_path_factory.mktemp("write") / "file"
    if old is not None:
        durable.write_file(path, old)
    durable.write_file(path, new, mode)
    assert durable.read_file(path, len(new)) == new
    assert path.stat().st_mode & 0o7777 == mode
    assert names(path.parent) == ["file"]


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        durable.write_file(tmp_path / "file", b"", 0o644)
        durable.make_directory(tmp_path / "a" / "b", 0o755)
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in sorted(tmp_path.rglob("*"))] == [0o755, 0o755, 0o644]


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(0o750)
    durable.make_directory(tmp_path / "a", 0o700)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750


def test_a_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(StorageFailed):
            durable.make_directory(path)
    assert names(tmp_path) == ["a"]


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_appended_bytes_follow_each_other(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("append") / "file"
    durable.append(path, b"")
    for part in parts:
        durable.append(path, part)
    assert path.read_bytes() == b"".join(parts)


def test_readers_of_a_link_see_the_new_target(tmp_path: Path) -> None:
    for target in ("one", "two", tmp_path / "three"):
        durable.replace_link(tmp_path / "current", target)
        assert (tmp_path / "current").readlink() == Path(target)
    assert names(tmp_path) == ["current"]


def test_removing_twice_is_as_good_as_once(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "link").symlink_to(outside)
    (tmp_path / "file").touch()
    for _ in range(2):
        durable.remove(tmp_path / "file")
        durable.remove_tree(tmp_path / "tree")
        assert names(tmp_path) == ["outside"]
    assert outside.read_bytes() == b"x"


def test_a_sweep_takes_what_is_unfinished_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    left = durable.temporary(tmp_path)
    (left / "inner").mkdir(parents=True)
    assert durable.sweep(tmp_path) == [left.name]
    assert names(tmp_path) == ["file"]
    assert durable.sweep(tmp_path / "none") == []


def test_a_rename_moves_between_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    durable.write_file(tmp_path / "file", b"x")
    durable.rename(tmp_path / "file", tmp_path / "a" / "other")
    assert names(tmp_path) == ["a"]
    with pytest.raises(Missing):
        durable.rename(tmp_path / "file", tmp_path / "b")


@pytest.mark.parametrize("data_at", [[], [0], [SPARSE // 2], [SPARSE - 4096], [0, SPARSE - 4096]])
def test_a_copy_keeps_bytes_and_holes(tmp_path: Path, data_at: list[int]) -> None:
    with (tmp_path / "source").open("wb") as file:
        file.truncate(SPARSE)
        for position in data_at:
            os.pwrite(file.fileno(), b"data" * 1024, position)
    durable.copy_file(tmp_path / "source", tmp_path / "target", 0o640)
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert (tmp_path / "target").stat().st_blocks <= (tmp_path / "source").stat().st_blocks < SPARSE // 512
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640


def test_an_interrupted_writer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    partial, target = tmp_path / "partial", tmp_path / "target"
    with durable.Writer(partial, keep=True) as writer:
        writer.write(b"first ")
    assert names(tmp_path) == ["partial"]
    with durable.Writer(partial, resume=True, keep=True) as writer:
        assert writer.offset == 6
        writer.write(b"second")
        writer.commit(target)
    assert names(tmp_path) == ["target"]
    assert target.read_bytes() == b"first second"


def test_an_uncommitted_writer_leaves_nothing(tmp_path: Path) -> None:
    with durable.Writer(tmp_path / "partial") as writer:
        writer.write(b"x")
    with durable.Writer(tmp_path / "partial", keep=True) as writer:
        writer.discard()
    assert names(tmp_path) == []


def test_a_writer_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"old")
    (tmp_path / "partial").symlink_to("victim")
    with pytest.raises(StorageFailed):
        durable.Writer(tmp_path / "partial")
    assert (tmp_path / "victim").read_bytes() == b"old"


def test_a_read_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert durable.read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(TooLarge):
        durable.read_file(tmp_path / "file", 4)
    with pytest.raises(Missing):
        durable.read_file(tmp_path / "none", 4)
    for other in (tmp_path, Path("/dev/zero")):
        with pytest.raises(StorageFailed):
            durable.read_file(other, 4)


def test_a_kernel_file_without_a_length_is_read() -> None:
    assert durable.read_file(Path("/proc/self/stat"), 4096)


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = effects.write
    monkeypatch.setattr(effects, "write", lambda descriptor, data, offset: real(descriptor, data[:3], offset))
    durable.write_file(tmp_path / "file", b"0123456789")
    durable.append(tmp_path / "file", b"abcde")
    assert (tmp_path / "file").read_bytes() == b"0123456789abcde"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, StorageFailed),
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EACCES, StorageDenied),
        (errno.EROFS, StorageDenied),
    ],
)
@pytest.mark.parametrize("effect", ["write", "chmod", "fsync", "rename"])
def test_a_refused_effect_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: str, number: int, kind: type[Exception]
) -> None:
    def refuse(*arguments: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    durable.write_file(tmp_path / "file", b"old")
    monkeypatch.setattr(effects, effect, refuse)
    with pytest.raises(kind):
        durable.write_file(tmp_path / "file", b"new")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_failed_append_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> NoReturn:
        raise OSError(errno.EIO, "broken")

    durable.append(tmp_path / "file", b"old")
    monkeypatch.setattr(effects, "fsync", refuse)
    with pytest.raises(StorageFailed, match="broken"):
        durable.append(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


FULL = """
    import os, sys
    from pathlib import Path
    from content import durable
    from content.errors import StorageFull
    from content.fsverity import digest_bytes
    from content.store import ContentStore

    root, big = Path(sys.argv[1]), os.urandom(200_000)

    def refused(needed, operation, *arguments):
        try:
            operation(*arguments)
        except StorageFull as error:
            assert error.needed == needed, error.needed
            assert sorted(p.name for p in root.iterdir()) == ["file", "store"], list(root.iterdir())
            assert (root / "file").read_bytes() == b"old"
        else:
            raise AssertionError("it fitted")

    durable.write_file(root / "file", b"old")
    store = ContentStore(root / "store")
    kept = store.add_bytes(b"kept")
    refused(200_000, durable.write_file, root / "file", big)
    refused(200_000, durable.append, root / "file", big)
    refused(200_000, store.add_bytes, big)

    # A transfer is refused before its first byte, and one that fits goes through afterwards.
    def receive(data):
        with store.receive(digest_bytes(data), len(data)) as incoming:
            incoming.write(data)
            incoming.commit()

    refused(200_000, receive, big)
    store.gc({kept.fsverity})
    receive(big[:10_000])
    store.verify(digest_bytes(big[:10_000]), 10_000)
    store.verify(kept.fsverity, kept.length)
    """


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A real file system of 128 KiB, in a mount namespace of its own."""
    mount = 'mount -t tmpfs -o size=128k,mode=0755 none "$1" && exec "$2" -c "$3" "$1"'
    space = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    run = subprocess.run(
        [*space, "sh", "-c", mount, "sh", tmp_path, sys.executable, textwrap.dedent(FULL)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_a_size_limit_counts_as_full(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from pathlib import Path
        from content import durable
        from content.errors import StorageFull
        path = Path(sys.argv[1])
        durable.append(path, b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for operation in (durable.write_file, durable.append):
            try:
                operation(path, bytes(2000))
            except StorageFull:
                assert path.read_bytes() == b"old"
            else:
                raise AssertionError
        """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path / "file"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert names(tmp_path) == ["file"]
