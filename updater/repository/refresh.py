# SPDX-License-Identifier: Apache-2.0
"""New snapshot and timestamp metadata: the end of each publication, and what keeps a repository from expiring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tuf.api.metadata import MetaFile

from content import durable, locks
from content.errors import storage
from content.store import ContentStore
from keys.unlock import Secret
from updater.formats import BLOBS, METADATA, TARGETS, metadata_name
from updater.repository.authority import role_signers
from updater.repository.chain import Chain, damaged, load_chain, meta_of, sign, write
from updater.repository.periods import PERIODS, Periods, expiry

LOCK = ".lock"


def refresh(repository: Path, keys: Path, passphrase: Secret, *, now: int, periods: Periods = PERIODS) -> None:
    """Sign snapshot and timestamp anew.

    Args:
        repository: its folder.
        keys: with the keys of snapshot and timestamp.
        passphrase: opens them.
        now: seconds since 1970 UTC.
        periods: how long what is signed now is valid.

    Raises:
        RepositoryDamaged: the repository is not consistent.
        KeysError: a key does not open.
        ContentError: busy, or it could not be read or written.
    """
    with locked(repository, wait=False):
        Refresher(keys, passphrase, load_chain(repository)).write(repository, {}, now, periods)


@contextmanager
def locked(repository: Path, *, wait: bool) -> Iterator[None]:
    """Be the only one who writes a repository, and remove what a cut left. Where there is none, nothing is left behind.

    Raises:
        RepositoryDamaged: there is none.
        ContentError: busy, and ``wait`` is false.
    """
    if not (repository / METADATA).is_dir():
        raise damaged(f"{repository} holds no metadata")
    with locks.exclusive(repository / LOCK, wait=wait):
        _sweep(repository)
        yield


def _sweep(repository: Path) -> None:
    """Not the repository's own folder: there the desk puts together what it will publish, before it takes the lock."""
    with storage("the repository was not read", repository):
        targets = [path for path in (repository / TARGETS).rglob("*") if path.is_dir()]
    for folder in (repository / METADATA, repository / TARGETS, *targets):
        durable.sweep(folder)
    ContentStore(repository / BLOBS).sweep()


class Refresher:
    """What signs snapshot and timestamp. Made before anything is written, so that a missing key changes nothing.

    Raises:
        SignersMissing: not enough of their keys are here.
        KeysError: a key does not open.
        ContentError: a key file cannot be read.
    """

    def __init__(self, keys: Path, passphrase: Secret, chain: Chain) -> None:
        self._chain = chain
        self._signers = {
            name: role_signers(chain.root.signed, name, keys, passphrase) for name in ("snapshot", "timestamp")
        }

    def write(self, repository: Path, changed: Mapping[str, MetaFile], now: int, periods: Periods) -> None:
        """Write a snapshot with the changed roles, then the timestamp: the one step that publishes.

        Raises:
            ContentError: it failed; what was published before still stands.
        """
        snapshot = self._chain.snapshot.metadata
        snapshot.signed.version += 1
        snapshot.signed.expires = expiry(now, periods.snapshot)
        snapshot.signed.meta.update(changed)
        data = sign(snapshot, self._signers["snapshot"])
        write(repository, metadata_name("snapshot", snapshot.signed.version), data)

        timestamp = self._chain.timestamp.metadata
        timestamp.signed.version += 1
        timestamp.signed.expires = expiry(now, periods.timestamp)
        timestamp.signed.snapshot_meta = meta_of(snapshot.signed, data)
        write(repository, metadata_name("timestamp", None), sign(timestamp, self._signers["timestamp"]))
