# SPDX-License-Identifier: Apache-2.0
"""When a release is due on a host that updates itself. Pure: the place of the host and the time are given.

Between two steps the hosts come one after another, evenly, so that no step is a rush: at the time of a step exactly
its share of the places is due. The model is Bottlerocket's updater. A wave delays; it decides nothing about trust.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from documents.release import Release
from documents.waves import HOSTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An offered release whose wave has not reached this host.

    Attributes:
        channel, number: of the release.
        due: when it will have, in seconds since 1970 UTC.
    """

    channel: str
    number: int
    due: int


def due_at(release: Release, published: int, place: int) -> int:
    """When a release is due.

    Args:
        release: with its waves.
        published: when that was, in seconds since 1970 UTC.
        place: of the host, 0 to 999.
    """
    if not 0 <= place < HOSTS:
        raise ValueError(f"{place} is no place in a wave")
    after, share = 0, 0
    for wave in release.waves:
        if place < wave.share:
            # Rounded up: the last host of a step is due exactly at its end.
            gone = -(-(wave.after - after) * (place + 1 - share) // (wave.share - share))
            return published + after + gone
        after, share = wave.after, wave.share
    return published


def waiting(
    offered: Mapping[str, bytes], published: Mapping[str, int], active: Collection[bytes], place: int, now: int
) -> tuple[Waiting, ...]:
    """The offered releases that are not due yet, sorted by channel.

    A channel of which this host has no release waits for nothing.

    Args:
        offered: the newest release document of each channel, by channel.
        published: when each was published, by channel.
        active: the release documents of the active generation.
        place: of this host.
        now: seconds since 1970 UTC.

    Raises:
        DocumentError: a release is malformed.
    """
    known = {Release.parse(data).channel for data in active}
    found: list[Waiting] = []
    for channel, data in sorted(offered.items()):
        if channel in known and data not in active:
            release = Release.parse(data)
            due = due_at(release, published[channel], place)
            if now < due:
                found.append(Waiting(channel=channel, number=release.number, due=due))
    return tuple(found)
