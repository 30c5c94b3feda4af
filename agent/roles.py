# SPDX-License-Identifier: Apache-2.0
"""Who may do what on a host: one table of management functions and roles. Checks, manual and tests are made from it.

The rows are those of FMT_MOF_EXT.1 (PP-Module Client Virtualization Systems 1.1) that vmgate has, by the number they
have there, and vmgate's own, from V1 on. Each verb of the agent's socket belongs to one row; one that has none is
refused to everybody. Root is always administrator. The words of the table, and the rows of a fleet's service, are in
``documents.management``. Pure: who a caller is and what was granted is found out elsewhere
(``agent.peers``, ``agent.role_file``), and a fresh authentication too (``agent.fresh``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from agent.errors import NotPermitted
from documents.local_api import Request
from documents.management import ADMINISTRATOR, ALL, AUDITOR, OPERATOR, OWN, USER, Function, function_of
from documents.management import only as _only

EVERY = "*"
"""In place of the name of a VM: all of them."""

LISTS_VMS = frozenset({"vm/list"})
"""Verbs that name no VM, and whose answer the caller's VMs are picked from."""

STALE = "update/import+stale"
"""How ``update/import`` is called here when it is to go beyond a bundle's days."""


_RUNNING = MappingProxyType({ADMINISTRATOR: ALL, OPERATOR: ALL, USER: OWN})
_SEEING = _only(ADMINISTRATOR, OPERATOR, AUDITOR)

