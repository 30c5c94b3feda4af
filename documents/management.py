# SPDX-License-Identifier: Apache-2.0
"""Roles, and what a row of the table of management functions is: the same words on a host and in a fleet.

The rows of a host are in ``agent.roles``, whose verbs are those of the agent's socket; the rows of a fleet's service
are here, for agent and fleet do not know each other: their verbs are those of its pages. Both make one table,
``docs/roles.md``. Pure; decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

ADMINISTRATOR, OPERATOR, AUDITOR, USER = "administrator", "operator", "auditor", "user"

ROLES: Mapping[str, str] = MappingProxyType(
    {
        ADMINISTRATOR: "everything but libvirt's hook",
        OPERATOR: "runs all VMs and sees how the host is",
        AUDITOR: "sees everything but what guests print, and changes nothing",
        USER: "runs the VMs that are assigned",
    }
)
"""The roles, and what each is for."""

FLEET_ROLES = (ADMINISTRATOR, OPERATOR, AUDITOR)
"""Roles that an account of a fleet's service can have; users have their host."""

ALL, OWN = "yes", "own VMs"
"""What a role has of a function: all of it, or as far as it is about a VM that was assigned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One row.

    Attributes:
        number: in FMT_MOF_EXT.1, or from V1 on; of a fleet's service from F1 on.
        does: what it is, for people.
        sfr: the requirement it serves.
        roles: who has it, and whether as ``ALL`` or ``OWN``; nobody but root where it is empty.
        verbs: of the agent's socket, or of the pages.
        changes: whether it changes something.
        fresh: where it changes trust, the end of the name of the polkit action that a caller proves anew who they are
            by; of a fleet's function any text, since the password is asked for; else empty.
    """

    number: str
    does: str
    sfr: str
    roles: Mapping[str, str]
    verbs: tuple[str, ...]
    changes: bool = False
    fresh: str = ""


def only(*roles: str) -> Mapping[str, str]:
    """These roles have all of a function."""
    return MappingProxyType(dict.fromkeys(roles, ALL))


def function_of(functions: Sequence[Function], verb: str) -> Function | None:
    """The row of a verb; None where there is not exactly one, which is a refusal."""
    found = [function for function in functions if verb in function.verbs]
    return found[0] if len(found) == 1 else None


_SEEING = only(ADMINISTRATOR, OPERATOR, AUDITOR)
_DECIDING = only(ADMINISTRATOR, OPERATOR)

FLEET_FUNCTIONS: tuple[Function, ...] = (
    Function(
        number="F1", does="see how hosts stand, and why", sfr="FPT_ML_EXT.1", roles=_SEEING,
        verbs=("overview", "hosts", "host", "verdict"),
    ),
    Function(
        number="F2", does="approve, revoke, readmit or label a host", sfr="FMT_MOF_EXT.1", roles=_DECIDING,
        changes=True, verbs=("host/approve", "host/revoke", "host/readmit", "host/label", "hosts/many"),
    ),
    Function(
        number="F3", does="forget a host", sfr="FMT_MOF_EXT.1", roles=only(ADMINISTRATOR), changes=True,
        fresh="password", verbs=("host/remove",),
    ),
    Function(
        number="F4", does="see enrolment tokens and releases", sfr="FMT_MOF_EXT.1", roles=_SEEING,
        verbs=("tokens", "releases"),
    ),
    Function(
        number="F5", does="make an enrolment token", sfr="FMT_MOF_EXT.1", roles=only(ADMINISTRATOR), changes=True,
        fresh="password", verbs=("token/create",),
    ),
    Function(
        number="F6", does="withdraw an enrolment token", sfr="FMT_MOF_EXT.1", roles=_DECIDING, changes=True,
        verbs=("token/withdraw",),
    ),
    Function(
        number="F7", does="read and export audit trails", sfr="FAU_SAR.1", roles=only(ADMINISTRATOR, AUDITOR),
        verbs=("audit", "audit/export"),
    ),
    Function(
        number="F8", does="see administrators and settings", sfr="FMT_MOF_EXT.1", roles=only(ADMINISTRATOR, AUDITOR),
        verbs=("administrators", "settings"),
    ),
    Function(
        number="F9", does="make, change or remove administrators", sfr="FMT_MOF_EXT.1, FIA_AFL.1",
        roles=only(ADMINISTRATOR), changes=True, fresh="password",
        verbs=(
            "administrator/create", "administrator/role", "administrator/lock", "administrator/unlock",
            "administrator/password", "administrator/remove",
        ),
    ),
    Function(
        number="F10", does="set the rules for passwords, lockout and inactivity, and the banner (2, 15, 16, 20)",
        sfr="FIA_PMG_EXT.1, FIA_AFL.1, FTA_TAB.1", roles=only(ADMINISTRATOR), changes=True, fresh="password",
        verbs=("settings/change",),
    ),
    Function(
        number="F11", does="see the own account, change its password, log out", sfr="FIA_PMG_EXT.1", roles=_SEEING,
        verbs=("account", "account/password", "log-out"),
    ),
    Function(
        number="F12", does="see what hosts may take", sfr="FPT_TUD_EXT.1", roles=_SEEING,
        verbs=("assignments", "rollouts"),
    ),
    Function(
        number="F13", does="say what hosts may take", sfr="FPT_TUD_EXT.1", roles=only(ADMINISTRATOR), changes=True,
        fresh="password", verbs=("assignment/set", "assignment/remove", "rollout/start", "rollout/remove"),
    ),
    Function(
        number="F14", does="let a host keep what it has, or go on", sfr="FMT_MOF_EXT.1", roles=_DECIDING, changes=True,
        verbs=("host/lock", "host/unlock"),
    ),
    Function(
        number="F15", does="pause, resume or withdraw a rollout", sfr="FPT_TUD_EXT.1", roles=_DECIDING, changes=True,
        verbs=("rollout/pause", "rollout/resume", "rollout/withdraw"),
    ),
)  # fmt: skip
"""The rows of a fleet's service. Who has access to its machine and folder has every function, by ``vmgate fleet``."""
