# SPDX-License-Identifier: Apache-2.0
"""Reference values of a fleet: releases with what they name, content-addressed, and shared by all hosts of a channel.

An administrator brings them from the repository, whose root metadata says whose they are. A release and all that
belongs to it are taken in as a whole. What a process makes of them to compare with is made once for a state of the
table, however many hosts there are. This module appraises nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from content.fsverity import digest_bytes
from documents.release import Release
from fleet.database import Database
from fleet.errors import ReferenceWrong
from fleet.tables import blobs, releases, state
from fleet.verifier import Expected
from keys.anchor import TrustAnchor
from measure.appraise import IMAGE, LIBVIRT_FILES, POLICY, Reference
from measure.valid_releases import Terms

NEEDED: Final = (POLICY, IMAGE, LIBVIRT_FILES)
"""Artifacts of a platform release that a verifier must have, where the release names them."""

OLD_DAYS: Final = 14
"""For which the release before a new one counts beside it, unless the administrator says otherwise."""

_NAME: Final = "references"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bringing:
    """A release that an administrator brings.

    Attributes:
        release: as published.
        artifacts: what it names, in any order; of those that are not ``NEEDED`` none.
        anchor: root metadata of its repository.
        opens: from when on it counts, in seconds since 1970 UTC.
        closes: until when the one before it counts beside it.
    """

    release: bytes
    artifacts: tuple[bytes, ...]
    anchor: bytes
    opens: int
    closes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What hosts of one channel are compared with.

    Attributes:
        references: one for each platform release.
        terms: when which counts.
    """

    references: tuple[Reference, ...]
    terms: Terms


def add(connection: Connection, bringing: Bringing, now: int) -> Release:
    """Take a release in; returns it.

    Raises:
        ReferenceWrong: an artifact that it names is missing, or one is not named by it, or the number is another's.
        DocumentError: malformed.
    """
    release = Release.parse(bringing.release)
    given = {digest_bytes(artifact): artifact for artifact in bringing.artifacts}
    wanted = {artifact.fsverity: kind for kind in NEEDED if (artifact := release.artifact(kind))}
    if missing := sorted(kind for digest, kind in wanted.items() if digest not in given):
        raise wrong(f"{release.channel}/{release.number} names {missing[0]}, which was not given")
    if set(given) - set(wanted):
        raise wrong(f"{release.channel}/{release.number} does not name one of the artifacts")
    identity = TrustAnchor(bringing.anchor).identity
    digest = digest_bytes(bringing.release)
    same = (releases.c.channel == release.channel) & (releases.c.number == release.number)
    known = connection.execute(select(releases.c.digest).where(same)).scalar_one_or_none()
    if known is not None and known != digest:
        raise wrong(f"there is another {release.channel}/{release.number}")
    for name, kind, body in (
        (digest, "release", bringing.release),
        *((name, wanted[name], body) for name, body in given.items()),
    ):
        if connection.execute(select(blobs.c.digest).where(blobs.c.digest == name)).first() is None:
            connection.execute(insert(blobs).values(digest=name, kind=kind, body=body))
    values = {"identity": identity, "opens": bringing.opens, "closes": bringing.closes, "withdrawn": False}
    if known is None:
        row = {"channel": release.channel, "number": release.number, "authority": release.authority}
        connection.execute(insert(releases).values({**row, **values, "digest": digest, "added": now}))
    else:
        connection.execute(update(releases).where(same).values(values))
    _changed(connection)
    return release


def withdraw(connection: Connection, channel: str, number: int) -> None:
    """Let a release count no more.

    Raises:
        ReferenceWrong: there is none.
    """
    same = (releases.c.channel == channel) & (releases.c.number == number)
    done = connection.execute(update(releases).where(same, ~releases.c.withdrawn).values(withdrawn=True))
    if done.rowcount != 1:
        raise wrong(f"there is no {channel}/{number}")
    _changed(connection)


def listed(connection: Connection) -> list[dict[str, Any]]:
    """All releases, by channel and number."""
    names = ("channel", "number", "authority", "digest", "added", "opens", "closes", "withdrawn")
    rows = connection.execute(select(releases).order_by(releases.c.channel, releases.c.number))
    return [{name: getattr(row, name) for name in names} for row in rows]


def _changed(connection: Connection) -> None:
    done = connection.execute(update(state).where(state.c.name == _NAME).values(number=state.c.number + 1))
    if done.rowcount == 0:
        connection.execute(insert(state).values(name=_NAME, number=1, text=""))


def _version(connection: Connection) -> int:
    return connection.execute(select(state.c.number).where(state.c.name == _NAME)).scalar_one_or_none() or 0


class References:
    """What hosts are compared with, as one process has it.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._version = -1
        self._prepared: dict[str, Prepared] = {}

    def of(self, channel: str) -> Prepared:
        """What hosts of a platform channel are compared with now.

        Raises:
            ReferenceWrong: there is no platform release of it.
            DatabaseFailed: the database does not answer.
        """
        with self._database.read() as connection:
            version = _version(connection)
            with self._lock:
                if version != self._version:
                    self._prepared, self._version = {}, version
                if channel not in self._prepared:
                    self._prepared[channel] = _prepare(connection, channel)
                return self._prepared[channel]


def _prepare(connection: Connection, channel: str) -> Prepared:
    rows = connection.execute(
        select(releases, blobs.c.body)
        .join(blobs, blobs.c.digest == releases.c.digest)
        .where(~releases.c.withdrawn, (releases.c.authority != "platform") | (releases.c.channel == channel))
        .order_by(releases.c.number)
    ).all()
    platforms = [row for row in rows if row.authority == "platform"]
    if not platforms:
        raise wrong(f"there is no release of the platform channel {channel}")
    newest = platforms[-1]
    # Of older ones only the last can count (``measure.valid_releases``).
    chosen = [row for row in rows if row.authority != "platform" or row in platforms[-2:]]
    kinds = connection.execute(select(blobs.c.kind, blobs.c.body).where(blobs.c.kind.in_(NEEDED))).all()
    named = {
        artifact.fsverity
        for row in platforms[-2:]
        for kind in NEEDED
        if (artifact := Release.parse(row.body).artifact(kind))
    }
    of: dict[str, tuple[bytes, ...]] = {
        kind: tuple(body for found, body in kinds if found == kind and digest_bytes(body) in named) for kind in NEEDED
    }
    expected = Expected(
        releases=tuple(row.body for row in chosen),
        anchor=None,
        policy=None,
        policies=of[POLICY],
        images=of[IMAGE],
        listings=of[LIBVIRT_FILES],
    )
    identities = {row.number: row.identity for row in platforms}
    references = tuple(
        replace(reference, identity=identities[reference.platform.number]) for reference in expected.references()
    )
    return Prepared(references=references, terms=Terms(opens=newest.opens, closes=newest.closes))


def wrong(cause: str) -> ReferenceWrong:
    """The error for reference values that cannot be used."""
    return ReferenceWrong("there is nothing to compare with", cause=cause, remedy="see `vmgate explain FL035`")
