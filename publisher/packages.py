# SPDX-License-Identifier: Apache-2.0
"""From Debian packages to the list of files that they put on a host.

``dpkg-deb`` opens the packages; their contents are measured as they stream by. Maintainer scripts are not run and not
looked at: what they change on a host is not on the list. Symbolic links, empty folders and modes are not listed
either. This module does not look at any installed file.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from content.fsverity import Measured
from documents.host_files import HostFiles
from publisher import programs
from publisher.listing import Listing, measure_stream, unusable

PREFIXES = (
    "/usr/bin/",
    "/usr/lib/",
    "/usr/libexec/",
    "/usr/sbin/",
    "/usr/share/OVMF/",
    "/usr/share/ovmf/",
    "/usr/share/qemu/",
    "/usr/share/seabios/",
    "/usr/share/swtpm/",
)
"""What runs or is given to a VM. The rest of a package is documentation, or configuration that is judged elsewhere."""

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


def list_packages(paths: Sequence[Path], limits: Limits | None = None) -> HostFiles:
    """List the regular files that packages bring below ``PREFIXES``. The order of ``paths`` does not matter.

    Raises:
        PackageUnusable: damaged, beyond the limits, brought twice, or nothing to list.
        ProgramFailed: ``dpkg-deb`` is missing or failed.
    """
    listing = Listing("host")
    for path in paths:
        name, version = _control(path)
        listing.add_package(name, version, path)
        for installed, measured in _files(path, limits or Limits()):
            if installed.startswith(PREFIXES):
                listing.add_file(installed, measured, path)
    return listing.document(paths[0].parent if paths else Path("no package"))


def _control(path: Path) -> tuple[str, str]:
    what = "the package was not read"
    untrusted = programs.run(["dpkg-deb", "-f", str(path.absolute()), "Package", "Version"], what)
    untrusted_fields = dict(line.partition(": ")[::2] for line in untrusted.decode(errors="replace").splitlines())
    try:
        return untrusted_fields["Package"], untrusted_fields["Version"]
    except KeyError as error:
        raise unusable(path, f"it does not tell its {error.args[0].lower()}") from error


def _files(path: Path, limits: Limits) -> Iterator[tuple[str, Measured]]:
    """Installed path and content of each regular file and hard link."""
    command = ["dpkg-deb", "--fsys-tarfile", str(path.absolute())]
    seen: dict[str, Measured] = {}
    with programs.output(command, "the package was not unpacked") as stream:
        bounded = _Bounded(stream, limits.unpacked, path)
        try:
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for count, member in enumerate(archive):
                    if count >= limits.members:
                        raise unusable(path, f"it has more than {limits.members} members")
                    measured = _measure(archive, member, seen, path)
                    if measured is not None:
                        seen[member.name] = measured
                        yield _installed(member.name), measured
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise unusable(path, f"its archive is damaged ({error})") from error
        # dpkg-deb must be able to write the end of the archive before it can say that all went well.
        while bounded.read(64 * 1024):
            pass


def _measure(
    archive: tarfile.TarFile, member: tarfile.TarInfo, seen: dict[str, Measured], path: Path
) -> Measured | None:
    if member.size < 0:
        raise unusable(path, f"{member.name!r} has no size")
    if member.islnk():
        if member.linkname not in seen:
            raise unusable(path, f"{member.name!r} is a hard link to nothing")
        return seen[member.linkname]
    content = archive.extractfile(member) if member.isreg() else None
    return None if content is None else measure_stream(content, member.size, path)


def _installed(name: str) -> str:
    """Where a member of a package lies on a host: absolute, and in ``/usr`` where that is what a link leads to."""
    parts = name.removeprefix(".").strip("/").split("/")
    return "/" + "/".join(["usr", *parts] if parts[0] in ALIASED else parts)


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
