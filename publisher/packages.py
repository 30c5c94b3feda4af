# SPDX-License-Identifier: Apache-2.0
"""From Debian packages to the list of files that they put on a host.

The contents are measured as they stream by. What maintainer scripts change on a host is not on the list. Symbolic
links, empty folders and modes are not listed either. This module does not look at any installed file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from content.fsverity import Measured
from documents.host_files import HostFiles
from publisher.deb import Limits, Member, members, read_control
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


def list_packages(paths: Sequence[Path], limits: Limits | None = None) -> HostFiles:
    """List the regular files that packages bring below ``PREFIXES``. The order of ``paths`` does not matter.

    Raises:
        PackageUnusable: damaged, beyond the limits, brought twice, or nothing to list.
        ProgramFailed: ``dpkg-deb`` is missing or failed.
    """
    listing = Listing("host")
    for path in paths:
        untrusted_fields = read_control(path, "Package", "Version")
        for name in ("Package", "Version"):
            if name not in untrusted_fields:
                raise unusable(path, f"it does not tell its {name.lower()}")
        listing.add_package(untrusted_fields["Package"], untrusted_fields["Version"], path)
        for installed, measured in _files(path, limits or Limits()):
            if installed.startswith(PREFIXES):
                listing.add_file(installed, measured, path)
    return listing.document(paths[0].parent if paths else Path("no package"))


def _files(path: Path, limits: Limits) -> Iterator[tuple[str, Measured]]:
    """Installed path and content of each regular file and hard link."""
    seen: dict[str, Measured] = {}
    for member in members(path, limits):
        measured = _measure(member, seen, path)
        if measured is not None:
            seen[member.info.name] = measured
            yield member.installed, measured


def _measure(member: Member, seen: dict[str, Measured], path: Path) -> Measured | None:
    if member.info.islnk():
        if member.info.linkname not in seen:
            raise unusable(path, f"{member.info.name!r} is a hard link to nothing")
        return seen[member.info.linkname]
    return None if member.content is None else measure_stream(member.content, member.info.size, path)
