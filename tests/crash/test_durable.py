# SPDX-License-Identifier: Apache-2.0
"""A crash during a durable operation leaves the old state or the new one; sweeping and doing it again works.

The model of the disk is shown to be strict by operations that forget to synchronise: it must catch each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from content import durable, effects
from content.errors import DigestMismatch
from content.fsverity import digest_bytes
from content.store import ContentStore
from lab.crash import Operation, crash_points

OLD = b"old " * 3000
NEW = b"new bytes " * 2000
IMAGE = bytes(range(256)) * 64
DIGEST = digest_bytes(IMAGE)

Tree = dict[str, object]


def tree(root: Path) -> Tree:
    """All that is there, with modes; unfinished things aside."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        if any(part.startswith(durable.TEMPORARY) for part in path.relative_to(root).parts):
            continue
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = path.readlink()
        else:
            found[name] = (oct(path.stat().st_mode & 0o777), path.read_bytes() if path.is_file() else None)
    return found


def unfinished(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.startswith(durable.TEMPORARY)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """An operation and how its folder begins. ``between`` allows more states than the old and the new."""

    operation: Operation
    prepare: Operation = lambda _: None
    between: Callable[[Tree], bool] = lambda _: False
    sweep: list[str] = field(default_factory=lambda: ["."])


def make_old(root: Path) -> None:
    (root / "file").write_bytes(OLD)
    (root / "file").chmod(0o640)


def make_tree(root: Path) -> None:
    (root / "tree" / "inner").mkdir(parents=True)
    (root / "tree" / "inner" / "file").write_bytes(OLD)
    (root / "tree" / "link").symlink_to("/nowhere")


def make_sparse(root: Path) -> None:
    with (root / "source").open("wb") as file:
        file.write(OLD)
        file.truncate(200_000)
    (root / "file").write_bytes(OLD)
    (root / "file").chmod(0o640)


def make_partial(root: Path) -> None:
    with ContentStore(root / "store").receive(DIGEST, len(IMAGE)) as incoming:
        incoming.write(IMAGE[:5000])


def receive(root: Path) -> None:
    store = ContentStore(root / "store")
    with store.receive(DIGEST, len(IMAGE)) as incoming:
        for start in range(incoming.offset, len(IMAGE), 6000):
            incoming.write(IMAGE[start : start + 6000])
        incoming.commit()


def store_is_honest(found: Tree) -> bool:
    """The folders may be there or not; a file under its name is whole, readable, and not writable."""
    files = {name: value for name, value in found.items() if "partial/" not in name and value[1] is not None}  # type: ignore[index]
    folders = {name: value[0] for name, value in found.items() if value[1] is None}  # type: ignore[index]
    modes = {"store": "0o755", "store/partial": "0o700", f"store/{DIGEST[:2]}": "0o755"}
    return all(v == ("0o444", IMAGE) for v in files.values()) and all(modes[n] == m for n, m in folders.items())


def appended(old: bytes, new: bytes) -> Callable[[Tree], bool]:
    """All of the old bytes, then a beginning of the new ones, then perhaps zeros."""

    def check(found: Tree) -> bool:
        _, data = found.get("file", (None, old))  # type: ignore[misc]
        tail = data[len(old) :].rstrip(b"\0")
        return data.startswith(old) and new.startswith(tail) and len(data) <= len(old) + len(new)

    return check


def folders_only(found: Tree) -> bool:
    return all(value == ("0o755", None) for value in found.values())


PARTIAL_STORE = [".", "store", "store/partial"]
STORIES = {
    "write_file, new": Story(operation=lambda root: durable.write_file(root / "file", NEW, 0o644)),
    "write_file, over another": Story(
        prepare=make_old, operation=lambda root: durable.write_file(root / "file", NEW, 0o644)
    ),
    "copy_file": Story(
        prepare=make_sparse, operation=lambda root: durable.copy_file(root / "source", root / "file", 0o600)
    ),
    "replace_link, new": Story(operation=lambda root: durable.replace_link(root / "current", "two")),
    "replace_link, over another": Story(
        prepare=lambda root: (root / "current").symlink_to("one"),
        operation=lambda root: durable.replace_link(root / "current", "two"),
    ),
    "rename between folders": Story(
        prepare=lambda root: (make_tree(root), (root / "other").mkdir()),
        operation=lambda root: (root / "tree").exists() and durable.rename(root / "tree", root / "other" / "tree"),
    ),
    "truncate": Story(prepare=make_old, operation=lambda root: durable.truncate(root / "file", 100)),
    "remove": Story(prepare=make_old, operation=lambda root: durable.remove(root / "file")),
    "remove_tree": Story(prepare=make_tree, operation=lambda root: durable.remove_tree(root / "tree")),
    "make_directory": Story(
        operation=lambda root: durable.make_directory(root / "a" / "b" / "c", 0o755),
        between=folders_only,
        sweep=[".", "a", "a/b"],
    ),
    "store.add_bytes": Story(
        operation=lambda root: ContentStore(root / "store").add_bytes(IMAGE),
        between=store_is_honest,
        sweep=PARTIAL_STORE,
    ),
    "store.receive": Story(operation=receive, between=store_is_honest, sweep=PARTIAL_STORE),
    "store.receive, resumed": Story(
        prepare=make_partial,
        operation=receive,
        between=store_is_honest,
        sweep=PARTIAL_STORE,
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_crash_leaves_the_old_or_the_new(name: str, tmp_path: Path) -> None:
    story = STORIES[name]
    (tmp_path / "old").mkdir()
    story.prepare(tmp_path / "old")
    old = tree(tmp_path / "old")
    story.operation(tmp_path / "old")
    new = tree(tmp_path / "old")
    assert old != new
    count = 0
    (tmp_path / "scratch").mkdir()
    for point in crash_points(tmp_path / "scratch", story.prepare, story.operation):
        count += 1
        found = tree(point.root)
        assert found == new or (not point.finished and (found == old or story.between(found))), point.label
        for folder in story.sweep:
            durable.sweep(point.root / folder)
        if name.startswith("store"):
            ContentStore(point.root / "store").sweep()
        assert not unfinished(point.root), point.label
        assert tree(point.root) == found, point.label
        _do_again(story, point.root)
        assert tree(point.root) == new, point.label
    assert count > 4


def _do_again(story: Story, root: Path) -> None:
    """A transfer whose unfinished file was damaged is refused once, and then starts anew."""
    try:
        story.operation(root)
    except DigestMismatch:
        story.operation(root)


@pytest.mark.parametrize("old", [b"", OLD])
def test_a_crash_while_appending_leaves_a_beginning(old: bytes, tmp_path: Path) -> None:
    check, count = appended(old, NEW), 0
    prepare: Operation = lambda root: (root / "file").write_bytes(old) if old else None  # noqa: E731
    for point in crash_points(tmp_path, prepare, lambda root: durable.append(root / "file", NEW)):
        count += 1
        assert check(tree(point.root)), point.label
        assert not point.finished or (point.root / "file").read_bytes() == old + NEW, point.label
        if (point.root / "file").exists():
            durable.truncate(point.root / "file", len(old))
        durable.append(point.root / "file", NEW)
        assert (point.root / "file").read_bytes() == old + NEW, point.label
    assert count > 4


def _careless(*, sync_file: bool = True, sync_folder: bool = True, aside: bool = True) -> Operation:
    """A ``write_file`` that forgets something."""

    def operation(root: Path) -> None:
        path = root / "new" if aside else root / "file"
        descriptor = effects.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        effects.write(descriptor, memoryview(NEW), 0)
        if sync_file:
            effects.fsync(descriptor)
        os.close(descriptor)
        if aside:
            effects.rename(path, root / "file")
        if sync_folder:
            descriptor = effects.open_file(root, os.O_RDONLY | os.O_DIRECTORY, 0)
            effects.fsync(descriptor)
            os.close(descriptor)

    return operation


@pytest.mark.parametrize(
    ("careless", "caught"),
    [
        (_careless(), False),
        (_careless(sync_file=False), True),
        (_careless(sync_folder=False), True),
        (_careless(aside=False), True),
    ],
    ids=["nothing forgotten", "file not synchronised", "folder not synchronised", "written in place"],
)
def test_the_model_catches_what_is_forgotten(careless: Operation, caught: bool, tmp_path: Path) -> None:
    wrong = []
    for point in crash_points(tmp_path, make_old, careless):
        data = (point.root / "file").read_bytes()
        if data != NEW and (point.finished or data != OLD):
            wrong.append(point.label)
    assert bool(wrong) is caught
