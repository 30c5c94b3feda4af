# SPDX-License-Identifier: Apache-2.0
"""Check a whole repository on this disk: all metadata, all releases, all artifacts. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from content import durable
from content.errors import Missing, NotInStore
from content.store import ContentStore
from documents.release import Release
from updater.errors import MetadataExpired
from updater.formats import BLOBS, LIMITS, target_name
from updater.repository.chain import Chain, damaged, load_chain
from updater.repository.release import last_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a verified repository holds.

    Attributes:
        root: version of the newest root.
        channels: (role of the channel, number of its newest release or 0), in the order of delegation.
        releases: how many releases.
        blobs: how many artifacts, each counted once.
        length: bytes of the artifacts.
    """

    root: int
    channels: tuple[tuple[str, int], ...]
    releases: int
    blobs: int
    length: int


def verify_repository(repository: Path, *, now: int) -> Inventory:
    """Verify everything.

    Args:
        repository: its folder.
        now: seconds since 1970 UTC.

    Raises:
        RepositoryDamaged: something is missing, or metadata or a release is damaged or does not belong there.
        MetadataExpired: a role's metadata is out of date.
        DigestMismatch: an artifact is damaged.
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
    return Inventory(
        root=chain.root.signed.version,
        channels=tuple((name, last_number(held.signed)) for name, held in chain.releases.items()),
        releases=len(releases),
        blobs=len(artifacts),
        length=sum(length for _, length in artifacts),
    )


def expiries(chain: Chain) -> tuple[tuple[str, datetime], ...]:
    """When each role's metadata expires, in the order in which clients read it."""
    named = [("root", chain.root.signed), ("timestamp", chain.timestamp.signed), ("snapshot", chain.snapshot.signed)]
    roles = [("targets", chain.targets), *chain.releases.items()]
    return tuple((name, signed.expires) for name, signed in [*named, *((name, held.signed) for name, held in roles)])


def read_target(repository: Path, target: TargetFile) -> bytes:
    """The bytes of a target, verified.

    Raises:
        RepositoryDamaged: missing or another file.
        ContentError: it cannot be read.
    """
    name = target_name(target.path, target.hashes["sha256"])
    try:
        data = durable.read_file(repository / name, LIMITS.release)
        target.verify_length_and_hashes(data)
    except (LengthOrHashMismatchError, Missing) as error:
        raise damaged(f"{name}: {error}") from error
    return data


def _verify_fresh(chain: Chain, now: datetime) -> None:
    for name, expires in expiries(chain):
        if now >= expires:
            raise MetadataExpired(name, expires.date().isoformat())
