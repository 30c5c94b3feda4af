# SPDX-License-Identifier: Apache-2.0
"""The floor: the oldest time, root and releases that this host still accepts. It only rises; but see ``recovery``.

The time rises to the clock after each lookup with fresh metadata, and to the publication with a stale bundle. A clock
more than ``LIMITS.clock_step`` (one day) before it is called wrong; within that, the floor's time counts as now. A
release's number rises when the release is confirmed, so that an update that fails its health check can be repeated.

Going back to the previous generation is not judged here: it was verified when it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from content import durable
from content.errors import Missing
from documents.host_state import Floor
from documents.release import Release
from keys.anchor import TrustAnchor
from updater.errors import BelowFloor, ClockWrong
from updater.formats import LIMITS

Witness = Callable[[], Floor | None]
"""Who vouches for a floor besides its file, which can be copied back: tells the lowest root and releases, or None where
nobody knows now. A host's TPM does, by the counter that shuts older copies of its key."""


def load_floor(path: Path, anchor: TrustAnchor, witness: Witness = lambda: None) -> Floor:
    """The floor of this host; at the anchor if there is none yet. Never below what ``witness`` says.

    Raises:
        DocumentError: the file is malformed or of a newer vmgate.
        ContentError: it cannot be read.
    """
    try:
        floor = Floor.parse(durable.read_file(path, Floor.LIMIT))
    except Missing:
        floor = Floor(time=0, root=anchor.version, releases=())
    least = witness()
    return floor if least is None else raised(floor, root=least.root, releases=dict(least.releases))


def save_floor(path: Path, floor: Floor) -> None:
    """Write the floor durably.

    Raises:
        ContentError: it failed; the old floor is unchanged.
    """
    durable.write_file(path, floor.encode())


def raised(floor: Floor, *, time: int = 0, root: int = 0, releases: Mapping[str, int] | None = None) -> Floor:
    """The floor with each part at least as high as given. Pure."""
    numbers = dict(floor.releases)
    for channel, number in (releases or {}).items():
        numbers[channel] = max(number, numbers.get(channel, 0))
    return Floor(time=max(floor.time, time), root=max(floor.root, root), releases=tuple(sorted(numbers.items())))


def require_clock(floor: Floor, now: int) -> None:
    """Require a clock that is not certainly wrong.

    Raises:
        ClockWrong: it is before the floor by more than is tolerated.
    """
    if now + LIMITS.clock_step < floor.time:
        raise _clock(now, f"this host has already seen {_date(floor.time)}")


def require_published(published: int, now: int) -> None:
    """Require that a release was not published in the future.

    Raises:
        ClockWrong: it was, by more than is tolerated.
    """
    if now + LIMITS.clock_step < published:
        raise _clock(now, f"the release was published on {_date(published)}")


def require_root(floor: Floor, version: int) -> None:
    """Require a root that is not older than the floor.

    Raises:
        BelowFloor: it is.
    """
    if version < floor.root:
        raise _below(f"the repository's root has version {version} and this host has seen {floor.root}")


def require_release(floor: Floor, release: Release) -> None:
    """Require a release that is not older than the floor.

    Raises:
        BelowFloor: it is.
    """
    lowest = dict(floor.releases).get(release.channel, 0)
    if release.number < lowest:
        raise _below(f"{release.channel} {release.number} is offered and this host has confirmed {lowest}")


def _below(why: str) -> BelowFloor:
    return BelowFloor("the update was refused", cause=why, remedy="ask the publisher why something older is offered")


def _clock(now: int, why: str) -> ClockWrong:
    return ClockWrong(
        "the update was not looked up", cause=f"the clock says {_date(now)} but {why}", remedy="set the clock"
    )


def _date(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
