# SPDX-License-Identifier: Apache-2.0
"""What a host reads of a repository and what a writer changes in it, counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from updater.client.source import Reply
from updater.errors import NotOffered


class CountedSource:
    """A repository's folder as a source that notes each file that was read and its length.

    Attributes:
        fetched: (name, bytes) in the order of reading.
    """

    offline = False

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self.fetched: list[tuple[str, int]] = []

    @contextmanager
    def open(self, name: str, start: int = 0) -> Iterator[Reply]:
        """See ``updater.client.source.Source``."""
        path = self._repository / name
        if not path.is_file():
            raise NotOffered("the file was not read", cause=f"{name} is not there", remedy="look again")
        data = path.read_bytes()[start:]
        self.fetched.append((name, len(data)))
        yield Reply(start=start, untrusted_chunks=iter([data]))

    @property
    def length(self) -> int:
        """Bytes read so far."""
        return sum(length for _, length in self.fetched)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and change time of all files: what differs afterwards was touched."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if path.is_file() and path.name != ".lock":
            found[str(path.relative_to(folder))] = (status.st_ino, status.st_ctime_ns)
    return found


def touched(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """Names of the files that were made, replaced, changed or removed."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
