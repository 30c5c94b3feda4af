# SPDX-License-Identifier: Apache-2.0
"""On which file system an open file lies: by its descriptor, never by its name.

Source: proc(5), /proc/pid/fdinfo and /proc/pid/mountinfo. What cannot be told is None, and nobody may trust it. This
module does not judge a file system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from content.device_mapper import is_verity

_MOUNTINFO = Path("/proc/self/mountinfo")
_FDINFO = Path("/proc/self/fdinfo")
_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount.

    Attributes:
        filesystem: its type, such as ``ext4``.
        device: of the file system, ``major:minor``.
        root: the folder of the file system that is shown.
        point: where it is mounted.
        options: of this mount, such as ``ro``.
        verity: dm-verity checks each read of the device. Known of a mount that a file was opened through.
    """

    filesystem: str
    device: str
    root: str = "/"
    point: str = ""
    options: frozenset[str] = frozenset()
    verity: bool = False


class Mounts:
    """The mounts of this process, as they were when this was made."""

    def __init__(self) -> None:
        try:
            self._mounts = parse_mountinfo(_MOUNTINFO.read_bytes())
        except OSError:
            self._mounts = {}
        self._verity: dict[str, bool] = {}

    def of(self, descriptor: int) -> Mount | None:
        """The mount through which a file or folder was opened; None where it is not known."""
        try:
            about = (_FDINFO / str(descriptor)).read_bytes()
        except OSError:
            return None
        mount = self._mounts.get(parse_fdinfo(about))
        if mount is None:
            return None
        # Asked once: the answer may be another process's.
        if mount.device not in self._verity:
            self._verity[mount.device] = is_verity(mount.device)
        return replace(mount, verity=self._verity[mount.device])

    def below(self, folder: str) -> tuple[Mount, ...]:
        """All mounts on a folder and below it."""
        within = f"{folder}/"
        return tuple(mount for mount in self._mounts.values() if f"{mount.point}/".startswith(within))


def parse_mountinfo(data: bytes) -> dict[int, Mount]:
    """Mounts by their number; lines of another shape are left out."""
    mounts = {}
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) >= 6 and fields[0].isdecimal() and len(kind) >= 2:
            mounts[int(fields[0])] = Mount(
                filesystem=kind[0],
                device=fields[2],
                root=_plain(fields[3]),
                point=_plain(fields[4]),
                options=frozenset(fields[5].split(",")),
            )
    return mounts


def _plain(text: str) -> str:
    """A path without the escapes that stand for spaces and the like (proc(5))."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


def parse_fdinfo(data: bytes) -> int:
    """The number of the mount of an open file; -1 where none is told."""
    for line in data.decode("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id" and value.strip().isdecimal():
            return int(value)
    return -1
