# SPDX-License-Identifier: Apache-2.0
"""Lists of files that packages put on a host: where each lies and what its content is.

The publisher makes such a list from packages; a host makes the same list from what is installed, with what it finds.
Equal lists have equal digests. This module does not read any file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import ABSOLUTE_PATH, Fields
from documents.release import MAX_LENGTH

PACKAGE = re.compile(r"[a-z0-9][a-z0-9+._-]{0,79}")
PACKAGE_VERSION = re.compile(r"[A-Za-z0-9.+:~_-]{1,80}")
ABSENT = "0" * 64
"""Stands for the digest of a file that a host does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFile:
    """One file: absolute path, fs-verity digest, length in bytes. On the list of a host, ABSENT and 0: not there."""

    path: str
    fsverity: str
    length: int

    @classmethod
    def read(cls, untrusted: Json) -> HostFile:
        """Read one entry."""
        fields = Fields(untrusted, "host file")
        entry = cls(
            path=fields.take_text("path", ABSOLUTE_PATH, 255),
            fsverity=fields.take_digest("fsverity"),
            length=fields.take_int("length", 0, MAX_LENGTH),
        )
        fields.finish()
        return entry

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"path": self.path, "fsverity": self.fsverity, "length": self.length}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFiles(Document):
    """The files of some packages.

    Attributes:
        root: ``host`` where paths start at the root of the host, ``site`` where they start at the folder that holds
            vmgate's own packages.
        packages: (name, version) of each package, sorted.
        files: sorted by path, no path twice.
    """

    TYPE: ClassVar[str] = "vmgate.host-files"
    LIMIT: ClassVar[int] = 8_000_000

    root: str
    packages: tuple[tuple[str, str], ...]
    files: tuple[HostFile, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        listing = cls(
            root=fields.take_choice("root", ("host", "site")),
            packages=fields.take_list("packages", _read_package, 1_000),
            files=fields.take_list("files", HostFile.read, 20_000),
        )
        paths = [entry.path for entry in listing.files]
        if not paths or paths != sorted(set(paths)):
            raise fields.wrong("files", "is empty or not sorted by path")
        if list(listing.packages) != sorted(set(listing.packages)):
            raise fields.wrong("packages", "is not sorted")
        return listing

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "root": self.root,
            "packages": [{"name": name, "version": version} for name, version in self.packages],
            "files": [entry.members() for entry in self.files],
        }


def _read_package(untrusted: Json) -> tuple[str, str]:
    fields = Fields(untrusted, "package")
    pair = (fields.take_text("name", PACKAGE, 80), fields.take_text("version", PACKAGE_VERSION, 80))
    fields.finish()
    return pair
