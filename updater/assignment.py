# SPDX-License-Identifier: Apache-2.0
"""How assignments lie in TUF metadata. Pure; both sides need it.

A host's assignment is the target ``assignments/<host>.json``. Its bytes are no file: the role that lists it carries the
document's members as ``custom``, so a million hosts are two thousand files instead of a million, and one fetch is the
whole look-up. The role is one of many bins (TUF TAP 15), chosen by the target's name.
"""

from __future__ import annotations

from collections.abc import Collection

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from documents import canonical
from documents.assignment import Assignment
from documents.fields import NAME
from updater.errors import AssignmentRefused

ROLE = "assignments"
"""The role that delegates to the bins; a bin is called by it, a hyphen and a hexadecimal number."""

PATHS = f"{ROLE}/*"
BITS = 11
"""2 to the power of this many bins: for a million hosts, what makes list of bins and bin together smallest."""


def assignment_target(host: str) -> str:
    """The target path of a host's assignment.

    Raises:
        ValueError: not a host's name.
    """
    if len(host) > 63 or not NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not a host's name")
    return f"{ROLE}/{host}.json"


def list_assignment(assignment: Assignment) -> TargetFile:
    """How a bin lists an assignment."""
    target = TargetFile.from_data(assignment_target(assignment.host), assignment.encode(), ["sha256"])
    held = {**assignment.members(), "version": assignment.VERSION}
    del held["host"]
    target.unrecognized_fields["custom"] = held
    return target


def listed_assignment(target: TargetFile) -> Assignment:
    """The assignment that a bin lists.

    Raises:
        AssignmentRefused: the listing has no content, or its length or digest is of another document.
        DocumentError: it is malformed.
    """
    host = target.path.removeprefix(f"{ROLE}/").removesuffix(".json")
    held = target.custom
    if not isinstance(held, dict):
        raise _refused(host, "it is listed without content")
    try:
        data = canonical.encode({**held, "type": Assignment.TYPE, "host": host})
        target.verify_length_and_hashes(data)
    except (LengthOrHashMismatchError, ValueError) as error:
        raise _refused(host, str(error)) from error
    return Assignment.parse(data)


def choose(assignment: Assignment, channel: str, listed: Collection[int], lowest: int = 0) -> int | None:
    """The highest listed release of a channel that the assignment allows and that is not below ``lowest``, if any."""
    allowed = assignment.of(channel)
    if allowed is None or assignment.locked:
        return None
    return max((number for number in listed if number >= lowest and allowed.allows(number)), default=None)


def _refused(host: str, why: str) -> AssignmentRefused:
    return AssignmentRefused(
        f"the assignment of {host[:80]} was refused",
        cause=why[:300],
        remedy="ask who runs the fleet to assign it again",
    )
