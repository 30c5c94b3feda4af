# SPDX-License-Identifier: Apache-2.0
"""Lists of files that are a host's own, such as libvirt's hooks: what each is, and what is unusual about its rights.

Two lists of equal files have equal digests, on whichever host they were made; a host image's publisher can make the
same list from the image. A folder that is not there and an empty one have the same, empty, list. This module reads no
file and judges none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import TEXT, Fields

MAX_FILES = 5_000
MAX_NAME = 600
"""Characters of a name as listed. What cannot be shown is escaped, which makes it longer."""

UNREADABLE = "f" * 64
"""Stands for the digest of what is there and could not be measured. Nothing that is expected is equal to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One file.

    Attributes:
        path: as ``shown_name`` makes it; relative to the folder that is listed, or absolute.
        fsverity: digest of its content; UNREADABLE for what is no readable file.
        rights: what is unusual: another owner than root, others who may write, a link; empty for nothing.
    """

    path: str
    fsverity: str
    rights: str = ""

    @classmethod
    def read(cls, untrusted: Json) -> ListedFile:
        """Read one entry."""
        fields = Fields(untrusted, "listed file")
        entry = cls(
            path=fields.take_text("path", TEXT, MAX_NAME),
            fsverity=fields.take_digest("fsverity"),
            rights=fields.take_text("rights", TEXT, 120, empty=True),
        )
        fields.finish()
        return entry

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"path": self.path, "fsverity": self.fsverity, "rights": self.rights}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalListing(Document):
    """Some files of a host.

    Attributes:
        files: sorted by path, no path twice; may be empty.
    """

    TYPE: ClassVar[str] = "vmgate.local-listing"
    LIMIT: ClassVar[int] = 8_000_000

    files: tuple[ListedFile, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        listing = cls(files=fields.take_list("files", ListedFile.read, MAX_FILES))
        paths = [entry.path for entry in listing.files]
        if paths != sorted(set(paths)):
            raise fields.wrong("files", "is not sorted by path")
        return listing

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"files": [entry.members() for entry in self.files]}


def shown_name(name: bytes) -> str:
    """A file's name in printable ASCII; different names stay different."""
    return "".join(chr(c) if 0x20 < c < 0x7F and c != 0x5C else f"\\x{c:02x}" for c in name)


def unusual_rights(owner: int, group: int, mode: int, *, program: bool) -> str:
    """What is unusual about a file's rights; empty where only root may change it, and it may run if it is to.

    Args:
        owner: user id.
        group: group id.
        mode: permission bits, with set-user-id and the like.
        program: whether it is there to be run.
    """
    usual = owner == 0 and group == 0 and not mode & 0o7022 and (bool(mode & 0o100) or not program)
    return "" if usual else f"uid {owner} gid {group} mode {mode & 0o7777:04o}"
