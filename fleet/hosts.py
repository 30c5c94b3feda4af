# SPDX-License-Identifier: Apache-2.0
"""The hosts of a fleet in its database: found, listed with how they stand, and led from state to state.

How a host stands follows from what is stored and from the time (``fleet.states``), and is stored nowhere. This module
judges no evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from fleet.errors import HostRefused, HostUnknown
from fleet.states import ACTIVE, FAILED, PENDING, REVOKED, STALE, TRUSTED, UNKNOWN, LastVerdict, after, standing
from fleet.tables import hosts, labels, verdicts

PAGE: Final = 1_000
"""Most hosts of one answer."""

COLUMNS: Final = (
    hosts.c.id, hosts.c.name, hosts.c.state, hosts.c.channel, hosts.c.enrolled, hosts.c.contact, hosts.c.status,
    hosts.c.level, hosts.c.judged, hosts.c.expires, hosts.c.release, hosts.c.cause, hosts.c.chip, hosts.c.manufacturer,
    hosts.c.audit_sequence, hosts.c.audit_signed,
)  # fmt: skip
"""What is told of a host; the rest is long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which hosts are wanted.

    Attributes:
        standing: one of ``fleet.states.STANDINGS``; empty for all.
        label: ``name=text``; empty for all.
        text: part of the name; empty for all.
        after: name after which the list begins, for the next page.
        most: hosts.
    """

    standing: str = ""
    label: str = ""
    text: str = ""
    after: str = ""
    most: int = PAGE


def find(connection: Connection, named: str) -> Any:
    """The row of a host, by id or name.

    Raises:
        HostUnknown: there is none.
    """
    query = select(hosts).where((hosts.c.id == named) | (hosts.c.name == named))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise HostUnknown(
            "nothing was done", cause=f"there is no host {named[:80]!r}", remedy="see `vmgate fleet hosts`"
        )
    return row


def require_active(connection: Connection, host: str) -> Any:
    """The row of a host that may be heard, to change it.

    Raises:
        HostRefused: it may not; who is unknown hears the same as who was revoked.
    """
    row = connection.execute(select(hosts).where(hosts.c.id == host).with_for_update()).one_or_none()
    if row is None or row.state != ACTIVE:
        raise refused_host("the fleet knows no active host of that id and key")
    return row


def refused_host(cause: str) -> HostRefused:
    """The error for a host that is not heard."""
    return HostRefused("the request was refused", cause=cause, remedy="ask an administrator of the fleet")


def told(row: Any, now: int) -> dict[str, Any]:
    """A host for people and programs, with how it stands now."""
    return {
        "id": row.id,
        "name": row.name,
        "standing": standing_of(row, now),
        "state": row.state,
        "status": row.status or "none",
        "level": row.level,
        "judged": row.judged,
        "expires": row.expires,
        "release": row.release,
        "cause": row.cause,
        "channel": row.channel,
        "enrolled": row.enrolled,
        "contact": row.contact,
        "tpm": "chip" if row.chip else "software",
        "manufacturer": row.manufacturer,
        "audit": {"sequence": row.audit_sequence, "signed": row.audit_signed},
    }


def standing_of(row: Any, now: int) -> str:
    """How a host stands."""
    return standing(row.state, LastVerdict(status=row.status, judged=row.judged, expires=row.expires), now)


def listed(connection: Connection, wanted: Filter, now: int) -> list[dict[str, Any]]:
    """Hosts by name, one page of them."""
    query = _standing(select(*COLUMNS), wanted.standing, now).where(hosts.c.name > wanted.after)
    if wanted.label:
        name, _, text = wanted.label.partition("=")
        has = select(labels.c.host).where(labels.c.name == name, labels.c.text == text)
        query = query.where(hosts.c.id.in_(has))
    if wanted.text:
        query = query.where(hosts.c.name.contains(wanted.text, autoescape=True))
    rows = connection.execute(query.order_by(hosts.c.name).limit(min(wanted.most, PAGE)))
    return [told(row, now) for row in rows]


def counted(connection: Connection, now: int) -> dict[str, int]:
    """How many hosts stand how."""
    return {
        name: connection.execute(_standing(select(func.count()).select_from(hosts), name, now)).scalar_one()
        for name in (TRUSTED, FAILED, STALE, UNKNOWN, PENDING, REVOKED)
    }


def releases_run(connection: Connection) -> list[tuple[str, int]]:
    """How many active hosts run which release, as their last verdict found it; the most first."""
    many = func.count()
    query = select(hosts.c.release, many).where(hosts.c.state == ACTIVE, hosts.c.release != "")
    rows = connection.execute(query.group_by(hosts.c.release).order_by(many.desc(), hosts.c.release).limit(20))
    return [(release, count) for release, count in rows]


def history(connection: Connection, host: str, most: int = 20) -> list[dict[str, Any]]:
    """The newest verdicts about a host."""
    query = select(verdicts).where(verdicts.c.host == host).order_by(verdicts.c.number.desc()).limit(most)
    names = ("number", "time", "expires", "status", "level", "release", "findings")
    return [{name: getattr(row, name) for name in names} for row in connection.execute(query)]


def lead(connection: Connection, named: str, event: str) -> Any:
    """Do to a host what changes its state; returns its row as it was.

    Raises:
        HostUnknown: there is none.
        StateWrong: that cannot be done to it.
    """
    row = find(connection, named)
    change = {"state": after(row.state, event), "version": row.version + 1}
    connection.execute(update(hosts).where(hosts.c.id == row.id).values(change))
    return row


def remove(connection: Connection, named: str) -> Any:
    """Forget a host, with its verdicts and its trail; returns its row as it was."""
    row = find(connection, named)
    connection.execute(delete(hosts).where(hosts.c.id == row.id))
    return row


def set_labels(connection: Connection, named: str, wanted: Iterable[tuple[str, str]]) -> Any:
    """Give a host labels in place of those of the same names; one without a text goes."""
    row = find(connection, named)
    for name, text in wanted:
        connection.execute(delete(labels).where(labels.c.host == row.id, labels.c.name == name))
        if text:
            connection.execute(insert(labels).values(host=row.id, name=name, text=text))
    return row


def labels_of(connection: Connection, host: str) -> dict[str, str]:
    """The labels of a host."""
    query = select(labels.c.name, labels.c.text).where(labels.c.host == host).order_by(labels.c.name)
    return {row.name: row.text for row in connection.execute(query)}


def _standing(query: Select[Any], wanted: str, now: int) -> Select[Any]:
    """The same as ``fleet.states.standing``, said to the database; a test holds them together."""
    current = (hosts.c.judged <= now) & (hosts.c.expires > now) & (hosts.c.status != "")
    good = hosts.c.status.in_(("affirming", "warning"))
    active = hosts.c.state == ACTIVE
    conditions = {
        TRUSTED: active & current & good,
        FAILED: active & current & ~good,
        STALE: active & (hosts.c.status != "") & ~((hosts.c.judged <= now) & (hosts.c.expires > now)),
        UNKNOWN: active & (hosts.c.status == ""),
        PENDING: hosts.c.state == PENDING,
        REVOKED: hosts.c.state == REVOKED,
    }
    return query.where(conditions[wanted]) if wanted else query
