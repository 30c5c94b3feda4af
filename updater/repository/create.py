# SPDX-License-Identifier: Apache-2.0
"""A new repository, with new keys in one folder. Keys that ``signers.toml`` names there already are used, not made.

Keys that are to lie with several people take their places by ``rotate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import CryptoSigner, Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.metadata import Role as TufRole

from content import durable
from keys.files import create_key
from keys.roles import key_names, releases_role, role
from keys.signers import declared, open_key, require_signing
from keys.unlock import Secret, unlock
from updater.formats import METADATA, metadata_name
from updater.repository.chain import FOLDER_MODE, meta_of, sign, write
from updater.repository.errors import RepositoryExists
from updater.repository.periods import PERIODS, Periods, expiry

F = TypeVar("F", Targets, Snapshot)

TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")


def create(
    repository: Path, keys: Path, passphrase: Secret, channels: Sequence[str], *, now: int, periods: Periods = PERIODS
) -> bytes:
    """Make all keys and an empty repository.

    Args:
        repository: its folder; it must not hold a repository yet.
        keys: where the key files go, ``<role>-<n>.pem``; also the TPM policy key, ``tpm-policy-1.pem``.
        passphrase: encrypts the key files.
        channels: which releases it will have; distinct names.
        now: seconds since 1970 UTC.
        periods: how long what is signed now is valid.

    Returns:
        The bytes of the first root: the trust anchor of hosts.

    Raises:
        RepositoryExists: there is a repository already.
        KeysError: a key file is there already, or the passphrase is empty.
        ContentError: it could not be written.
        ValueError: names of channels are malformed or repeated, or there are none.
    """
    roles = [releases_role(channel) for channel in channels]
    if not roles or len(set(roles)) != len(roles):
        raise ValueError("channels must be distinct and at least one")
    if (repository / METADATA).exists():
        raise RepositoryExists(
            "no repository was made", cause=f"{repository} has one already", remedy="choose another folder"
        )
    require_signing()
    durable.make_directory(keys, 0o700)
    durable.make_directory(repository, FOLDER_MODE)
    signers = {name: _make_keys(keys, name, passphrase) for name in (*TOP_LEVEL, *roles, "tpm-policy")}

    anchor = sign(_root(signers, expiry(now, periods.root)), signers["root"])
    write(repository, metadata_name("root", 1), anchor)
    listed = {}
    for name in roles:
        empty = Metadata(Targets(expires=expiry(now, periods.releases)))
        listed[f"{name}.json"] = _write_first(repository, name, empty, signers)
    targets = _targets(signers, dict(zip(roles, channels, strict=True)), periods, now)
    listed["targets.json"] = _write_first(repository, "targets", targets, signers)
    snapshot = Metadata(Snapshot(expires=expiry(now, periods.snapshot), meta=listed))
    newest = _write_first(repository, "snapshot", snapshot, signers)
    timestamp = Metadata(Timestamp(expires=expiry(now, periods.timestamp), snapshot_meta=newest))
    write(repository, metadata_name("timestamp", None), sign(timestamp, signers["timestamp"]))
    return anchor


def _make_keys(folder: Path, name: str, secret: Secret) -> list[Signer]:
    return [
        open_key(key, folder, secret)
        if key in declared(folder)
        else CryptoSigner(create_key(folder / f"{key}.pem", role(name).curve, unlock(secret).passphrase()))
        for key in key_names(name)
    ]


def _root(signers: dict[str, list[Signer]], expires: datetime) -> Metadata[Root]:
    keys: dict[str, Key] = {s.public_key.keyid: s.public_key for name in TOP_LEVEL for s in signers[name]}
    roles = {name: TufRole([s.public_key.keyid for s in signers[name]], role(name).threshold) for name in TOP_LEVEL}
    return Metadata(Root(expires=expires, keys=keys, roles=roles, consistent_snapshot=True))


def _targets(
    signers: dict[str, list[Signer]], channels: dict[str, str], periods: Periods, now: int
) -> Metadata[Targets]:
    keys: dict[str, Key] = {s.public_key.keyid: s.public_key for name in channels for s in signers[name]}
    roles = {
        name: DelegatedRole(
            name=name,
            keyids=[s.public_key.keyid for s in signers[name]],
            threshold=role(name).threshold,
            terminating=True,
            paths=[f"releases/{channel}/*"],
        )
        for name, channel in channels.items()
    }
    return Metadata(Targets(expires=expiry(now, periods.targets), delegations=Delegations(keys, roles)))


def _write_first(repository: Path, name: str, metadata: Metadata[F], signers: dict[str, list[Signer]]) -> MetaFile:
    data = sign(metadata, signers[name])
    write(repository, metadata_name(name, 1), data)
    return meta_of(metadata.signed, data)
