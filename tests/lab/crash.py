# SPDX-License-Identifier: Apache-2.0
"""What a disk may hold after a crash in the middle of an operation.

``crash_points`` runs an operation once and records its effects on the disk; all go through ``content.effects``.
Then it makes each state that a crash can leave, in a folder of its own:

- *killed*: the operation runs in a child process that ends before effect k, or in the middle of a write;
- *power lost*: the recorded effects up to k are replayed on a model of a disk. What was not synchronised may be lost:
  everything, the data only (files of no length, of zeros, or half written), the names only, and, so that later effects
  overtake earlier ones, any subset of them (of more than ``SUBSETS`` effects: each alone lost, and each alone kept).
  The model promises no more than POSIX: ``fsync`` of a file keeps its bytes and mode, not its name; ``fsync`` of a
  folder keeps its names. A rename happens as a whole.

An operation may be a generator that yields the name of each step before it; every point then names its step.

The rest of the process (memory, TPM, network) is not modelled.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from content import effects

EFFECTS = (
    "open_file", "write", "truncate", "chmod", "fsync", "rename", "symlink", "mkdir", "unlink", "rmdir",
    "enable_verity",
)  # fmt: skip
KILLED, FINISHED = 77, 78
SUBSETS = 4
"""Of so many effects that may be lost, every subset is."""

Operation = Callable[[Path], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPoint:
    """A state after a crash.

    Attributes:
        label: when the crash came and what it did.
        step: in which step of the operation, or nothing.
        root: the folder as the crash left it; the caller may change it, and it is gone after this turn.
        finished: the operation had returned, so that all it did must be there.
    """

    label: str
    step: str
    root: Path
    finished: bool


def run(operation: Operation, root: Path, mark: Callable[[str], object] = lambda _: None) -> None:
    """Run an operation to its end, and tell ``mark`` each step as it begins."""
    steps = operation(root)
    for step in steps if isinstance(steps, Iterator) else ():
        mark(step)


def crash_points(scratch: Path, prepare: Operation, operation: Operation) -> Iterator[CrashPoint]:
    """Every state that a crash during ``operation`` can leave.

    Args:
        scratch: an empty folder to work in.
        prepare: given an empty folder, makes the state before; all of it counts as durable.
        operation: given that folder, does what is examined. It must not fail.
    """
    start, recorded = record(scratch, prepare, operation)
    root = scratch / "root"
    for cut in cuts(start, recorded, operation):
        finished = cut.make(root)
        yield CrashPoint(label=cut.label, step=cut.step, root=root, finished=finished)
        shutil.rmtree(root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A crash that can be made.

    Attributes:
        label: when it comes and what it does.
        step: in which step of the operation, or nothing.
        make: given a path where nothing is, makes the state there; returns whether the operation had returned.
    """

    label: str
    step: str
    make: Callable[[Path], bool]


def cuts(start: Path, recorded: Recording, operation: Operation) -> Iterator[Cut]:
    """Every crash during an operation that was recorded; ``start`` is the state before."""
    for index, name in enumerate([*recorded.names, "nothing"]):
        for torn in (False, True) if name == "write" else (False,):

            def kill(root: Path, index: int = index, torn: bool = torn) -> bool:
                return _kill(_copy(start, root), operation, index, torn=torn)

            label = f"killed {'in the middle of' if torn else 'before'} {index} {name}"
            yield Cut(label=label, step=recorded.step_of(effect=index), make=kill)
    for loss in recorded.losses():

        def lose(root: Path, loss: Loss = loss) -> bool:
            loss.disk.make(root)
            return loss.finished

        yield Cut(label=f"power lost {loss.label}", step=loss.step, make=lose)


def record(scratch: Path, prepare: Operation, operation: Operation) -> tuple[Path, Recording]:
    """Run an operation once; returns a folder with the state before, and what the operation did to a copy of it."""
    start = scratch / "start"
    start.mkdir()
    prepare(start)
    recorded = Recording(_copy(start, scratch / "recorded"))
    with recorded.running():
        run(operation, recorded.root, recorded.mark)
    return start, recorded


