# SPDX-License-Identifier: Apache-2.0
"""Check a whole repository on this disk: all metadata, all releases, all artifacts. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from content.errors import NotInStore
from content.fsverity import Measured
from content.store import ContentStore
from documents.release import Release
from updater.assignment import ROLE as ASSIGNMENTS
from updater.errors import MetadataExpired
from updater.formats import BLOBS
from updater.repository.assignments import all_assignments
from updater.repository.chain import Chain, damaged, load_chain, read_target
from updater.repository.release import last_number
from updater.repository.unpacking import verify_pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a verified repository holds.

    Attributes:
        root: version of the newest root.
        channels: (role of the channel, number of its newest release or 0), in the order of delegation.
        releases: how many releases.
        blobs: how many artifacts, each counted once.
        length: bytes of the artifacts.
        assignments: how many hosts have one.
    """

    root: int
    channels: tuple[tuple[str, int], ...]
    releases: int
    blobs: int
    length: int
    assignments: int = 0


def verify_repository(repository: Path, *, now: int) -> Inventory:
    """Verify everything.

    Args:
        repository: its folder.
        now: seconds since 1970 UTC.

    Raises:
        RepositoryDamaged: something is missing, or metadata or a release is damaged or does not belong there.
        AssignmentRefused: an assignment is not what its listing says.
        MetadataExpired: a role's metadata is out of date.
        DigestMismatch: an artifact is damaged.
        PackMalformed: a pack or a delta does not give its artifact.
        ContentError: it cannot be read.
    """
    chain = load_chain(repository)
    _verify_fresh(chain, datetime.fromtimestamp(now, UTC))
    releases: set[bytes] = set()
    for held in chain.releases.values():
        for target in held.signed.targets.values():
            releases.add(read_target(repository, target))
    artifacts = {(a.fsverity, a.length) for data in releases for a in Release.parse(data).artifacts}
    store = ContentStore(repository / BLOBS)
    for fsverity, length in sorted(artifacts):
        try:
            store.verify(fsverity, length)
        except NotInStore as error:
            raise damaged(error.cause) from error
        verify_pack(repository, Measured(fsverity=fsverity, length=length))
    return Inventory(
        root=chain.root.signed.version,
        channels=tuple((name, last_number(held.signed)) for name, held in chain.releases.items()),
        releases=len(releases),
        blobs=len(artifacts),
        length=sum(length for _, length in artifacts),
        assignments=sum(1 for _ in all_assignments(repository, chain, now)),
    )


def expiries(chain: Chain) -> tuple[tuple[str, datetime], ...]:
    """When each role's metadata expires, in the order in which clients read it."""
    named = [("root", chain.root.signed), ("timestamp", chain.timestamp.signed), ("snapshot", chain.snapshot.signed)]
    roles = [("targets", chain.targets), *chain.releases.items()]
    roles += [(ASSIGNMENTS, chain.assignments)] if chain.assignments else []
    return tuple((name, signed.expires) for name, signed in [*named, *((name, held.signed) for name, held in roles)])


def _verify_fresh(chain: Chain, now: datetime) -> None:
    for name, expires in expiries(chain):
        if now >= expires:
            raise MetadataExpired(name, expires.date().isoformat())