FUNCTIONS: tuple[Function, ...] = (
    Function(
        number="1", does="update the system", sfr="FPT_TUD_EXT.1", roles=_only(ADMINISTRATOR), changes=True,
        verbs=(
            "update/check", "update/apply", "update/import", "update/rollback", "update/unattended", "update/pause",
            "update/resume",
        ),
    ),
    Function(
        number="3", does="create, configure and forget VMs of this host, and import their images",
        sfr="FMT_MOF_EXT.1", roles=_only(ADMINISTRATOR), changes=True, fresh="local",
        verbs=("vm/create", "vm/edit", "vm/forget", "image/import"),
    ),
    Function(
        number="5", does="make or delete a network of VMs", sfr="FDP_VNC_EXT.1, FDP_VMS_EXT.1",
        roles=_only(ADMINISTRATOR), changes=True, fresh="networks", verbs=("net/create", "net/delete"),
    ),
    Function(
        number="7", does="name a device or medium that VMs may get, or forget it", sfr="FDP_PPR_EXT.1",
        roles=_only(ADMINISTRATOR), changes=True, fresh="devices", verbs=("device/add", "device/remove"),
    ),
    Function(
        number="20", does="set the banner", sfr="FTA_TAB.1", roles=_only(ADMINISTRATOR), changes=True,
        verbs=("banner/set",),
    ),
    Function(
        number="21", does="give a device or medium to a VM, or take it back", sfr="FPT_RDM_EXT.1",
        roles=_only(ADMINISTRATOR), changes=True, fresh="devices", verbs=("device/grant", "device/eject"),
    ),
    Function(number="22", does="start a VM", sfr="FMT_MOF_EXT.1", roles=_RUNNING, changes=True, verbs=("vm/start",)),
    Function(
        number="23", does="stop a VM, or switch it off", sfr="FMT_MOF_EXT.1", roles=_RUNNING, changes=True,
        verbs=("vm/stop", "vm/kill"),
    ),
    Function(
        number="24", does="make a checkpoint of a VM, go back to one, or give one up", sfr="FMT_MOF_EXT.1",
        roles=_only(ADMINISTRATOR), changes=True, fresh="disks", verbs=("vm/checkpoint", "vm/restore"),
    ),
    Function(
        number="V1", does="see how the host is", sfr="FPT_TUD_EXT.1, FPT_ML_EXT.1", roles=_SEEING,
        verbs=(
            "status", "status/document", "update/history", "update/progress", "measure/show", "measure/log",
            "attest/self", "image/list",
        ),
    ),
    Function(
        number="V2", does="see VMs and their verdicts", sfr="FPT_ML_EXT.1",
        roles=MappingProxyType({**_SEEING, USER: OWN}), verbs=("vm/list", "vm/show", "vm/why", "vm/checkpoints"),
    ),
    Function(
        number="V3", does="read what a VM wrote to its console", sfr="FMT_MOF_EXT.1", roles=_RUNNING,
        verbs=("vm/console",),
    ),
    Function(
        number="V4", does="give evidence to a verifier", sfr="FPT_ML_EXT.1", roles=_only(ADMINISTRATOR, AUDITOR),
        verbs=("attest/evidence", "attest/answer", "attest/identity", "attest/explain"),
    ),
    Function(
        number="V5", does="see what is local to the host", sfr="FPT_ML_EXT.1", roles=_only(ADMINISTRATOR, AUDITOR),
        verbs=("config/show", "config/check"),
    ),
    Function(
        number="V6", does="approve what is local to the host", sfr="FPT_ML_EXT.1", roles=_only(ADMINISTRATOR),
        changes=True, fresh="approve", verbs=("config/approve",),
    ),
    Function(
        number="V7", does="import a bundle that is beyond its days", sfr="FPT_TUD_EXT.1", roles=_only(ADMINISTRATOR),
        changes=True, fresh="stale", verbs=(STALE,),
    ),
    Function(
        number="V8", does="see who has which role", sfr="FMT_MOF_EXT.1", roles=_only(ADMINISTRATOR, AUDITOR),
        verbs=("role/list",),
    ),
    Function(
        number="V9", does="grant a role, or take it back", sfr="FMT_MOF_EXT.1", roles=_only(ADMINISTRATOR),
        changes=True, fresh="roles",
        verbs=("role/grant", "role/revoke"),
    ),
    Function(
        number="V10", does="read the audit trail", sfr="FAU_SAR.1", roles=_only(ADMINISTRATOR, AUDITOR),
        verbs=("audit/list",),
    ),
    Function(
        number="V11", does="look into a VM's memory", sfr="FPT_INT_EXT.1", roles=_only(ADMINISTRATOR), changes=True,
        verbs=("vm/introspect",),
    ),
    Function(
        number="V12", does="see which VMs can be recovered", sfr="FMT_MOF_EXT.1",
        roles=_only(ADMINISTRATOR, AUDITOR), verbs=("recovery/show",),
    ),
    Function(
        number="V13", does="install, test or use a recovery key", sfr="FMT_MOF_EXT.1", roles=_only(ADMINISTRATOR),
        changes=True, fresh="recovery", verbs=("recovery/install", "recovery/copies", "recovery/use"),
    ),
    Function(
        number="V14", does="answer libvirt's hook", sfr="FPT_ML_EXT.1", roles=_only(), changes=True,
        verbs=(
            "gate/prepare", "gate/started", "gate/stopped", "gate/release", "gate/reconnect", "gate/attach",
            "gate/migrate", "gate/restore",
        ),
    ),
    Function(
        number="V15", does="see the networks and devices of VMs", sfr="FDP_VNC_EXT.1, FDP_PPR_EXT.1", roles=_SEEING,
        verbs=("net/list", "net/show", "device/list", "device/show"),
    ),
    Function(
        number="V16", does="accept what a VM keeps on its disks as it is, or delete it", sfr="FMT_MOF_EXT.1",
        roles=_only(ADMINISTRATOR), changes=True, fresh="disks", verbs=("vm/accept", "vm/delete"),
    ),
    Function(
        number="V17", does="see what the fleet thinks of this host", sfr="FPT_ML_EXT.1", roles=_SEEING,
        verbs=("fleet/show",),
    ),
    Function(
        number="V18", does="join a fleet, show this host to it, or leave it", sfr="FMT_MOF_EXT.1",
        roles=_only(ADMINISTRATOR), changes=True, verbs=("fleet/enroll", "fleet/sync", "fleet/leave"),
    ),
    Function(
        number="V19", does="export a VM with all that it keeps, or import one", sfr="FMT_MOF_EXT.1, FDP_VMS_EXT.1",
        roles=_only(ADMINISTRATOR), changes=True, fresh="disks", verbs=("vm/export", "vm/import"),
    ),
)  # fmt: skip
"""The table."""