@contextmanager
def intercepted(handler: Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]) -> Iterator[None]:
    """Let ``handler(name, real, arguments)`` stand for every effect during a block."""
    real = {name: getattr(effects, name) for name in (*EFFECTS, "clone")}
    for name in EFFECTS:
        setattr(effects, name, lambda *arguments, n=name, f=real[name]: handler(n, f, arguments))
    effects.clone = _unshared
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(effects, name, function)


def _unshared(*_: int) -> None:
    """The modelled disk shares no bytes between files: what cannot be shared is written."""
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def changes(name: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an effect counts: opening what is there is none."""
    return name != "open_file" or bool(arguments[1] & (os.O_CREAT | os.O_TRUNC))


def _kill(root: Path, operation: Operation, index: int, *, torn: bool) -> bool:
    """Run the operation in a child that ends before effect ``index``; returns whether it came to its end instead."""
    count = itertools.count()
    turn = threading.Lock()

    def handler(name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with turn:
            if changes(name, arguments) and next(count) == index:
                if torn:
                    descriptor, data, offset = arguments
                    real(descriptor, data[: len(data) // 2], offset)
                os._exit(KILLED)
            return real(*arguments)

    child = os.fork()
    if child == 0:
        try:
            with intercepted(handler):
                run(operation, root)
            os._exit(FINISHED)
        except Exception:  # noqa: BLE001 - the child must not go on as a second test run
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (KILLED, FINISHED), f"the child failed before effect {index}"
    return code == FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of the disk; durable once each of ``inodes`` was synchronised after it.

    ``names`` maps (folder, name) to an inode or to nothing. Else it is about the bytes or mode of one inode.
    """

    inodes: frozenset[int]
    names: dict[tuple[int, str], int | None] = field(default_factory=dict)
    offset: int = 0
    data: bytes | None = None
    size: int | None = None
    mode: int | None = None


@dataclass(slots=True, kw_only=True)
class Disk:
    """A tree of inodes; 0 is the root. ``kinds`` holds ``file``, ``folder``, or the target of a link after ``->``."""

    kinds: dict[int, str]
    modes: dict[int, int]
    names: dict[tuple[int, str], int]
    data: dict[int, bytes]

    def copy(self) -> Disk:
        """An independent copy."""
        return Disk(kinds=self.kinds, modes=dict(self.modes), names=dict(self.names), data=dict(self.data))

    def apply(self, change: Change) -> None:
        """Make one change."""
        for place, inode in change.names.items():
            if inode is None:
                self.names.pop(place, None)
            else:
                self.names[place] = inode
        for inode in change.inodes:
            if change.size is not None:
                self.data[inode] = self.data[inode][: change.size].ljust(change.size, b"\0")
            if change.data is not None:
                old = self.data[inode].ljust(change.offset, b"\0")
                self.data[inode] = old[: change.offset] + change.data + old[change.offset + len(change.data) :]
            if change.mode is not None:
                self.modes[inode] = change.mode

    def make(self, path: Path, inode: int = 0) -> None:
        """Make the tree real."""
        kind = self.kinds[inode]
        if kind.startswith("->"):
            path.symlink_to(kind[2:])
            return
        if kind == "file":
            path.write_bytes(self.data[inode])
        else:
            path.mkdir()
            for (folder, name), inner in self.names.items():
                if folder == inode:
                    self.make(path / name, inner)
        path.chmod(self.modes[inode])

    def __repr__(self) -> str:
        """The reachable tree: equal for equal states."""
        return self._show(0)

    def _show(self, inode: int) -> str:
        inner = sorted((name, self._show(i)) for (folder, name), i in self.names.items() if folder == inode)
        # By its digest: a disk's image has many bytes, and this is asked of every subset.
        return repr((self.kinds[inode], self.modes[inode], hashlib.sha256(self.data[inode]).digest(), inner))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A state after a loss of power: what was lost, in which step, whether the operation had returned, the state."""

    label: str
    step: str
    finished: bool
    disk: Disk


class Recording:
    """The effects of one run of an operation, as changes of a modelled disk.

    Attributes:
        names: the effects in order.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.names: list[str] = []
        self._log: list[Change | int] = []  # A number is an inode that was synchronised.
        self._marks: list[tuple[int, int, str]] = []
        self._turn = threading.Lock()
        self._descriptors: dict[int, int | None] = {}
        self._start = Disk(kinds={}, modes={}, names={}, data={})
        self._scan(self.root)
        self._now = self._start.copy()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record what happens in a block."""
        with intercepted(self._handle):
            yield

    def mark(self, step: str) -> None:
        """A step begins."""
        self._marks.append((len(self.names), len(self._log), step))

    def step_of(self, *, effect: int) -> str:
        """The step that an effect is of."""
        return next((step for begin, _, step in reversed(self._marks) if begin <= effect), "")

    def losses(self) -> Iterator[Loss]:
        """Every modelled state after a loss of power, each once."""
        seen: set[tuple[bool, str]] = set()
        for cut in range(len(self._log) + 1):
            step = next((step for _, begin, step in reversed(self._marks) if begin < max(cut, 1)), "")
            pending = [i for i, change in enumerate(self._log[:cut]) if not self._durable(i, change, cut)]
            for label, replaced in _damages({i: c for i in pending if isinstance(c := self._log[i], Change)}):
                disk = self._start.copy()
                for i, change in enumerate(self._log[:cut]):
                    effective = replaced.get(i, change)
                    if isinstance(effective, Change):
                        disk.apply(effective)
                finished = cut == len(self._log)
                if (key := (finished, repr(disk))) not in seen:
                    seen.add(key)
                    yield Loss(label=f"after change {cut}, {label}", step=step, finished=finished, disk=disk)

    def _durable(self, index: int, change: Change | int, cut: int) -> bool:
        synced = {entry for entry in self._log[index + 1 : cut] if isinstance(entry, int)}
        return isinstance(change, int) or change.inodes <= synced

    def _scan(self, path: Path) -> int:
        inode = len(self._start.kinds)
        link = f"->{path.readlink()}" if path.is_symlink() else ""
        folder = path.is_dir() and not link
        self._start.kinds[inode] = link or ("folder" if folder else "file")
        self._start.modes[inode] = path.lstat().st_mode & 0o7777
        self._start.data[inode] = b"" if link or folder else path.read_bytes()
        for inner in sorted(path.iterdir()) if folder else []:
            self._start.names[inode, inner.name] = self._scan(inner)
        return inode

    def _handle(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._turn:
            return self._note(name, real, arguments)

    def _note(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        # Read before the effect: it may remove what the model looks at.
        note = getattr(self, f"_note_{name}")(*arguments)
        if changes(name, arguments):
            self.names.append(name)
        result = real(*arguments)
        if name == "open_file":
            self._descriptors[result] = note
        elif name == "write" and isinstance(note, Change) and note.data is not None:
            self._add(Change(inodes=note.inodes, offset=note.offset, data=note.data[:result]))
        elif isinstance(note, Change):
            self._add(note)
        elif name == "fsync" and note is not None:
            self._log.append(note)
        return result

    def _add(self, change: Change) -> None:
        self._now.apply(change)
        self._log.append(change)

    def _place(self, path: Path) -> tuple[int, str]:
        """The folder and name of a path; both the path and the real disk are as before the effect."""
        inode = 0
        parts = (path.parent.resolve() / path.name).relative_to(self.root).parts
        for part in parts[:-1]:
            inode = self._now.names[inode, part]
        return inode, parts[-1] if parts else ""

    def _new(self, kind: str, mode: int) -> int:
        inode = len(self._now.kinds)
        self._now.kinds[inode] = kind
        for disk in (self._start, self._now):
            disk.modes[inode] = mode
            disk.data[inode] = b""
        return inode

    def _note_open_file(self, path: Path, flags: int, mode: int) -> int | None:
        path = path if flags & os.O_NOFOLLOW else path.resolve()
        if not (path.parent.resolve() / path.name).is_relative_to(self.root):
            assert not flags & (os.O_CREAT | os.O_TRUNC), f"{path} is outside"
            return None
        place = self._place(path)
        inode = self._now.names.get(place) if place[1] else 0
        if inode is None and flags & os.O_CREAT:
            inode = self._new("file", mode)
            self._add(Change(inodes=frozenset({place[0]}), names={place: inode}))
        elif inode is not None and flags & os.O_TRUNC:
            self._add(Change(inodes=frozenset({inode}), size=0))
        return inode

    def _note_write(self, descriptor: int, data: memoryview, offset: int) -> Change | None:
        return self._about(descriptor, offset=offset, data=bytes(data))

    def _note_truncate(self, descriptor: int, size: int) -> Change | None:
        return self._about(descriptor, size=size)

    def _note_chmod(self, descriptor: int, mode: int) -> Change | None:
        return self._about(descriptor, mode=mode)

    def _note_enable_verity(self, descriptor: int) -> None:
        """Bytes, names and modes stay as they are, whether it is done or not."""

    def _note_fsync(self, descriptor: int) -> int | None:
        return self._descriptors[descriptor]

    def _about(self, descriptor: int, **change: Any) -> Change:
        inode = self._descriptors[descriptor]
        assert inode is not None, "an effect outside the folder"
        return Change(inodes=frozenset({inode}), **change)

    def _note_rename(self, source: Path, target: Path) -> Change | None:
        old, new = self._place(source), self._place(target)
        if old not in self._now.names:
            return None  # The real one is about to fail.
        return Change(inodes=frozenset({old[0], new[0]}), names={old: None, new: self._now.names[old]})

    def _note_symlink(self, target: str, path: Path) -> Change:
        place = self._place(path)
        return Change(inodes=frozenset({place[0]}), names={place: self._new(f"->{target}", 0o777)})

    def _note_mkdir(self, path: Path) -> Change:
        place = self._place(path)
        return Change(inodes=frozenset({place[0]}), names={place: self._new("folder", 0o700)})

    def _note_unlink(self, path: Path) -> Change:
        place = self._place(path)
        return Change(inodes=frozenset({place[0]}), names={place: None})

    _note_rmdir = _note_unlink


def _damages(pending: dict[int, Change]) -> Iterator[tuple[str, dict[int, Change | int]]]:
    """Ways to lose pending changes: what each index becomes; a number stands for nothing."""
    data = {i: c for i, c in pending.items() if not c.names}
    writes = {i: c for i, c in data.items() if c.data is not None}
    yield "all was kept", {}
    yield "all was lost", dict.fromkeys(pending, -1)
    yield "the data was lost", dict.fromkeys(data, -1)
    yield "the names were lost", dict.fromkeys(pending.keys() - data.keys(), -1)
    yield "the data became zeros", {i: _with(c, bytes(len(c.data or b""))) for i, c in writes.items()}
    yield (
        "half of the data was lost",
        {i: _with(c, (c.data or b"")[: len(c.data or b"") // 2]) for i, c in writes.items()},
    )
    sizes = range(1, len(pending)) if len(pending) <= SUBSETS else {1, len(pending) - 1}
    for size in sizes:
        for lost in itertools.combinations(pending, size):
            yield (
                f"changes {', '.join(map(str, lost))} of {', '.join(map(str, pending))} were lost",
                dict.fromkeys(lost, -1),
            )


def _with(change: Change, data: bytes) -> Change:
    return Change(inodes=change.inodes, offset=change.offset, data=data)


def _copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True)
    return target
