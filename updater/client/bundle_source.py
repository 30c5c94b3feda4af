# SPDX-License-Identifier: Apache-2.0
"""A bundle as a source. It gets no more trust than a web server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from updater.bundle import BundleReader
from updater.client.source import Reply


class BundleSource:
    """See ``updater.client.source.Source``.

    Args:
        reader: stays open as long as the source is used.
    """

    def __init__(self, reader: BundleReader) -> None:
        self._reader = reader

    @property
    def offline(self) -> bool:
        """True."""
        return True

    def has(self, name: str) -> bool:
        """Whether the bundle has a file of that name."""
        return any(entry.name == name for entry in self._reader.index.entries)

    @contextmanager
    def open(self, name: str, start: int = 0, length: int | None = None) -> Iterator[Reply]:
        """See ``Source.open``.

        Raises:
            NotOffered: the bundle does not have it.
            BundleMalformed: the file was shortened meanwhile.
            ContentError: it cannot be read.
        """
        self._reader.entry(name)
        yield Reply(start=start, untrusted_chunks=self._reader.stream(name, start, length))
