# SPDX-License-Identifier: Apache-2.0
"""``/etc/vmgate/roles.toml``: who besides root has which role. Read strictly, and anew for each request.

A file that is not there grants nothing. One that is wrong, or that somebody else than root could have written, grants
nothing either, and says so. A grant is added at the end, so what people wrote stays. This module decides nothing.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

from agent.errors import NotFound, RolesWrong
from agent.roles import EVERY, Grant
from content import durable
from content.errors import ContentError, Missing
from documents.fields import NAME
from documents.management import ROLES, USER

MAX_BYTES = 100_000
MAX_GRANTS = 500
MAX_DOTS = 100
"""Of one line: what tomllib needs for a dotted key grows with the square of its parts."""

MAX_VMS = 64
"""Of one grant."""

FEW = 8
"""VMs that are written on one line."""

KINDS = ("user", "group")

ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}")
"""Names of users and groups."""

WHERE = "roles.toml"


class RoleFile:
    """The file of one host.

    Args:
        path: of the file.
        owner: whose it must be.
    """

    def __init__(self, path: Path, owner: int = 0) -> None:
        self._path = path
        self._owner = owner

    def grants(self) -> tuple[Grant, ...]:
        """What is granted.

        Raises:
            RolesWrong: somebody else could have written it, or it is not in its form.
        """
        return parse(self._read())

    def add(self, grant: Grant) -> None:
        """Add a grant, durably.

        Raises:
            RolesWrong: the file is not one that counts, has the grant already, or would be too large; it is unchanged.
            ContentError: it cannot be written; it is unchanged.
        """
        before = self._read()
        if grant in parse(before):
            raise _wrong("it has that grant already")
        text = before.rstrip() + b"\n\n" if before.strip() else b""
        after = text + encode(grant)
        if (*parse(before), grant) != parse(after):
            raise _wrong("the grant cannot be added at its end")
        durable.make_directory(self._path.parent, 0o755)
        durable.write_file(self._path, after, 0o644)

    def remove(self, role: str, kind: str, name: str) -> None:
        """Take a role back from a user or a group, durably. What is left is written anew, without people's comments.

        Raises:
            NotFound: it was not granted; the file is unchanged.
            RolesWrong: the file is not one that counts; it is unchanged.
            ContentError: it cannot be written; it is unchanged.
        """
        before = self.grants()
        left = tuple(grant for grant in before if (grant.role, grant.kind, grant.name) != (role, kind, name))
        if left == before:
            raise NotFound("no role was taken back", cause=f"{kind} {name} has it not", remedy="see `vmgate role list`")
        after = b"\n".join(map(encode, left))
        if parse(after) != left:
            raise _wrong("what is left cannot be written")
        durable.write_file(self._path, after, 0o644)

    def _read(self) -> bytes:
        try:
            self._require_owned(self._path.parent, stat.S_ISDIR)
            self._require_owned(self._path, stat.S_ISREG)
            return durable.read_file(self._path, MAX_BYTES)
        except (FileNotFoundError, Missing):
            return b""
        except OSError as error:
            raise _wrong(error.strerror or str(error)) from error
        except ContentError as error:
            raise _wrong(error.cause) from error

    def _require_owned(self, path: Path, is_kind: Callable[[int], bool]) -> None:
        status = path.lstat()
        if not is_kind(status.st_mode):
            raise _wrong(f"{path} is a link, or not of its kind")
        if status.st_uid not in {0, self._owner} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _wrong(f"somebody else than root can write to {path}")


def parse(untrusted_bytes: bytes) -> tuple[Grant, ...]:
    """Read grants from TOML, in their order.

    Raises:
        RolesWrong: it is not TOML, or has anything but grants in their form.
    """
    if len(untrusted_bytes) > MAX_BYTES:
        raise _wrong(f"it has more than {MAX_BYTES} bytes")
    if any(line.count(b".") > MAX_DOTS for line in untrusted_bytes.split(b"\n")):
        raise _wrong(f"a line has more than {MAX_DOTS} dots")
    try:
        untrusted = tomllib.loads(untrusted_bytes.decode())
    except (ValueError, RecursionError) as error:
        raise _wrong(f"it is not TOML: {str(error)[:200]}") from error
    items = untrusted.pop("grant", [])
    if untrusted:
        raise _wrong(f"the key {min(untrusted)[:60]!r} is unknown")
    if not isinstance(items, list) or len(items) > MAX_GRANTS:
        raise _wrong(f"it has not a list of at most {MAX_GRANTS} grants")
    grants = tuple(_grant(item) for item in items)
    if len(set(grants)) != len(grants):
        raise _wrong("it has a grant twice")
    return grants


def make(role: object, kind: str, name: object, vms: object) -> Grant:
    """A grant from values that nobody checked yet; ``vms`` is None where none are named.

    Raises:
        RolesWrong: they are not in their form.
    """
    if not isinstance(role, str) or role not in ROLES:
        raise _wrong(f"a role is not one of {', '.join(ROLES)}")
    if kind not in KINDS:
        raise _wrong(f"a role is granted to one of {', '.join(KINDS)}")
    if not isinstance(name, str) or not ACCOUNT.fullmatch(name):
        raise _wrong(f"the name of a {kind} is not in its form")
    if (vms is not None) != (role == USER):
        raise _wrong(f"VMs are named for the role {USER}, and for no other")
    return Grant(role=role, kind=kind, name=name, vms=_vms(vms) if vms is not None else ())


def encode(grant: Grant) -> bytes:
    """The text of one grant."""
    lines = ["[[grant]]", f'role = "{grant.role}"', f'{grant.kind} = "{grant.name}"']
    if grant.vms:
        between = ",\n    " if len(grant.vms) > FEW or any("." in vm for vm in grant.vms) else ", "
        lines.append("vms = [" + between.join(f'"{vm}"' for vm in grant.vms) + "]")
    return ("\n".join(lines) + "\n").encode()


def _grant(untrusted: object) -> Grant:
    if not isinstance(untrusted, dict):
        raise _wrong("a grant is not a table")
    kinds = sorted({"user", "group"} & untrusted.keys())
    if len(kinds) != 1 or untrusted.keys() - {"role", "user", "group", "vms"}:
        raise _wrong("a grant has role, one of user and group, and for the role user vms; nothing else")
    return make(untrusted.get("role"), kinds[0], untrusted[kinds[0]], untrusted.get("vms"))


def _vms(untrusted: object) -> tuple[str, ...]:
    if not isinstance(untrusted, list) or not 1 <= len(untrusted) <= MAX_VMS:
        raise _wrong(f"vms is not a list of 1 to {MAX_VMS} names")
    for name in untrusted:
        if not isinstance(name, str) or (name != EVERY and not NAME.fullmatch(name)):
            raise _wrong("vms has an item that is not the name of a VM")
    if len(set(untrusted)) != len(untrusted):
        raise _wrong("vms has a name twice")
    return tuple(untrusted)


def _wrong(cause: str) -> RolesWrong:
    return RolesWrong(f"{WHERE} was not taken", cause=cause, remedy="let root correct it, `vmgate explain AG100` helps")
