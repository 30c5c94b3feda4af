# SPDX-License-Identifier: Apache-2.0
"""What a host is to its fleet: the table of its states, and how it stands at a time.

Two things are told apart. The *state* is what administrators and enrolment made of it, and changes by ``TABLE`` alone.
The *standing* is what follows from state, last verdict and time: nobody sets it, so that a host that falls silent
becomes stale by itself, and an error can make none trusted. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fleet.errors import StateWrong

PENDING: Final = "pending"
ACTIVE: Final = "active"
REVOKED: Final = "revoked"
STATES: Final = (PENDING, ACTIVE, REVOKED)

TABLE: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        (PENDING, "approve"): ACTIVE,
        (PENDING, "revoke"): REVOKED,
        (PENDING, "enrol"): PENDING,
        (ACTIVE, "revoke"): REVOKED,
        (ACTIVE, "enrol"): ACTIVE,
        (REVOKED, "readmit"): PENDING,
    }
)
"""The state after an event; what is not in it is refused. A revoked host does not come back by enrolling."""

TRUSTED: Final = "trusted"
FAILED: Final = "failed"
STALE: Final = "stale"
UNKNOWN: Final = "unknown"
STANDINGS: Final = (TRUSTED, FAILED, STALE, UNKNOWN, PENDING, REVOKED)
"""How a host can stand: its last verdict lets people go on, or does not, or is too old, or there is none."""

_GOOD: Final = frozenset({"affirming", "warning"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LastVerdict:
    """The newest verdict about a host.

    Attributes:
        status: of the EAR; empty where there was never one.
        judged: seconds since 1970 UTC.
        expires: from when on it must not be relied on.
    """

    status: str
    judged: int
    expires: int


def after(state: str, event: str) -> str:
    """The state after an event.

    Raises:
        StateWrong: nothing leads from there by that.
    """
    found = TABLE.get((state, event))
    if found is None:
        possible = sorted(name for known, name in TABLE if known == state)
        raise StateWrong(
            f"the host was not changed: {event}",
            cause=f"it is {state}",
            remedy=f"possible is: {', '.join(possible)}",
        )
    return found


def standing(state: str, last: LastVerdict, now: int) -> str:
    """How a host stands at a time. Whatever is not known to be good is not trusted."""
    if state != ACTIVE:
        return state if state in (PENDING, REVOKED) else UNKNOWN
    if not last.status:
        return UNKNOWN
    if not last.judged <= now < last.expires:
        return STALE
    return TRUSTED if last.status in _GOOD else FAILED
