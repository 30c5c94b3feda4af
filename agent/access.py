# SPDX-License-Identifier: Apache-2.0
"""The one check of every request: who asks, what they have, whether they just proved it; each refusal is recorded.

What a role may do is ``agent.roles``' affair. What is permitted and changes something is recorded before it is done, if
somebody else than root asked; what root changes is recorded by what changes it. This module handles no request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from agent.audit import AuditTrail
from agent.errors import NotFresh, NotPermitted, RolesWrong
from agent.peers import Account, Peer, account_of
from agent.role_file import RoleFile
from agent.roles import FUNCTIONS, Caller, Grant, Permit, require, seen, verb_of
from documents.local_api import Request
from documents.management import Function, function_of

EVENT = "management"
"""Of the audit trail: an attempt to invoke a management function (FMT_MOF_EXT.1)."""

REFUSALS = 100
"""Of one user in ``WINDOW`` seconds that are recorded one by one; more are counted, so that nobody fills the disk."""
WINDOW = 60
NOBODY = -1
"""All user ids without an account count as one."""


class Prover(Protocol):
    """What lets a caller prove anew who it is (``agent.fresh``)."""

    def prove(self, peer: Peer, action: str) -> None:
        """Return if it did; raises ``NotFresh``."""


class Access:
    """Decides about requests.

    Args:
        roles: what is granted.
        audit: of this host.
        clock: gives seconds since 1970 UTC.
        prover: see there.
        owner: the user as whom the agent runs.
        functions: the table.
    """

    def __init__(
        self,
        roles: RoleFile,
        audit: AuditTrail,
        clock: Callable[[], int],
        prover: Prover,
        owner: int,
        functions: Sequence[Function] = FUNCTIONS,
    ) -> None:
        self._roles = roles
        self._audit = audit
        self._clock = clock
        self._prover = prover
        self._owner = owner
        self._functions = functions
        self._lock = threading.Lock()
        self._refusals: dict[int, tuple[int, int]] = {}

    def others(self) -> bool:
        """Whether anybody but root has a role, or might: a file that is wrong is told to whoever asks."""
        try:
            return bool(self._roles.grants())
        except RolesWrong:
            return True

    def permit(self, peer: Peer, request: Request) -> Permit:
        """Let a request through.

        Raises:
            NotPermitted: the caller may not; recorded.
            NotFresh: the caller may, and did not prove who it is; recorded.
            ContentError: it cannot be recorded, and so is not permitted.
        """
        verb = verb_of(request)
        vm = dict(request.arguments).get("name") if request.verb.startswith("vm/") else None
        function = function_of(self._functions, verb)
        actor = f"{request.actor} (uid {peer.uid})"
        details = {"function": function.number if function else "none"} | ({} if vm is None else {"vm": vm})
        fresh = peer.uid == 0
        try:
            caller = self._caller(peer.uid)
            function = require(self._functions, caller, verb, vm)
            if function.fresh and not fresh:
                self._prover.prove(peer, function.fresh)
                fresh = True
                details["proof"] = "fresh authentication"
        except (NotPermitted, NotFresh) as error:
            self._record_refusal(peer.uid, verb, actor, {**details, "code": error.code, "cause": error.cause})
            raise
        if function.changes and not (caller.trusted or peer.uid == 0):
            self._audit.append(EVENT, "started", verb, actor, **details, roles=" ".join(sorted(caller.roles)))
        return Permit(uid=peer.uid, fresh=fresh, vms=seen(self._functions, caller, verb))

    def _caller(self, uid: int) -> Caller:
        if uid in {0, self._owner}:
            return Caller(uid=uid, trusted=True)
        try:
            grants = self._roles.grants()
        except RolesWrong as error:
            raise NotPermitted("the request was refused", cause=error.line(), remedy="use sudo") from error
        account = account_of(uid)
        return Caller(uid=uid, name=account.name, grants=tuple(g for g in grants if _is_for(g, account)))

    def _record_refusal(self, uid: int, verb: str, actor: str, details: dict[str, str]) -> None:
        now = self._clock()
        # Whoever may make user ids of their own (user namespaces) makes none that has an account.
        key = uid if account_of(uid).name else NOBODY
        with self._lock:
            since, count = self._refusals.get(key, (now, 0))
            more = 0
            if not 0 <= now - since < WINDOW:
                since, count, more = now, 0, max(0, count - REFUSALS)
            self._refusals[key] = (since, count + 1)
        if count < REFUSALS:
            unrecorded = {"unrecorded": str(more)} if more else {}
            self._audit.append(EVENT, "refused", verb, actor, **details, **unrecorded)


def _is_for(grant: Grant, account: Account) -> bool:
    return grant.name == account.name if grant.kind == "user" else grant.name in account.groups
