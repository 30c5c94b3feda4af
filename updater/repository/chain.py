# SPDX-License-Identifier: Apache-2.0
"""All metadata of a repository on this disk: read, verified from its first root on, signed anew, written.

Verified are signatures, versions, lengths and digests (TUF specification 1.0.34, section 5). Expiry is not: a
publisher must be able to refresh what has expired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from content import durable
from content.errors import Missing
from updater.assignment import ROLE as ASSIGNMENTS
from updater.formats import LIMITS, METADATA, metadata_name, target_name
from updater.repository.errors import RepositoryDamaged

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)

FILE_MODE = 0o644
FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Generic[S]):
    """One verified file of metadata: its name in the repository, its bytes, and what they say."""

    name: str
    data: bytes
    metadata: Metadata[S]

    @property
    def signed(self) -> S:
        """The signed part."""
        return self.metadata.signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The newest state of a repository, and all its roots from the first on."""

    roots: tuple[Held[Root], ...]
    timestamp: Held[Timestamp]
    snapshot: Held[Snapshot]
    targets: Held[Targets]
    releases: Mapping[str, Held[Targets]]
    """By the name of the role, such as ``releases-platform``."""
    assignments: Held[Targets] | None = None
    """The role that delegates to the bins of a fleet; the bins are read one by one, see ``assignments``."""

    @property
    def root(self) -> Held[Root]:
        """The newest root."""
        return self.roots[-1]


def load_chain(repository: Path) -> Chain:
    """Read and verify all metadata but the bins of the assignments.

    Raises:
        RepositoryDamaged: missing, malformed, unsigned, or not belonging together.
        ContentError: it cannot be read.
    """
    try:
        roots = _load_roots(repository)
        root = roots[-1].signed
        timestamp = _load(repository, Timestamp, "timestamp", None, LIMITS.timestamp, None)
        root.verify_delegate("timestamp", timestamp.metadata.signed_bytes, timestamp.metadata.signatures)
        snapshot = load_listed(repository, Snapshot, "snapshot", timestamp.signed.snapshot_meta, root)
        listed = snapshot.signed.meta
        targets = load_listed(repository, Targets, "targets", listed["targets.json"], root)
        releases = {}
        delegations = targets.signed.delegations
        for name in (delegations.roles or {}) if delegations else {}:
            releases[name] = load_listed(repository, Targets, name, listed[f"{name}.json"], targets.signed)
    except Missing as error:
        raise damaged(error.cause) from error
    except (RepositoryError, ValueError, KeyError) as error:
        raise damaged(f"{type(error).__name__}: {error}") from error
    assignments = releases.pop(ASSIGNMENTS, None)
    return Chain(
        roots=roots,
        timestamp=timestamp,
        snapshot=snapshot,
        targets=targets,
        releases=releases,
        assignments=assignments,
    )


def load_listed(repository: Path, kind: type[S], name: str, listed: MetaFile, delegator: Root | Targets) -> Held[S]:
    """Read and verify metadata as another role lists it.

    Raises:
        RepositoryDamaged: it says that it is another version or role.
        RepositoryError: unsigned, malformed, or of another length or digest.
        ValueError: malformed.
        ContentError: missing, or it cannot be read.
    """
    limit = LIMITS.snapshot if name == "snapshot" else LIMITS.targets
    held = _load(repository, kind, name, listed.version, limit, listed)
    delegator.verify_delegate(name, held.metadata.signed_bytes, held.metadata.signatures)
    if held.signed.version != listed.version:
        raise damaged(f"{held.name} says that it is version {held.signed.version}")
    return held


def sign(metadata: Metadata[S], signers: Sequence[Signer]) -> bytes:
    """Replace the signatures of metadata; returns its bytes."""
    metadata.signatures.clear()
    for signer in signers:
        # Not by `Metadata.sign`: it would hide what a token says behind an error of its own.
        signature = signer.sign(metadata.signed_bytes)
        metadata.signatures[signature.keyid] = signature
    return metadata.to_bytes()


def write(repository: Path, name: str, data: bytes) -> None:
    """Write one file of the repository, readable for all.

    Raises:
        ContentError: it failed; a file of that name is unchanged.
    """
    durable.make_directory((repository / name).parent, FOLDER_MODE)
    durable.write_file(repository / name, data, FILE_MODE)


def meta_of(signed: Targets | Snapshot, data: bytes) -> MetaFile:
    """How the next role up lists metadata: version, length and digest."""
    return MetaFile.from_data(signed.version, data, ["sha256"])


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


def damaged(why: str) -> RepositoryDamaged:
    """The error for a repository that is not consistent."""
    return RepositoryDamaged(
        "the repository was refused", cause=why[:300], remedy="restore it from a backup or from a mirror"
    )


def _load_roots(repository: Path) -> tuple[Held[Root], ...]:
    roots: list[Held[Root]] = []
    while len(roots) < LIMITS.root_rotations:
        version = len(roots) + 1
        try:
            held = _load(repository, Root, "root", version, LIMITS.root, None)
        except Missing:
            break
        # Signed by the root before it, and by itself (section 5.3.4).
        for signer in (roots[-1] if roots else held, held):
            signer.signed.verify_delegate("root", held.metadata.signed_bytes, held.metadata.signatures)
        if held.signed.version != version:
            raise damaged(f"{held.name} says that it is version {held.signed.version}")
        roots.append(held)
    if not roots:
        raise damaged(f"{repository / METADATA} has no first root")
    return tuple(roots)


def _load(
    repository: Path, kind: type[S], role_name: str, version: int | None, limit: int, listed: MetaFile | None
) -> Held[S]:
    name = metadata_name(role_name, version)
    data = durable.read_file(repository / name, limit)
    if listed is not None:
        listed.verify_length_and_hashes(data)
    metadata = Metadata[S].from_bytes(data)
    signed: object = metadata.signed
    if not isinstance(signed, kind):
        raise damaged(f"{name} is metadata of another role")
    return Held(name=name, data=data, metadata=metadata)
