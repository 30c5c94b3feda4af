# SPDX-License-Identifier: Apache-2.0
"""Enrolment tokens in the database: made by an administrator, used once, worth nothing after a while.

The database has a token's SHA-256 alone. This module does not enrol hosts (``fleet.joining`` does).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from fleet.errors import TokenRefused
from fleet.tables import tokens

HOURS: Final = (1, 24 * 90)
"""For which a token may be used: fewest and most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a new token is for.

    Attributes:
        token: 32 random bytes, hexadecimal.
        expires: seconds since 1970 UTC.
        name: what its host will be called; empty for what the host says.
        channel: platform channel that its host follows.
        creator: who made it.
    """

    token: str
    expires: int
    name: str
    channel: str
    creator: str


def digest(token: str) -> str:
    """What the database knows a token by."""
    return hashlib.sha256(b"vmgate enrolment token\0" + token.encode()).hexdigest()


def create(connection: Connection, wanted: Wanted, now: int) -> str:
    """Keep a new token; returns its digest, by which it is listed."""
    found = digest(wanted.token)
    connection.execute(
        insert(tokens).values(
            digest=found,
            created=now,
            expires=wanted.expires,
            name=wanted.name,
            channel=wanted.channel,
            creator=wanted.creator,
            withdrawn=False,
            used=0,
            host="",
            proof="",
        )
    )
    return found


def require_usable(connection: Connection, token: str, now: int, proof: str = "") -> Any:
    """The row of a token that may be used now.

    Args:
        connection: any.
        token: as the host has it.
        now: seconds since 1970 UTC.
        proof: SHA-256 of what it is used with: a host that did not hear the answer may ask again with the same.

    Raises:
        TokenRefused: it may not.
    """
    query = select(tokens).where(tokens.c.digest == digest(token)).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise refused("the token is unknown")
    if row.withdrawn:
        raise refused("the token was withdrawn")
    if row.used and not (proof and row.proof == proof):
        raise refused("the token was used before")
    if not row.created <= now < row.expires:
        raise refused("the token is too old")
    return row


def spend(connection: Connection, row: Any, host: str, proof: str, now: int) -> None:
    """Let a token be used up by a host."""
    change = update(tokens).where(tokens.c.digest == row.digest)
    connection.execute(change.values(used=now, host=host, proof=proof))


def withdraw(connection: Connection, start: str) -> str:
    """Let a token count no more; returns its digest.

    Args:
        connection: writing.
        start: the beginning of its digest, as it is listed.

    Raises:
        TokenRefused: there is not exactly one such token that was not used yet.
    """
    rows = connection.execute(select(tokens.c.digest).where(tokens.c.used == 0)).scalars()
    found = [name for name in rows if start and name.startswith(start)]
    if len(found) != 1:
        raise refused(f"{len(found)} tokens that were not used are listed as {start[:64]!r}")
    connection.execute(update(tokens).where(tokens.c.digest == found[0]).values(withdrawn=True))
    return str(found[0])


def may_count(connection: Connection, token: str, now: int) -> bool:
    """Whether a token is one that was not withdrawn and is not too old; it may have been used."""
    query = select(tokens.c.digest).where(
        tokens.c.digest == digest(token), ~tokens.c.withdrawn, tokens.c.created <= now, tokens.c.expires > now
    )
    return connection.execute(query).first() is not None


def listed(connection: Connection, now: int) -> list[dict[str, Any]]:
    """All tokens, the newest first, by the beginning of their digest."""
    rows = connection.execute(select(tokens).order_by(tokens.c.created.desc(), tokens.c.digest))
    return [
        {
            "id": row.digest[:16],
            "state": _state(row, now),
            "name": row.name,
            "channel": row.channel,
            "creator": row.creator,
            "created": row.created,
            "expires": row.expires,
            "host": row.host,
        }
        for row in rows
    ]


def _state(row: Any, now: int) -> str:
    if row.withdrawn:
        return "withdrawn"
    if row.used:
        return "used"
    return "usable" if row.created <= now < row.expires else "too old"


def refused(cause: str) -> TokenRefused:
    """The error for a token that does not count."""
    return TokenRefused("the host was not enrolled", cause=cause, remedy="ask an administrator for a token")
