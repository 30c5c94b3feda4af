# SPDX-License-Identifier: Apache-2.0
"""How far a transfer is: the newest numbers, kept for whoever asks. One update runs at a time. Nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from documents.canonical import Json
from updater.client.download import Progress


class Transfer:
    """Bytes done and in all, while something is fetched. One thread tells, any other may ask."""

    def __init__(self) -> None:
        self._numbers: tuple[int, int] | None = None

    @contextmanager
    def running(self) -> Iterator[Progress]:
        """Keep what is told within the block."""
        try:
            yield self._tell
        finally:
            self._numbers = None

    def told(self) -> dict[str, Json]:
        """The newest numbers; zeros while nothing is fetched."""
        numbers = self._numbers
        done, total = numbers or (0, 0)
        return {"running": numbers is not None, "done": done, "total": total}

    def _tell(self, done: int, total: int) -> None:
        self._numbers = (done, total)
