# SPDX-License-Identifier: Apache-2.0
"""What becomes of a VM that was taken back: a table of causes and states, and how to find the cause. Pure.

`docs/revocation.md` is made from the table. This module does nothing (``agent.revoke`` acts, and the gate refuses).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from documents.revocation import Revocation

REVOKED, WITHDRAWN, LOCKED, UNASSIGNED, LEASE = "revoked", "withdrawn", "locked", "unassigned", "lease"

CAUSES = {
    REVOKED: "something that it is made of is on an active release's list of refused digests",
    WITHDRAWN: "no active workload release defines it any more",
    LOCKED: "its owner locked it, or this host",
    UNASSIGNED: "it is not assigned to this host any more",
    LEASE: "its lease ran out",
}
"""Strongest first: one VM has one cause."""

STATES = {
    "running": "it runs",
    "paused": "its processors stand still and its memory is there",
    "saved": "its memory was saved to a file",
    "checkpointed": "a checkpoint of it is kept",
    "cloned": "it was cloned: each clone is a VM of its own and is judged as one",
    "offline": "this host hears of it later",
}

POLICY, AT_ONCE, LATER = "after the policy's notice", "at once", "when the host hears of it"

TOLD = "its user is told"
ACT = "suspended or killed, as policy says"
NO_RESUME = "suspended again where somebody resumes it"
NO_RESTORE = "its memory is not restored"
NO_START = "it does not start"
DROP = "its keys are dropped from memory"
SHRED = "its wrapped keys are removed, so that its disks and its TPM open nowhere here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell of the table.

    Attributes:
        cause: of ``CAUSES``.
        state: of ``STATES``.
        when: ``POLICY``, ``AT_ONCE`` or ``LATER``.
        acts: what becomes of it, in order.
    """

    cause: str
    state: str
    when: str
    acts: tuple[str, ...]


_KEYS = {REVOKED: (), WITHDRAWN: (), LOCKED: (DROP,), LEASE: (DROP,), UNASSIGNED: (DROP, SHRED)}
_WHEN = {REVOKED: POLICY, WITHDRAWN: POLICY, LOCKED: AT_ONCE, LEASE: AT_ONCE, UNASSIGNED: POLICY}
"""A lock is for a host in wrong hands, and a lease was announced when it was given: neither waits."""


def _row(cause: str, state: str) -> Row:
    """The table's rule: what it means for each state, and whose keys go."""
    keys = _KEYS[cause]
    if state in ("running", "paused"):
        return Row(cause=cause, state=state, when=_WHEN[cause], acts=(TOLD, ACT, NO_RESUME, NO_START, *keys))
    if state in ("saved", "checkpointed"):
        return Row(cause=cause, state=state, when=AT_ONCE, acts=(NO_RESTORE, NO_START, *keys))
    if state == "cloned":
        # A clone has a name, a UUID and a key of its own: what was said of another VM's name is not said of it.
        acts = (NO_START,) if cause == REVOKED else ()
        return Row(cause=cause, state=state, when=AT_ONCE, acts=acts)
    return Row(cause=cause, state=state, when=LATER, acts=(TOLD, ACT, NO_RESUME, NO_START, *keys))


TABLE = tuple(_row(cause, state) for cause in CAUSES for state in STATES)


def row(cause: str, state: str) -> Row:
    """One cell.

    Raises:
        KeyError: there is no such cause or state.
    """
    return {(one.cause, one.state): one for one in TABLE}[cause, state]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be done with one VM that runs or is paused.

    Attributes:
        act: ``suspend`` or ``kill``.
        seconds: from when the cause was first seen.
        drop, shred: whether its keys go.
        message: for its user.
    """

    act: str
    seconds: int
    drop: bool
    shred: bool
    message: str


def order(cause: str, name: str, policy: Revocation) -> Order:
    """What the table and the signed policy say of a VM that runs."""
    cell = row(cause, "running")
    seconds = policy.seconds if cell.when == POLICY else 0
    # Whose keys are removed cannot go on: a suspended VM would still have its disks open.
    act = "kill" if SHRED in cell.acts else policy.act
    done = {"suspend": "suspended", "kill": "switched off"}[act]
    when = f"in {seconds} seconds. Save your work in it." if seconds else "now."
    text = f"vmgate: {name} was taken back, for {CAUSES[cause]}. It is {done} {when} {policy.message}"
    return Order(act=act, seconds=seconds, drop=DROP in cell.acts, shred=SHRED in cell.acts, message=text.strip())


def cause_of(name: str, made_of: Collection[str], defined: Collection[str], refused: Collection[str]) -> str:
    """Why a VM that runs may not run any more, as far as releases say; empty where none does.

    Args:
        name: of the VM.
        made_of: digests of its definition and its images, as it was started.
        defined: the names of all VMs of the active workload releases.
        refused: digests on any active release's list.
    """
    if set(made_of) & set(refused):
        return REVOKED
    return "" if name in defined else WITHDRAWN
