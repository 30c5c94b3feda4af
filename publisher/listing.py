# SPDX-License-Identifier: Apache-2.0
"""Collecting measured files into a ``HostFiles`` document, from streams: nothing is unpacked to the disk.

This module does not know packages or wheels, and does not decide which files belong on a list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from content.fsverity import UNIT, Measured, digest_leaves, hash_blocks
from documents.errors import DocumentError
from documents.fields import ABSOLUTE_PATH
from documents.host_files import HostFile, HostFiles
from publisher.errors import PackageUnusable

MAX_PATH = 255
"""Characters of a listed path."""


class Reader(Protocol):
    """What is read from: as many bytes as asked for, fewer only at the end."""

    def read(self, size: int, /) -> bytes:
        """Read bytes."""
        ...


class Listing:
    """A list being made.

    Args:
        root: see ``HostFiles.root``.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._packages: dict[str, str] = {}
        self._files: dict[str, Measured] = {}

    def add_package(self, name: str, version: str, source: Path) -> None:
        """Name a package.

        Raises:
            PackageUnusable: it was named before.
        """
        if name in self._packages:
            raise unusable(source, f"package {name} is given twice")
        self._packages[name] = version

    def add_file(self, path: str, measured: Measured, source: Path) -> None:
        """List a file.

        Raises:
            PackageUnusable: its path has no place on a list, or is on it already.
        """
        if len(path) > MAX_PATH or not ABSOLUTE_PATH.fullmatch(path):
            raise unusable(source, f"the path {path[:MAX_PATH]!r} cannot be listed")
        if path in self._files:
            raise unusable(source, f"{path} is brought twice")
        self._files[path] = measured

    def document(self, source: Path) -> HostFiles:
        """The finished list, sorted.

        Raises:
            PackageUnusable: no files, too many, or a package's name or version is not in its form.
        """
        listing = HostFiles(
            root=self._root,
            packages=tuple(sorted(self._packages.items())),
            files=tuple(
                HostFile(path=path, fsverity=measured.fsverity, length=measured.length)
                for path, measured in sorted(self._files.items())
            ),
        )
        try:
            # A host will parse these very bytes: what it would refuse is refused here.
            return HostFiles.parse(listing.encode())
        except DocumentError as error:
            raise unusable(source, error.cause) from error


def measure_stream(stream: Reader, length: int, source: Path) -> Measured:
    """Measure the next ``length`` bytes. Memory: one ``UNIT``, and one hash for each block.

    Raises:
        PackageUnusable: the stream ends before.
    """
    leaves = bytearray()
    for start in range(0, length, UNIT):
        wanted = min(UNIT, length - start)
        part = stream.read(wanted)
        if len(part) != wanted:
            raise unusable(source, "it ends within a file")
        leaves += hash_blocks(part)
    return Measured(fsverity=digest_leaves(bytes(leaves), length), length=length)


def unusable(source: Path, cause: str) -> PackageUnusable:
    """The error for a package or wheel that cannot be listed."""
    return PackageUnusable(
        "the package was not listed", cause=f"{source}: {cause}", remedy="get it again, or leave it out"
    )
