# SPDX-License-Identifier: Apache-2.0
"""Offline bundles: the files of a repository in one file. A bundle is a transport and carries no trust.

Layout: 16 bytes of magic; the length of the index, 64 bits, big endian; a ``BundleIndex``; the bytes of all entries in
the index's order and without gaps. Nothing follows. Names are looked up in the index and never become paths.

The reader checks only that the file is whole by its own account. Whether the bytes are what a publisher signed is
found out by who uses them, exactly as with a web server.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from content.errors import storage
from documents.bundle import BundleEntry, BundleIndex
from documents.errors import DocumentError
from updater.errors import BundleMalformed, NotOffered
from updater.formats import LIMITS

MAGIC = b"vmgate-bundle\x00\x00\x01"
HEADER = len(MAGIC) + 8
CHUNK = 1024 * 1024
"""Bytes that are read at a time."""


def encode_head(index: BundleIndex) -> bytes:
    """Everything of a bundle that stands before its entries' bytes."""
    encoded = index.encode()
    return MAGIC + len(encoded).to_bytes(8) + encoded


class BundleReader:
    """An open bundle. Use it in a ``with`` block.

    Args:
        path: the file; a link is not followed.

    Attributes:
        index: what is in it.

    Raises:
        BundleMalformed: no bundle, cut off, or with bytes beyond its end.
        ContentError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with storage("the bundle was not opened", path):
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags)
        try:
            self.index, self._start = self._read_head()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._entries = {entry.name: entry for entry in self.index.entries}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def entry(self, name: str) -> BundleEntry:
        """The entry of a name.

        Raises:
            NotOffered: the bundle has no such entry.
        """
        found = self._entries.get(name)
        if found is None:
            raise NotOffered(
                "a file was not read", cause=f"the bundle has no {name[:200]}", remedy="get a complete bundle"
            )
        return found

    def read(self, name: str, limit: int) -> bytes:
        """All bytes of an entry.

        Raises:
            NotOffered: no such entry.
            BundleMalformed: it has more than ``limit`` bytes, or the file was shortened meanwhile.
            ContentError: it cannot be read.
        """
        entry = self.entry(name)
        if entry.length > limit:
            raise self._malformed(f"{name} has {entry.length} bytes and the bound is {limit}")
        return b"".join(self.stream(name))

    def stream(self, name: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of an entry from ``start`` on, in pieces; at most ``length`` of them.

        Raises:
            NotOffered: no such entry.
            BundleMalformed: the file was shortened meanwhile.
            ContentError: it cannot be read.
        """
        entry = self.entry(name)
        stop = entry.length if length is None else min(start + length, entry.length)
        position, end = self._start + entry.offset + start, self._start + entry.offset + stop
        while position < end:
            untrusted_chunk = self._pread(min(CHUNK, end - position), position)
            if not untrusted_chunk:
                raise self._malformed("it was shortened meanwhile")
            position += len(untrusted_chunk)
            yield untrusted_chunk

    def _read_head(self) -> tuple[BundleIndex, int]:
        with storage("the bundle was not opened", self._path):
            status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise self._malformed("it is not a regular file")
        untrusted_header = self._pread(HEADER, 0)
        if len(untrusted_header) < HEADER or not untrusted_header.startswith(MAGIC):
            raise self._malformed("it does not begin as a bundle does")
        length = int.from_bytes(untrusted_header[len(MAGIC) :])
        if length > LIMITS.bundle_index:
            raise self._malformed(f"its index would have {length} bytes and the bound is {LIMITS.bundle_index}")
        untrusted_index = self._pread(length, HEADER)
        if len(untrusted_index) < length:
            raise self._malformed("it is cut off in its index")
        try:
            index = BundleIndex.parse(untrusted_index)
        except DocumentError as error:
            raise self._malformed(error.cause) from error
        expected = HEADER + length + index.size
        if status.st_size != expected:
            raise self._malformed(f"it should have {expected} bytes and has {status.st_size}")
        return index, HEADER + length

    def _pread(self, length: int, position: int) -> bytes:
        """Up to ``length`` bytes; fewer only at the end of the file."""
        data = b""
        with storage("the bundle was not read", self._path):
            while len(data) < length and (part := os.pread(self._descriptor, length - len(data), position + len(data))):
                data += part
        return data

    def _malformed(self, why: str) -> BundleMalformed:
        return BundleMalformed("the bundle was refused", cause=f"{self._path}: {why}", remedy="copy it again")
