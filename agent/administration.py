# SPDX-License-Identifier: Apache-2.0
"""Answers ``vmgate role`` and ``vmgate banner``, and ``vmgate audit list`` for those who may not read its files.

What changes is recorded before it is done. Who may ask for it is not decided here (``agent.access`` does).
"""

from __future__ import annotations

from collections import deque

from agent import banner, role_file
from agent.audit import AuditTrail, records
from agent.errors import BadRequest, NotFound
from agent.paths import HostPaths
from agent.peers import is_known
from agent.role_file import RoleFile
from content import durable
from content.fsverity import digest_bytes
from documents.canonical import Json
from documents.errors import VmgateError
from documents.management import USER

MAX_RECORDS = 10_000
MAX_ANSWER = 30_000_000
"""Bytes of records in one answer."""


class Administration:
    """Of one host.

    Args:
        paths, audit: of this host.
    """

    def __init__(self, paths: HostPaths, audit: AuditTrail) -> None:
        self._paths = paths
        self._audit = audit
        self._roles = RoleFile(paths.roles)

    def list(self) -> dict[str, Json]:
        """Who has which role, as it is written; root is not."""
        return {
            "grants": [
                {"role": grant.role, "kind": grant.kind, "name": grant.name, "vms": list(grant.vms)}
                for grant in self._roles.grants()
            ]
        }

    def grant(self, role: str, kind: str, name: str, untrusted_vms: str, actor: str) -> dict[str, Json]:
        """Grant a role to a user or a group.

        Args:
            role, name: see ``agent.roles.Grant``; not checked yet.
            kind: ``user`` or ``group``.
            untrusted_vms: names with a space between them; empty for none.
            actor: for the record.

        Raises:
            RolesWrong: it is not a grant, or is there already; nothing was changed.
            NotFound: there is no such account: whoever makes one of that name would get the role.
        """
        grant = role_file.make(role, kind, name, untrusted_vms.split() or None)
        if not is_known(kind, name):
            raise NotFound(
                f"there is no {kind} {name}", cause="nothing was granted", remedy="make it first, or correct the name"
            )
        subject, details = f"{kind} {name}", {"role": role, "vms": " ".join(grant.vms)}
        self._audit.append("role-grant", "started", subject, actor, **details)
        try:
            self._roles.add(grant)
        except VmgateError as error:
            self._audit.append("role-grant", "failed", subject, actor, code=error.code, cause=error.cause, **details)
            raise
        self._audit.append("role-grant", "done", subject, actor, **details)
        return {"role": role, "kind": kind, "name": name, "vms": list(grant.vms)}

    def revoke(self, role: str, kind: str, name: str, actor: str) -> dict[str, Json]:
        """Take a role back from a user or a group, with all VMs that go with it.

        Raises:
            NotFound: it was not granted.
            RolesWrong: it is not a grant, or the file is not one that counts; nothing was changed.
        """
        role_file.make(role, kind, name, ["*"] if role == USER else None)
        subject = f"{kind} {name}"
        self._audit.append("role-revoke", "started", subject, actor, role=role)
        try:
            self._roles.remove(role, kind, name)
        except VmgateError as error:
            self._audit.append("role-revoke", "failed", subject, actor, code=error.code, cause=error.cause, role=role)
            raise
        self._audit.append("role-revoke", "done", subject, actor, role=role)
        return {"role": role, "kind": kind, "name": name}

    def audit(self, untrusted_last: str) -> dict[str, Json]:
        """The newest records of the audit trail, oldest first, each as its line; not verified.

        Args:
            untrusted_last: how many at most, 1 to ``MAX_RECORDS`` in decimal digits; fewer where they are large.

        Raises:
            BadRequest: it is no such number.
        """
        whole = untrusted_last.isascii() and untrusted_last.isdecimal() and len(untrusted_last) <= len(str(MAX_RECORDS))
        if not whole or not 1 <= int(untrusted_last) <= MAX_RECORDS:
            raise BadRequest("no record was read", cause=f"it is not 1 to {MAX_RECORDS}", remedy="use --last")
        chosen: list[Json] = []
        room = MAX_ANSWER
        for record in reversed(deque(records(self._paths.audit), maxlen=int(untrusted_last))):
            line = record.encode()
            room -= len(line)
            if room < 0:
                break
            chosen.append(line.decode())
        return {"lines": chosen[::-1]}

    def set_banner(self, untrusted_text: str, actor: str) -> dict[str, Json]:
        """Set the banner; an empty text takes it away.

        Raises:
            BannerWrong: it is not a banner; nothing was changed.
        """
        text = banner.require_banner(untrusted_text)
        # Its digest tells which text it was; the record has no room for it.
        details = {"characters": str(len(text)), "fsverity": digest_bytes(text.encode())}
        self._audit.append("banner", "started", "host", actor, **details)
        try:
            durable.make_directory(self._paths.banner.parent, 0o711)
            banner.write(self._paths.banner, text)
        except VmgateError as error:
            self._audit.append("banner", "failed", "host", actor, code=error.code, cause=error.cause, **details)
            raise
        self._audit.append("banner", "done", "host", actor, **details)
        return {"characters": len(text)}