ELSEWHERE: tuple[tuple[str, str, str], ...] = (
    ("2", "password policy of administrators", "a host's accounts are its own; of a fleet's service: F10"),
    ("4", "the default for new VMs", "a file that root writes: /etc/vmgate/vm-defaults.toml"),
    ("8", "sharing of VMs", "it comes by signed release: function 1"),
    ("6", "audit", "no verb changes it; reading it is V10"),
    ("9", "hypercalls of a VM", "not offered; the requirement was dropped"),
    ("10", "policy for removable media", "it comes by signed release: function 1"),
    ("11", "cryptography", "fixed; nothing to configure"),
    ("12", "default authorization factors", "there are none: no default credentials"),
    ("13, 14", "screen lock", "the host's desktop"),
    ("15", "inactivity of remote connections", "a host has none; of a fleet's service: F10"),
    ("16, 17", "lockout; directory server", "the host's accounts (PAM, NSS); of a fleet's service: F10"),
    ("18", "audit server", "not offered"),
    ("19", "time server", "the host's"),
    ("25, 26", "suspend and resume a VM", "not offered"),
    ("27", "certificates whose validity is not known", "refused; nothing to configure"),
)
"""The other rows of FMT_MOF_EXT.1, and why they are not in the table: number, function, reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """That a user or a group has a role.

    Attributes:
        role: one of ``ROLES``.
        kind: ``user`` or ``group``.
        name: of the user or the group.
        vms: for the role ``user`` the VMs that are assigned, or ``EVERY``; else empty.
    """

    role: str
    kind: str
    name: str
    vms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks.

    Attributes:
        uid: the kernel's word.
        name: of the account; empty where there is none.
        grants: those that are for this caller.
        trusted: the agent runs as this user: administrator without a grant. Root is so always.
    """

    uid: int
    name: str = ""
    grants: tuple[Grant, ...] = ()
    trusted: bool = False

    @property
    def roles(self) -> frozenset[str]:
        """The roles of the caller."""
        own = {grant.role for grant in self.grants}
        return frozenset(own | {ADMINISTRATOR} if self.trusted or self.uid == 0 else own)

    @property
    def vms(self) -> frozenset[str]:
        """The VMs that are assigned to the caller as a user."""
        return frozenset(vm for grant in self.grants if grant.role == USER for vm in grant.vms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """That a caller may do what it asked for.

    Attributes:
        uid: of the caller.
        fresh: the caller is root, or has just proved who it is.
        vms: names of the VMs that it may see; None for all.
    """

    uid: int
    fresh: bool = False
    vms: frozenset[str] | None = None

    def sees(self, vm: str) -> bool:
        """Whether an answer may tell of a VM."""
        return self.vms is None or not self.vms.isdisjoint({vm, EVERY})


def verb_of(request: Request) -> str:
    """The verb as the table has it: one that is two functions, by its arguments, has two names."""
    names = {name for name, _ in request.arguments}
    return STALE if request.verb == "update/import" and names & {"allow_stale", "reason"} else request.verb


def require(functions: Sequence[Function], caller: Caller, verb: str, vm: str | None) -> Function:
    """The function that a verb belongs to, if the caller has it.

    Args:
        functions: the table.
        caller: who asks.
        verb: see ``verb_of``.
        vm: name of the VM that it is about, as the request has it; None where it names none.

    Raises:
        NotPermitted: none of the caller's roles has it, or not for this VM, or no row has the verb.
    """
    function = function_of(functions, verb)
    if function is None:
        raise _refused(f"{verb} belongs to no management function", "report it")
    if caller.uid == 0:
        return function
    if not caller.roles:
        raise _refused(f"user {_who(caller)} has no role on this host", "use sudo, or let root see `vmgate role grant`")
    parts = {function.roles[role] for role in caller.roles if role in function.roles}
    if ALL in parts:
        return function
    if OWN not in parts:
        roles = ", ".join(sorted(caller.roles))
        who = " or ".join(function.roles) or "root alone"
        raise _refused(
            f"to {function.does} is not for {roles}", f"ask {who}" if function.roles else "nobody but libvirt calls it"
        )
    if not (verb in LISTS_VMS if vm is None else caller.vms & {vm, EVERY}):
        raise _refused(f"that VM is not assigned to user {_who(caller)}", "see `vmgate vm list`")
    return function


def seen(functions: Sequence[Function], caller: Caller, verb: str) -> frozenset[str] | None:
    """The VMs that the answer to a permitted verb may tell of; None for all."""
    function = function_of(functions, verb)
    if caller.uid == 0 or (function and ALL in {function.roles.get(role) for role in caller.roles}):
        return None
    return caller.vms


def _who(caller: Caller) -> str:
    return f"{caller.uid} ({caller.name})" if caller.name else str(caller.uid)


def _refused(cause: str, remedy: str) -> NotPermitted:
    return NotPermitted("the request was refused", cause=cause, remedy=remedy)
