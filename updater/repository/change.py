# SPDX-License-Identifier: Apache-2.0
"""A change of a repository: the metadata that it wants signed, whose signatures it needs, and how it is published.

Published is in an order in which every reader always finds a whole: files first, then metadata of targets and channels,
then a root that still knows the old keys, then snapshot and timestamp, then the root that knows only the new ones. No
signature of an old online key is needed, so that a lost one can be replaced (decision 0016).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from keys.signers import open_role
from keys.unlock import Secret
from updater.formats import LIMITS, metadata_name
from updater.repository.authority import Delegator
from updater.repository.chain import Chain, Held, meta_of, write
from updater.repository.errors import RotationRefused, SignersMissing
from updater.repository.facts import malformed
from updater.repository.periods import Periods
from updater.repository.refresh import Refresher

ONLINE = ("snapshot", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """New metadata of one role.

    Attributes:
        role: its name.
        previous: SHA-256 of the signed part of what it follows.
        metadata: with the signatures that it has.
    """

    role: str
    previous: str
    metadata: Metadata[Any]

    @property
    def signed(self) -> Any:
        """The signed part."""
        return self.metadata.signed

    @property
    def digest(self) -> str:
        """SHA-256 of the signed part."""
        return digest_of(self.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be published, in this order.

    Attributes:
        purpose: for people.
        parts: roots first, then targets, then channels.
        files: (name in the repository, bytes) of release documents.
    """

    purpose: str
    parts: tuple[Part, ...]
    files: tuple[tuple[str, bytes], ...] = ()


def digest_of(metadata: Metadata[Any]) -> str:
    """SHA-256 of the signed part of metadata: the same whoever signed it."""
    return hashlib.sha256(metadata.signed_bytes).hexdigest()


def after(chain: Chain, parts: Sequence[Part]) -> Chain:
    """The chain once a change is published, without its snapshot and timestamp."""
    roots, targets, releases = list(chain.roots), chain.targets, dict(chain.releases)
    for part in parts:
        held: Held[Any] = Held(
            name=metadata_name(part.role, part.signed.version), data=part.metadata.to_bytes(), metadata=part.metadata
        )
        if part.role == Root.type:
            roots.append(held)
        elif part.role == Targets.type:
            targets = held
        else:
            releases[part.role] = held
    return replace(chain, roots=tuple(roots), targets=targets, releases=releases)


def delegators(chain: Chain, parts: Sequence[Part]) -> list[tuple[Delegator, ...]]:
    """Whose keys must sign each part: a root's predecessor and itself (TUF 1.0.34, section 5.3.4), else one."""
    then = after(chain, parts)
    previous = chain.root.signed
    found: list[tuple[Delegator, ...]] = []
    for part in parts:
        if part.role == Root.type:
            found.append((previous, part.signed))
            previous = part.signed
        else:
            found.append((then.root.signed if part.role == Targets.type else then.targets.signed,))
    return found


def sign_parts(chain: Chain, parts: Sequence[Part], keys: Path, secret: Secret) -> None:
    """Add the signatures that the keys in a folder can give and that are still needed.

    Raises:
        KeysError: a key does not open.
        ContentError: a file cannot be read.
    """
    for part, vouching in zip(parts, delegators(chain, parts), strict=True):
        for delegator in vouching:
            payload = part.metadata.signed_bytes
            result = delegator.get_verification_result(part.role, payload, part.metadata.signatures)
            if result.verified:
                continue
            for signer in open_role(part.role, keys, secret, result.unsigned.keys())[: result.missing]:
                signature = signer.sign(payload)
                part.metadata.signatures[signature.keyid] = signature


def verify_signed(chain: Chain, parts: Sequence[Part]) -> None:
    """Require all signatures, and the versions that clients expect next.

    Raises:
        RequestMalformed: a version is not the next one.
        RotationRefused: there would be more roots than hosts follow.
        SignersMissing: some are missing or wrong; the message says whose.
    """
    _require_next(chain, parts)
    missing = []
    for part, vouching in zip(parts, delegators(chain, parts), strict=True):
        for delegator in vouching:
            result = delegator.get_verification_result(part.role, part.metadata.signed_bytes, part.metadata.signatures)
            if not result.verified:
                ids = ", ".join(keyid[:8] for keyid in sorted(result.unsigned))
                missing.append(f"{part.role} {part.signed.version} lacks {result.missing} of the keys {ids}")
    if missing:
        raise SignersMissing(
            "nothing was published",
            cause=" and ".join(dict.fromkeys(missing))[:500],
            remedy="let their owners sign a request: make it with --request, then `vmgate repo sign` and `repo merge`",
        )


def publish_change(
    repository: Path, chain: Chain, change: Change, keys: Path, secret: Secret, *, now: int, periods: Periods
) -> None:
    """Publish a signed change. The caller holds the lock.

    Raises:
        SignersMissing: signatures are missing, or the keys of snapshot and timestamp.
        KeysError: a key does not open.
        ContentError: it could not be written; what was published before still stands.
    """
    verify_signed(chain, change.parts)
    then = after(chain, change.parts)
    refresher = Refresher(keys, secret, then) if _needs_refresh(chain, then, change) else None
    roots = [part for part in change.parts if part.role == Root.type]
    others = [part for part in change.parts if part.role != Root.type]
    for name, data in change.files:
        write(repository, name, data)
    for part in [*roots[:-1], *others]:
        _write_part(repository, part)
    if refresher is not None:
        changed = {f"{part.role}.json": meta_of(part.signed, part.metadata.to_bytes()) for part in others}
        refresher.write(repository, changed, now, periods)
    for part in roots[-1:]:
        _write_part(repository, part)


def _require_next(chain: Chain, parts: Sequence[Part]) -> None:
    if len(chain.roots) + sum(part.role == Root.type for part in parts) > LIMITS.root_rotations:
        raise RotationRefused(
            "nothing was published",
            cause=f"hosts follow {LIMITS.root_rotations} roots from their trust anchor on, and no more",
            remedy="give the hosts a newer trust anchor and start a new repository",
        )
    versions = {name: held.signed.version for name, held in chain.releases.items()}
    versions |= {Root.type: chain.root.signed.version, Targets.type: chain.targets.signed.version}
    for part in parts:
        versions[part.role] += 1
        if part.signed.version != versions[part.role]:
            raise malformed(f"{part.role} has version {part.signed.version}, and {versions[part.role]} comes next")


def _needs_refresh(chain: Chain, then: Chain, change: Change) -> bool:
    old, new = chain.root.signed.roles, then.root.signed.roles
    return any(part.role != Root.type for part in change.parts) or any(old[name] != new[name] for name in ONLINE)


def _write_part(repository: Path, part: Part) -> None:
    write(repository, metadata_name(part.role, part.signed.version), part.metadata.to_bytes())
