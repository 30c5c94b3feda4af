# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a Unix socket, by the kernel's word, and what account that is on this host.

The user id is the one that connected (SO_PEERCRED, unix(7)). Groups are those that the host's accounts have now, not
those that the process was started with: who was put out of a group has lost its role at once, and no set-group-id
program lends one. This module decides nothing.
"""

from __future__ import annotations

import grp
import os
import pwd
import select
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SO_PEERPIDFD = 77
"""Linux 6.5; the same on x86 and ARM (include/uapi/asm-generic/socket.h)."""


UNMAPPED = 65534
"""What the kernel says for a user of another user namespace whom this one does not know (user_namespaces(7)): nobody
in particular, although hosts have an account of that number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A process that connected.

    Attributes:
        pid: its process id then.
        uid: its effective user id then.
        started: when it started, in the kernel's clock ticks since the boot; 0 where that is not known for sure.
    """

    pid: int
    uid: int
    started: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of this host.

    Attributes:
        name: empty where the host knows none of that id.
        groups: names.
    """

    name: str = ""
    groups: frozenset[str] = frozenset()


def peer_of(connection: socket.socket) -> Peer:
    """Who connected."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return Peer(pid=pid, uid=uid, started=_started(connection, pid, uid) if uid else 0)


def account_of(uid: int) -> Account:
    """The account of a user id, and its groups as the host has them now."""
    if uid == UNMAPPED:
        return Account()
    try:
        entry = pwd.getpwuid(uid)
        numbers = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except (KeyError, OSError):
        return Account()
    names = set()
    for number in numbers:
        with suppress(KeyError):
            names.add(grp.getgrgid(number).gr_name)
    return Account(name=entry.pw_name, groups=frozenset(names))


def is_known(kind: str, name: str) -> bool:
    """Whether this host has a user or a group of that name."""
    try:
        if kind == "user":
            pwd.getpwnam(name)
        else:
            grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _started(connection: socket.socket, pid: int, uid: int) -> int:
    """Field 22 of /proc/PID/stat (proc(5)), of the process that connected and of none that has its number since."""
    try:
        descriptor = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError:  # an older kernel: whoever of that user has the number by now
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return 0
    try:
        place = Path(f"/proc/{pid}")
        if place.stat().st_uid != uid:  # it runs as somebody else by now, or is a set-user-id program
            return 0
        with (place / "stat").open("rb") as stream:
            fields = stream.read(4_096).rpartition(b")")[2].split()
        ended, _, _ = select.select([descriptor], [], [], 0)
        return 0 if ended else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0
    finally:
        os.close(descriptor)
