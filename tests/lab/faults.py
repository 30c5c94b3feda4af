# SPDX-License-Identifier: Apache-2.0
"""What happens when the system refuses an effect on the disk, instead of a crash.

``fault_points`` runs an operation once for each effect and each way in which it may be refused: that effect alone, or
that one and all later ones (a disk that is full, a disk that is dead). A write may also be short before it is refused.
The operation must end with an error of ours, in one line; the caller judges the state it leaves.

Of a file whose ``fsync`` failed, nobody can know what is on the disk: the kernel forgets that the pages were dirty,
and a second ``fsync`` succeeds without writing them. So such a file must never be used again; ``FaultPoint.distrusted``
names those that still are there. Reading that fails is not modelled.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from content.errors import StorageFull
from documents.errors import VmgateError
from lab.crash import Operation, Recording, changes, intercepted, record, run

GROWING = frozenset({"open_file", "write", "truncate", "fsync", "rename", "symlink", "mkdir", "enable_verity"})
"""What may find no room: also names, ``fsync`` where room is only found when bytes are written, and a file's tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way in which an effect is refused.

    Attributes:
        number: the error number.
        lasting: all later effects that it can hit are refused as well.
        short: a write takes half of its bytes first.
    """

    number: int
    lasting: bool
    short: bool = False

    def hits(self, name: str) -> bool:
        """Whether an effect can fail so."""
        return (self.number == errno.EIO or name in GROWING) and (name == "write" or not self.short)

    def __str__(self) -> str:
        text = errno.errorcode[self.number] + (" after half of it" if self.short else "")
        return text + (" from then on" if self.lasting else "")


FAULTS = (
    Fault(number=errno.ENOSPC, lasting=False),
    Fault(number=errno.ENOSPC, lasting=True),
    Fault(number=errno.ENOSPC, lasting=True, short=True),
    Fault(number=errno.EIO, lasting=False),
    Fault(number=errno.EIO, lasting=True),
    Fault(number=errno.EIO, lasting=False, short=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPoint:
    """A state after a refused effect.

    Attributes:
        label: which effect was refused, and how.
        step: in which step of the operation, or nothing.
        root: the folder as it is now; the caller may change it, and it is gone after this turn.
        fault: how it was refused.
        finished: the operation did without that effect, and returned.
        distrusted: files that are still there although their ``fsync`` failed.
    """

    label: str
    step: str
    root: Path
    fault: Fault
    finished: bool
    distrusted: tuple[str, ...]


def fault_points(scratch: Path, prepare: Operation, operation: Operation) -> Iterator[FaultPoint]:
    """Every state that one refused effect can leave; arguments as for ``lab.crash.crash_points``."""
    start, recorded = record(scratch, prepare, operation)
    root = scratch / "root"
    for index, fault in refusals(recorded):
        label = f"{index} {recorded.names[index]}: {fault}"
        shutil.copytree(start, root, symlinks=True)
        refuser = Refuser(index, fault)
        error: VmgateError | None = None
        try:
            with intercepted(refuser.handle):
                run(operation, root)
        except VmgateError as raised:
            error = raised
        if error is not None:
            _require_told(error, fault, label)
        yield FaultPoint(
            label=label,
            step=recorded.step_of(effect=index),
            root=root,
            fault=fault,
            finished=error is None,
            distrusted=refuser.distrusted(root),
        )
        shutil.rmtree(root)


def refusals(recorded: Recording) -> Iterator[tuple[int, Fault]]:
    """Every effect that was recorded, by its number, and each way in which it may be refused."""
    for index, name in enumerate(recorded.names):
        yield from ((index, fault) for fault in FAULTS if fault.hits(name))


def _require_told(error: VmgateError, fault: Fault, label: str) -> None:
    assert "\n" not in error.line(), label
    if fault.number == errno.ENOSPC:
        assert isinstance(error, StorageFull), f"{label}: {error!r}"
        assert error.needed > 0, label
        assert f"make room for {error.needed} bytes" in error.line(), label


class Refuser:
    """Refuses the effect ``index``, and perhaps what comes after it."""

    def __init__(self, index: int, fault: Fault) -> None:
        self._index = index
        self._fault = fault
        self._count = 0
        self._turn = threading.Lock()
        self._unsure: list[int] = []  # Kept open, so that no new file gets their inode number.

    def handle(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """See ``lab.crash.intercepted``."""
        with self._turn:
            number = self._count
            if changes(name, arguments):
                self._count += 1
            if not changes(name, arguments) or number < self._index or not self._fault.hits(name):
                return real(*arguments)
            if number > self._index and not self._fault.lasting:
                # The rest of a write that was short finds the reason.
                if not (self._fault.short and number == self._index + 1):
                    return real(*arguments)
            elif self._fault.short and number == self._index:
                descriptor, data, offset = arguments
                return real(descriptor, data[: len(data) // 2], offset)
            if name == "fsync" and stat.S_ISREG(os.fstat(arguments[0]).st_mode):
                self._unsure.append(os.dup(arguments[0]))
            raise OSError(self._fault.number, os.strerror(self._fault.number))

    def distrusted(self, root: Path) -> tuple[str, ...]:
        """Files below a folder that are those whose ``fsync`` failed."""
        inodes = {os.fstat(descriptor).st_ino for descriptor in self._unsure}
        for descriptor in self._unsure:
            os.close(descriptor)
        files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
        return tuple(str(path.relative_to(root)) for path in files if path.stat().st_ino in inodes)
