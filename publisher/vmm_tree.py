# SPDX-License-Identifier: Apache-2.0
"""From Debian packages to the tree of a VMM image, as one tar stream.

Kept is what runs or is given to a VM (``packages.PREFIXES``), and each package's copyright file. The rest a program
would look for by its absolute path, so on the host and never in an image that is mounted elsewhere. Owners, times and
set-id bits are not kept; links stay inside. This module writes no file and does not know which programs the image is
for.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from documents.host_image import IMAGE_PATH
from publisher.deb import Limits, Member, installed_path, members
from publisher.elf import Linked, read_linked
from publisher.errors import VmmWrong
from publisher.listing import MAX_PATH, unusable
from publisher.packages import PREFIXES

KEPT: Final = (*PREFIXES, "/usr/lib64/")
"""Where the loader lies, besides."""

COPYRIGHT: Final = re.compile(r"/usr/share/doc/([^/]+)/copyright")
SHARED: Final = re.compile(r"/usr/share/doc/[^/]+")
"""The link by which a package shares the folder, and so the copyright file, of another."""

MAX_FILE: Final = 256 * 1024**2
"""Bytes of one file; it is held in memory."""

MAX_HOPS: Final = 40
"""Links that lead from one to the next; as many as Linux follows."""


class TreeWriter:
    """A tree being written into a tar stream: files as they come, links at ``finish``.

    Args:
        stream: gets the tar archive.

    Attributes:
        linked: what each program and library is linked with, by its path.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._folders: set[str] = {"/"}
        self._files: set[str] = set()
        self._links: dict[str, str] = {}
        self._copyrights: dict[str, bytes] = {}
        self.linked: dict[str, Linked] = {}

    def add_package(self, path: Path, limits: Limits) -> None:
        """Add what is kept of a package.

        Raises:
            PackageUnusable: damaged, beyond the limits, or with a file that has no place in an image.
            VmmWrong: another package brought the same file.
            ProgramFailed: ``dpkg-deb`` is missing or failed.
        """
        for member in members(path, limits):
            if not member.info.isdir() and _is_kept(member):
                self._add_member(member, path)

    def add_bytes(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Add a file.

        Raises:
            VmmWrong: there is one of that name.
        """
        self._claim(path)
        self._files.add(path)
        self._put(path, tarfile.REGTYPE, 0o755 if executable else 0o644, data=data)

    def finish(self) -> None:
        """Add the links and end the archive. A link that leads to nothing in the image is left out."""
        for path, target in sorted(self._links.items()):
            if self.has(path):
                self._put(path, tarfile.SYMTYPE, 0o777, link=posixpath.relpath(target, posixpath.dirname(path)))
        self._stream.write(bytes(2 * tarfile.BLOCKSIZE))

    def has(self, path: str) -> bool:
        """Whether the path leads to a file or folder of the tree as it is so far, over links or not."""
        for _ in range(MAX_HOPS):
            if path in self._files or path in self._folders:
                return True
            link = next((place for place in _upwards(path) if place in self._links), None)
            if link is None:
                return False
            path = self._links[link] + path.removeprefix(link)
        return False

    def paths(self) -> Iterator[str]:
        """All files, and all links that lead somewhere."""
        yield from self._files
        yield from filter(self.has, self._links)

    def copyright(self, package: str) -> bytes:
        """The copyright file of a package, or of the one whose folder it shares; empty if there is none."""
        folder = f"/usr/share/doc/{package}"
        return self._copyrights.get(f"{self._links.get(folder, folder)}/copyright", b"")

    def _add_member(self, member: Member, source: Path) -> None:
        info, path = member.info, member.installed
        if len(path) > MAX_PATH or not IMAGE_PATH.fullmatch(path):
            raise unusable(source, f"the path {path[:MAX_PATH]!a} has no place in an image")
        if info.issym():
            self._claim(path)
            target = posixpath.join(posixpath.dirname(path), info.linkname)
            self._links[path] = installed_path(posixpath.normpath(target))
        elif info.islnk():
            target = installed_path(info.linkname)
            if target not in self._files:
                raise unusable(source, f"{path} is a hard link to nothing that is kept")
            self._claim(path)
            self._files.add(path)
            self._put(path, tarfile.LNKTYPE, 0o644, link=target.lstrip("/"))
        else:
            data = _read(member, source)
            try:
                linked = read_linked(data)
            except ValueError as error:
                raise unusable(source, f"{path} {error}") from error
            self.add_bytes(path, data, executable=bool(info.mode & 0o111))
            if linked is not None:
                self.linked[path] = linked
            if COPYRIGHT.fullmatch(path):
                self._copyrights[path] = data

    def _claim(self, path: str) -> None:
        """Require that nothing else has this name, and make the folders that it lies in."""
        if path in self._files or path in self._links or path in self._folders:
            raise _twice(path)
        for folder in _upwards(posixpath.dirname(path)):
            if folder in self._files or folder in self._links:
                raise _twice(folder)
            if folder not in self._folders:
                self._folders.add(folder)
                self._put(folder, tarfile.DIRTYPE, 0o755)

    def _put(self, path: str, kind: bytes, mode: int, *, link: str = "", data: bytes = b"") -> None:
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
        self._stream.write(info.tobuf(tarfile.PAX_FORMAT))
        self._stream.write(data)
        self._stream.write(bytes(-len(data) % tarfile.BLOCKSIZE))


def _is_kept(member: Member) -> bool:
    path = member.installed
    if path.startswith(KEPT) or COPYRIGHT.fullmatch(path):
        return True
    return member.info.issym() and SHARED.fullmatch(path) is not None


def _read(member: Member, source: Path) -> bytes:
    if member.content is None:
        raise unusable(source, f"{member.installed} is neither file nor link")
    if member.info.size > MAX_FILE:
        raise unusable(source, f"{member.installed} has more than {MAX_FILE} bytes")
    data = member.content.read(member.info.size)
    if len(data) != member.info.size:
        raise unusable(source, f"it ends within {member.installed}")
    return data


def _upwards(path: str) -> Iterator[str]:
    """The path and the folders that it lies in, without the root, the outermost first."""
    parts = path.strip("/").split("/")
    for count in range(1, len(parts) + 1):
        if parts[0]:
            yield "/" + "/".join(parts[:count])


def _twice(path: str) -> VmmWrong:
    return VmmWrong(
        "the VMM image was not made", cause=f"{path} is brought twice", remedy="give one package of the two"
    )
