# SPDX-License-Identifier: Apache-2.0
"""What a host's assignment leaves of what its repository offers. Pure.

A host takes only what both the channel's offline role and its assignment allow, and nothing below its floor. So whoever
writes assignments can hold a host where it is, or at any release between its floor and the newest; nothing else. A host
that follows assignments and has none takes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tuf.api.metadata import TargetFile

from documents.assignment import Assignment
from documents.host_state import Generation
from documents.release import Release
from updater.assignment import listed_assignment
from updater.errors import AssignmentExpired, Incompatible, NotAssigned


def require_assignment(target: TargetFile | None, host: str) -> Assignment:
    """The assignment that was found for a host. Whether it is still good, ``require_current`` says.

    Args:
        target: what the repository lists for it, if anything.
        host: its name.

    Raises:
        NotAssigned: there is none.
        AssignmentRefused: it is not what its listing says.
        DocumentError: it is malformed.
    """
    if target is None:
        raise NotAssigned(
            "the update was refused",
            cause=f"this host is {host} in its fleet, and the repository has no assignment for it",
            remedy="ask who runs the fleet to assign it",
        )
    return listed_assignment(target)


def require_current(assignment: Assignment, now: int) -> None:
    """Require that an assignment has not expired, for a bundle too: its days are not the release's to lengthen.

    Args:
        assignment: of this host.
        now: seconds since 1970 UTC, not before the floor.

    Raises:
        AssignmentExpired: it has.
    """
    if now >= assignment.expires:
        day = datetime.fromtimestamp(assignment.expires, UTC).date().isoformat()
        raise AssignmentExpired(
            "the update was refused",
            cause=f"the assignment of {assignment.host} expired on {day}",
            remedy="check this host's clock, then ask who runs the fleet to assign it again",
        )


def restrict(
    assignment: Assignment,
    channels: Sequence[str],
    offered: Mapping[str, bytes],
    newest: Mapping[str, int],
    active: Generation | None,
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """What stands to be resolved: what was chosen and is no step back, and of every other channel what is active.

    Args:
        assignment: of this host.
        channels: that this host follows.
        offered: the release document that was chosen of each channel, where one was.
        newest: number of the newest release that each channel lists.
        active: the generation now.

    Returns:
        A release document for each channel, and why newer ones are held back, for people.

    Raises:
        Incompatible: of a channel nothing is allowed and nothing active.
        DocumentError: a release is malformed.
    """
    current = {Release.parse(data).channel: data for data in active.releases} if active else {}
    taken: dict[str, bytes] = {}
    held_back: list[str] = []
    for channel in channels:
        new, old = offered.get(channel), current.get(channel)
        number = Release.parse(old).number if old is not None else 0
        if new is not None and Release.parse(new).number >= number:
            taken[channel] = new
        elif old is None:
            raise Incompatible(
                "the update was not applied",
                cause=f"{channel}: {_why(assignment, channel)}",
                remedy="ask who runs the fleet to assign a release that is offered",
            )
        else:
            taken[channel] = old
            if newest.get(channel, 0) > number:
                held_back.append(f"{channel} {newest[channel]}: {_why(assignment, channel)}")
    return taken, tuple(held_back)


def _why(assignment: Assignment, channel: str) -> str:
    allowed = assignment.of(channel)
    if assignment.locked:
        return "this host is locked by its assignment"
    if allowed is None:
        return "the channel is not assigned to this host"
    return f"assigned are {allowed.lowest} to {allowed.highest}, and none of them is offered that this host may take"
