# SPDX-License-Identifier: Apache-2.0
"""Reading a Debian package: its control fields, and its files as they stream by.

``dpkg-deb`` opens it. Maintainer scripts are not run and not looked at, and nothing is unpacked to the disk. This
module does not decide which files matter.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from publisher import programs
from publisher.listing import Reader, unusable

ALIASED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Folders of the root that Debian 12 has as links into ``/usr`` (usrmerge)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one package.

    Attributes:
        unpacked: bytes of its unpacked tar archive.
        members: files, links and folders in it.
    """

    unpacked: int = 2 * 1024**3
    members: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file, link or folder of a package. It can be read until the next one is asked for.

    Attributes:
        info: as the archive tells it.
        installed: where it lies on a host: absolute, and in ``/usr`` where that is what a link leads to.
        content: of a regular file, ``info.size`` bytes.
    """

    info: tarfile.TarInfo
    installed: str
    content: Reader | None


def read_control(path: Path, *names: str) -> Mapping[str, str]:
    """The named control fields, of those that the package has; a long one is on one line.

    Raises:
        ProgramFailed: no Debian package, or ``dpkg-deb`` is missing.
    """
    untrusted = programs.run(["dpkg-deb", "-f", str(path.absolute()), *names], "the package was not read")
    untrusted_lines = untrusted.decode(errors="replace").replace("\n ", " ").splitlines()
    return dict(line.partition(": ")[::2] for line in untrusted_lines)


def members(path: Path, limits: Limits) -> Iterator[Member]:
    """All that the package would put on a host, in its own order.

    Raises:
        PackageUnusable: damaged, or beyond the limits.
        ProgramFailed: ``dpkg-deb`` is missing or failed.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(path.absolute())]
    with programs.output(command, "the package was not unpacked") as stream:
        bounded = _Bounded(stream, limits.unpacked, path)
        try:
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for count, info in enumerate(archive):
                    if count >= limits.members:
                        raise unusable(path, f"it has more than {limits.members} members")
                    if info.size < 0:
                        raise unusable(path, f"{info.name!r} has no size")
                    file = archive.extractfile(info) if info.isreg() else None
                    content = None if file is None else _Content(file, path)
                    yield Member(info=info, installed=installed_path(info.name), content=content)
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise unusable(path, f"its archive is damaged ({error})") from error
        # dpkg-deb must be able to write the end of the archive before it can say that all went well.
        while bounded.read(64 * 1024):
            pass


def installed_path(name: str) -> str:
    """Where a member of a package lies on a host."""
    parts = name.removeprefix(".").strip("/").split("/")
    return "/" + "/".join(["usr", *parts] if parts[0] in ALIASED else parts)


class _Content:
    """A member being read. The archive tells of its damage here, and here alone its reader can hear of it."""

    def __init__(self, file: IO[bytes], source: Path) -> None:
        self._file = file
        self._source = source

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise unusable(self._source, f"its archive is damaged ({error})") from error


class _Bounded(io.BufferedIOBase):
    """A stream that ends with an error once more than ``left`` bytes were read."""

    def __init__(self, stream: IO[bytes], left: int, source: Path) -> None:
        self._stream = stream
        self._left = left
        self._source = source

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self._left -= len(data)
        if self._left < 0:
            raise unusable(self._source, "it is too large when unpacked")
        return data
