# SPDX-License-Identifier: Apache-2.0
"""A small fleet: a publisher with assignments, and hosts that follow them."""

from __future__ import annotations

from pathlib import Path

from content.store import ContentStore
from documents.assignment import Assignment, Range
from keys.anchor import TrustAnchor
from lab.hostile import AGENT, Host
from lab.publishing import DAY, PASSPHRASE, Publisher
from updater.client.places import Places
from updater.client.transaction import Update
from updater.repository.assignments import assign, unassign
from updater.repository.assignments_role import create_assignments

BITS = 4
ANY = {"platform": (1, 2**31), "desktop": (1, 2**31)}


class FleetHost(Host):
    """A host that follows the assignment of its name."""

    def __init__(self, folder: Path, anchor: bytes, name: str) -> None:
        super().__init__(folder, anchor)
        self.name = name
        self.update = Update(Places.below(folder), TrustAnchor(anchor), ContentStore(folder / "store"), AGENT, name)

    def numbers(self) -> dict[str, int]:
        """The active releases."""
        active = self.update.active()
        return {release.channel: release.number for release in active.parsed()} if active else {}


class Fleet:
    """What whoever runs a fleet does."""

    def __init__(self, publisher: Publisher, bits: int = BITS) -> None:
        self.publisher = publisher
        self._place = (publisher.repository, publisher.keys, PASSPHRASE)
        create_assignments(*self._place, now=publisher.now, bits=bits, periods=publisher.periods)

    def assign(self, *hosts: str, locked: bool = False, days: int = 90, **ranges: tuple[int, int]) -> int:
        """Assign hosts alike; without ranges they may take anything."""
        return assign(
            *self._place,
            [assignment(host, self.publisher.now + days * DAY, locked=locked, **ranges) for host in hosts],
            now=self.publisher.now,
        )

    def unassign(self, host: str) -> None:
        """Take an assignment away."""
        unassign(*self._place, host, now=self.publisher.now)


def assignment(host: str, expires: int, *, locked: bool = False, **ranges: tuple[int, int]) -> Assignment:
    """An assignment; without ranges of all channels."""
    allowed = [Range(channel=c, lowest=low, highest=high) for c, (low, high) in sorted((ranges or ANY).items())]
    return Assignment(host=host, channels=tuple(allowed), locked=locked, expires=expires)
