# SPDX-License-Identifier: Apache-2.0
"""An artifact that this host has already, as a place to take blocks from. Who takes them verifies what they are."""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from content.assembly import Assembly
from content.errors import storage
from content.fsverity import BLOCK, Measured
from content.store import ContentStore

log = logging.getLogger(__name__)

MOST_INDEXED = 4 * 1024 * 1024
"""Blocks whose weak hashes are kept (16 MiB of memory). Beyond 16 GiB of a base no moved block is found."""


class HeldArtifact:
    """An artifact of the store; use it in a ``with`` block.

    Args:
        store: where it lies.
        measured: which one.

    Attributes:
        measured: which one.

    Raises:
        ContentError: it is not there or cannot be read.
    """

    def __init__(self, store: ContentStore, measured: Measured) -> None:
        self.measured = measured
        self._path = store.path(measured.fsverity)
        with storage("an artifact was not read", self._path):
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._weak = array("I")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def descriptor(self) -> int:
        """Of the open file."""
        return self._descriptor

    def read(self, block: int, count: int) -> bytes:
        """Blocks from a number on; fewer bytes at its end, and none where the disk fails: then they are fetched."""
        try:
            return os.pread(self._descriptor, count * BLOCK, block * BLOCK)
        except OSError as error:
            log.warning("%s is damaged and should be fetched again: %s", self._path, error.strerror)
            return b""

    def index(self, assembly: Assembly, taken: Callable[[int], object]) -> None:
        """Read and hash all of it once; what stands in the same place of a new artifact is taken on the way.

        Args:
            assembly: of the new artifact.
            taken: told of bytes that are there now.

        Raises:
            ContentError: it could not be written.
        """
        blocks = min(-(-self.measured.length // BLOCK), MOST_INDEXED)
        self._weak = array("I", assembly.scan(self._descriptor, self.measured.length, blocks, taken))

    def find(self, weak: bytes) -> Iterator[int]:
        """For each weak hash (``WEAK`` bytes each) the number of a block that may be it, or -1. Call ``index`` first.

        Blocks move together, so the one after the last that was found comes first: it settles most chance matches.
        """
        wanted = array("I", weak)
        found = dict.fromkeys(wanted, -1)
        for number, value in enumerate(self._weak):
            if value in found:
                found[value] = number
        place = -1
        for value in wanted:
            following = place + 1
            continues = 0 < following < len(self._weak) and self._weak[following] == value
            place = following if continues else found[value]
            yield place
