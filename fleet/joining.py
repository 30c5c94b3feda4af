# SPDX-License-Identifier: Apache-2.0
"""A host joins the fleet, or joins it again: all of it in one transaction, with the token that it uses up.

Who the host is was verified before (``fleet.enrolment``). A host is known again by its endorsement key: with a new
token it gets its keys exchanged and keeps id, name and history. This module verifies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from documents.audit import GENESIS
from fleet import tokens
from fleet.enrolment import Newcomer, refused_host
from fleet.errors import StateWrong
from fleet.states import ACTIVE, PENDING, after
from fleet.tables import hosts
from fleet.trail import Trail


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """One host that wants in.

    Attributes:
        newcomer: who it showed to be.
        token: that it has.
        proof: SHA-256 of what it showed, by which a repeated request is known.
        new_id: a UUID, for a host that was never here.
        approval: whether new hosts wait for an administrator.
        now: seconds since 1970 UTC.
    """

    newcomer: Newcomer
    token: str
    proof: str
    new_id: str
    approval: bool
    now: int


def join(connection: Connection, joining: Joining, trail: Trail) -> Any:
    """Take a host in; returns its row. The same request again gives the same answer, and changes nothing.

    Raises:
        TokenRefused: the token may not be used.
        EnrolmentRefused: the host was revoked, or the name is another's.
    """
    newcomer, now = joining.newcomer, joining.now
    token = tokens.require_usable(connection, joining.token, now, joining.proof)
    row = connection.execute(select(hosts).where(hosts.c.ek == newcomer.ek).with_for_update()).one_or_none()
    if token.used:
        if row is None or row.id != token.host:
            raise refused_host("its token was used for a host that is no longer here")
        return row
    name = token.name or newcomer.name or (row.name if row else f"host-{joining.new_id[:8]}")
    other = connection.execute(select(hosts.c.id).where(hosts.c.name == name)).scalar_one_or_none()
    if other is not None and (row is None or other != row.id):
        raise refused_host(f"the name {name} is another host's")
    keys = {"ak": newcomer.ak, "request_key": newcomer.key, "chip": newcomer.chip}
    if row is None:
        host = joining.new_id
        first = PENDING if joining.approval else ACTIVE
        connection.execute(insert(hosts).values({**_new(joining, token, host, name, first), **keys}))
    else:
        host = row.id
        connection.execute(
            update(hosts).where(hosts.c.id == host).values({**_again(row, newcomer), **keys, "name": name})
        )
    tokens.spend(connection, token, host, joining.proof, now)
    tpm = "chip" if newcomer.chip else "software"
    trail.write(
        connection, now, "enrolment", "done", subject=name, actor=f"host {host}", token=token.digest[:16], tpm=tpm
    )
    return connection.execute(select(hosts).where(hosts.c.id == host)).one()


def _new(joining: Joining, token: Any, host: str, name: str, state: str) -> dict[str, Any]:
    return {
        "id": host, "name": name, "ek": joining.newcomer.ek, "manufacturer": joining.newcomer.manufacturer[:120],
        "state": state, "channel": token.channel, "enrolled": joining.now, "contact": 0, "version": 1, "seen": b"",
        "status": "", "level": "", "judged": 0, "expires": 0, "release": "", "cause": "", "result": "",
        "audit_sequence": 0, "audit_hash": GENESIS, "audit_signed": 0,
    }  # fmt: skip


def _again(row: Any, newcomer: Newcomer) -> dict[str, Any]:
    """What changes of a host that joins again: with another attestation key, nothing of before counts."""
    try:
        state = after(row.state, "enrol")
    except StateWrong as error:
        raise refused_host(f"it is {row.state}") from error
    if row.ak == newcomer.ak:
        return {"state": state, "version": row.version + 1}
    lost = {"seen": b"", "status": "", "level": "", "judged": 0, "expires": 0, "result": "", "cause": ""}
    return {"state": state, "version": row.version + 1, **lost}
