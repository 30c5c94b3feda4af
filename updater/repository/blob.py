# SPDX-License-Identifier: Apache-2.0
"""A file of a repository that is read in pieces. Changes nothing and verifies nothing."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from content.errors import storage
from content.fsverity import BLOCK, hash_blocks
from updater.pack import BLOCKS_IN_SPAN


class Blob:
    """An open file; use it in a ``with`` block. Threads may read it at the same time.

    Args:
        path: the file; a link is not followed.

    Raises:
        ContentError: it is missing or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with storage("a file of the repository was not read", path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def length(self) -> int:
        """Its bytes."""
        with storage("a file of the repository was not read", self._path):
            return os.fstat(self._descriptor).st_size

    def part(self, start: int, length: int) -> bytes:
        """Bytes from somewhere on; fewer at the end."""
        with storage("a file of the repository was not read", self._path):
            return os.pread(self._descriptor, length, start)

    def read(self, block: int, count: int) -> bytes:
        """Blocks from a number on; fewer bytes at the end."""
        return self.part(block * BLOCK, count * BLOCK)

    def span(self, number: int) -> bytes:
        """The bytes of one span."""
        return self.read(number * BLOCKS_IN_SPAN, BLOCKS_IN_SPAN)

    def leaves(self) -> bytes:
        """The hashes of all blocks, one after another."""
        spans = -(-self.length // (BLOCKS_IN_SPAN * BLOCK))
        with ThreadPoolExecutor() as pool:
            return b"".join(pool.map(lambda number: hash_blocks(self.span(number)), range(spans)))
