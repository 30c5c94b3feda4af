# SPDX-License-Identifier: Apache-2.0
"""Whether all libraries that an image's programs and libraries are linked with are in the image, and where.

Pure. This module cannot see what a program opens by name while it runs (``dlopen``): plug-ins of the C library for
names of users and hosts are looked for on the host if that is configured there.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from publisher.elf import Linked
from publisher.errors import VmmWrong

MAIN: Final = "/usr/lib/x86_64-linux-gnu"
"""Where Debian keeps its libraries on amd64."""

ORIGIN: Final = ("$ORIGIN", "${ORIGIN}")


def library_path(linked: Mapping[str, Linked], paths: Iterable[str]) -> tuple[str, ...]:
    """The folders that the loader must be told, so that it finds each library in the image; ``MAIN`` comes first.

    Args:
        linked: what each program and library is linked with, by its path.
        paths: all files and links of the image.

    Raises:
        VmmWrong: a library is not in the image, or would be looked for elsewhere first.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        folders[posixpath.basename(path)].add(posixpath.dirname(path))
    more: set[str] = set()
    for path, one in sorted(linked.items()):
        for folder in one.first:
            if not folder.startswith(ORIGIN):
                raise _wrong(f"{path} looks for its libraries in {folder!a} first", "build it without DT_RPATH")
        beside = {posixpath.dirname(path)} if set(one.last) & set(ORIGIN) else set[str]()
        for name in one.needed:
            there = folders.get(name, set())
            if not there:
                raise _wrong(f"{path} is linked with {name!a}, which is not there", "add the package that has it")
            if not there & {MAIN, *beside}:
                more.add(min(there))
    return (MAIN, *sorted(more))


def _wrong(cause: str, remedy: str) -> VmmWrong:
    return VmmWrong("the VMM image was not made", cause=cause, remedy=remedy)
