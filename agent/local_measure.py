# SPDX-License-Identifier: Apache-2.0
"""What is local to this host, measured as it is now; ``measure.local`` says what belongs to it and who vouches for it.

This module extends nothing and judges nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from content import durable
from content.errors import ContentError, Missing
from content.fsverity import digest_bytes, digest_file
from content.measuring import Digester
from documents.evidence import COMMAND_LINE_LIMIT
from documents.host_files import ABSENT
from documents.local_listing import UNREADABLE, ListedFile, shown_name, unusual_rights
from measure.local import (
    COMMAND_LINE,
    HOOKS,
    HOOKS_FOLDER,
    LOCAL_FILES,
    MORE_SETTINGS,
    PROGRAM_FOLDERS,
    PROGRAMS,
    is_libvirt_program,
    listing_digest,
    programs_digest,
)

KERNEL_COMMAND_LINE = Path("/proc/cmdline")
MAX_ENTRIES = 10_000
"""Of one folder with all that is below it. More is not gone through, and so not approved either."""


class LocalMeasure:
    """Measures what is local to one host.

    Args:
        settings: path of ``vmgate.toml``; ``conf.d`` lies beside it.
        hook: path of vmgate's own hook of libvirt.
        root: where all other paths start.
    """

    def __init__(self, settings: Path, hook: Path, root: Path = Path("/")) -> None:
        self._settings = settings
        self._hook = hook
        self._root = root

    def command_line(self) -> bytes:
        """The kernel command line.

        Raises:
            ContentError: the kernel does not tell it.
        """
        return durable.read_file(KERNEL_COMMAND_LINE, COMMAND_LINE_LIMIT)

    def digests(self, digester: Digester | None = None) -> dict[str, str]:
        """The digest of each thing, by the subject of its event; what is not there is ABSENT.

        Args:
            digester: measures libvirt's programs, which are large; without one, each that has no fs-verity is read.
        """
        files = {subject: self._below(path) for subject, path in LOCAL_FILES.items()}
        files["host/settings"] = self._settings
        return {
            COMMAND_LINE: digest_bytes(self.command_line()),
            **{subject: _digest(path) for subject, path in files.items()},
            PROGRAMS: self._programs(digester or Digester()),
            HOOKS: self._folder(self._below(HOOKS_FOLDER), programs=True),
            MORE_SETTINGS: self._folder(self._settings.parent / "conf.d", programs=False),
        }

    def _below(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def _programs(self, digester: Digester) -> str:
        """Libvirt's programs by content alone: they are the same on each host that has the same packages."""
        found: dict[str, str] = {}
        try:
            for folder in PROGRAM_FOLDERS:
                for path in _likely(self._below(folder)):
                    name = "/" + str(path.relative_to(self._root))
                    if is_libvirt_program(name):
                        found[name] = _program(path, digester)
        except OSError:
            return UNREADABLE
        return programs_digest(found)

    def _folder(self, folder: Path, *, programs: bool) -> str:
        """All that is in a folder, with what is unusual about its rights."""
        try:
            return listing_digest(self._listed(folder, path, programs=programs) for path in _walk(folder))
        except OSError:
            return UNREADABLE

    def _listed(self, folder: Path, path: Path, *, programs: bool) -> ListedFile:
        status = path.lstat()
        program = programs and not stat.S_ISDIR(status.st_mode)
        rights = unusual_rights(status.st_uid, status.st_gid, status.st_mode, program=program)
        if stat.S_ISLNK(status.st_mode):
            # What stands behind a link is measured, and that it is a link is told; a link's own mode means nothing.
            rights = f"link uid {status.st_uid} gid {status.st_gid}"
        return ListedFile(
            path=shown_name(os.fsencode(path.relative_to(folder))),
            # Its content is a component of the platform release, which is judged by itself.
            fsverity=ABSENT if path == self._hook else _digest(path),
            rights=rights,
        )


def _likely(folder: Path) -> Iterator[Path]:
    """Regular files of a folder that packages share, and all of them in what is libvirt's own."""
    if folder.name == "libvirt":
        yield from (path for path in _walk(folder) if _is_file(path))
        return
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name == "libvirt" and path.is_dir() and not path.is_symlink():
            yield from (inner for inner in _walk(path) if _is_file(inner))
        elif path.name.startswith(("libvirt", "virt")) and _is_file(path):
            yield path


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _walk(folder: Path) -> Iterator[Path]:
    """What is below a folder that need not be there: all but plain folders with usual rights, whose content tells."""
    waiting, count = [folder], 0
    while waiting:
        place = waiting.pop()
        try:
            inside = list(place.iterdir())
        except FileNotFoundError:
            if place == folder:
                return
            raise
        for path in inside:
            count += 1
            if count > MAX_ENTRIES:
                raise OSError(f"{folder} holds more than {MAX_ENTRIES} things")
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                yield path
                continue
            waiting.append(path)
            if unusual_rights(status.st_uid, status.st_gid, status.st_mode, program=False):
                yield path


def _program(path: Path, digester: Digester) -> str:
    """Of a regular file. Links were left out before; one that came since is as good as unreadable."""
    try:
        return digester.measure(path).fsverity
    except Missing:
        return ABSENT
    except ContentError:
        return UNREADABLE


def _digest(path: Path) -> str:
    try:
        return digest_file(path, allow_link=True).fsverity
    except Missing:
        return ABSENT
    except ContentError:
        return UNREADABLE
