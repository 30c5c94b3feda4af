# SPDX-License-Identifier: Apache-2.0
"""Signing over several machines: a change goes out as a request, comes back signed, and is merged and published.

A request carries no trust. Who signs sees what the metadata itself says; who merges checks every signature against the
repository as it is then, and refuses a request that follows an older state. A refresh in between does not make a state
older: snapshot and timestamp are no part of a request. A merge that was cut can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from content.store import ContentStore
from documents.release import Release
from documents.signing_request import SigningPart, SigningRequest, Wanted
from keys.signers import open_role, require_signing
from keys.unlock import Secret
from updater.formats import BLOBS, release_target, target_name
from updater.repository.authority import Delegator
from updater.repository.chain import Chain, load_chain, read_target
from updater.repository.change import Change, Part, delegators, digest_of, publish_change, sign_parts
from updater.repository.errors import RequestStale, SignersMissing
from updater.repository.facts import channel_of, facts, malformed, names_of, newest_release, require_files, require_kind
from updater.repository.periods import PERIODS, Periods
from updater.repository.refresh import locked
from updater.repository.release import add_blobs, add_packs, channel_role, enter, require_newer

Make = Callable[[Chain], Change]
"""Says what is to change, given the repository as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A request as whoever signs it must see it.

    Attributes:
        purpose: what its maker says; nobody vouches for it.
        facts: what the metadata says, by part.
        parts: the metadata.
        request: the document.
    """

    purpose: str
    facts: tuple[tuple[str, ...], ...]
    parts: tuple[Part, ...]
    request: SigningRequest


def carry_out(
    repository: Path, keys: Path, secret: Secret, make: Make, *, now: int, periods: Periods = PERIODS
) -> Change:
    """Make a change, sign it with the keys at hand, and publish it.

    Raises:
        SignersMissing: not enough keys are here; nothing was changed.
        UpdaterError: the change is refused, or the repository is damaged.
        KeysError: a key does not open.
        ContentError: busy, or it could not be read or written.
    """
    require_signing()
    with locked(repository, wait=False):
        chain = load_chain(repository)
        change = make(chain)
        sign_parts(chain, change.parts, keys, secret)
        publish_change(repository, chain, change, keys, secret, now=now, periods=periods)
    return change


def propose(repository: Path, keys: Path, secret: Secret, make: Make) -> tuple[bytes, Change]:
    """Make a change, sign it with the keys at hand, and return the request for it; the repository stays as it is.

    Raises:
        UpdaterError: the change is refused, or the repository is damaged.
        KeysError: a key does not open.
        ContentError: busy, or it could not be read.
    """
    require_signing()
    with locked(repository, wait=False):
        chain = load_chain(repository)
        change = make(chain)
        sign_parts(chain, change.parts, keys, secret)
        return _request(repository, chain, change).encode(), change


def propose_release(
    repository: Path,
    keys: Path,
    secret: Secret,
    release_bytes: bytes,
    blobs: Iterable[Path],
    *,
    now: int,
    periods: Periods = PERIODS,
) -> bytes:
    """Take a release's artifacts into the repository, where nothing names them yet, and request its signature.

    Raises:
        NoSuchChannel, ReleaseRefused: see ``updater.repository.release.publish``.
        UpdaterError, KeysError, ContentError: see ``propose``.
    """
    release = Release.parse(release_bytes)

    def make(chain: Chain) -> Change:
        held = channel_role(chain, release.channel)
        require_newer(held.signed, release)
        add_blobs(ContentStore(repository / BLOBS), release, blobs)
        add_packs(repository, held.signed, release)
        previous = digest_of(held.metadata)
        names = enter(held.signed, release, release_bytes, now, periods)
        held.metadata.signatures.clear()
        role = next(name for name, other in chain.releases.items() if other is held)
        return Change(
            purpose=f"release {release.channel} {release.number}",
            parts=(Part(role=role, previous=previous, metadata=held.metadata),),
            files=tuple((name, release_bytes) for name in names),
        )

    return propose(repository, keys, secret, make)[0]


def read_request(untrusted_bytes: bytes) -> Reading:
    """Read a request and what it wants signed.

    Raises:
        DocumentError: it is no request.
        RequestMalformed: it holds what nobody may sign.
    """
    request = SigningRequest.parse(untrusted_bytes)
    files = dict(request.files)
    parts = []
    for untrusted in request.parts:
        try:
            metadata = Metadata[Any].from_bytes(untrusted.metadata)
        except (RepositoryError, ValueError) as error:
            raise malformed(f"the part for {untrusted.role}: {error}") from error
        require_kind(untrusted.role, metadata.signed)
        parts.append(Part(role=untrusted.role, previous=untrusted.previous, metadata=metadata))
    require_files([part.signed for part in parts if channel_of(part.role)], files)
    said = [facts(part.role, part.signed, newest_release(part.role, part.signed, files)) for part in parts]
    return Reading(purpose=request.purpose, facts=tuple(said), parts=tuple(parts), request=request)


def sign_request(reading: Reading, keys: Path, secret: Secret) -> tuple[bytes, int]:
    """Sign with those keys in a folder that a request asks for.

    Returns:
        The request with the signatures, and how many were added.

    Raises:
        SignersMissing: it asks for none of them, or they have signed.
        KeysError: a key does not open.
        ContentError: a file cannot be read.
    """
    added = 0
    signed = []
    for part, asked in zip(reading.parts, reading.request.parts, strict=True):
        payload, signatures = part.metadata.signed_bytes, part.metadata.signatures
        for signer in open_role(part.role, keys, secret, {keyid for group in asked.wanted for keyid in group.keys}):
            there = signatures.get(signer.public_key.keyid)
            if there is None or not _verifies(signer.public_key, there, payload):
                signature = signer.sign(payload)
                signatures[signature.keyid] = signature
                added += 1
        signed.append(replace(asked, metadata=part.metadata.to_bytes()))
    if not added:
        raise SignersMissing(
            "nothing was signed",
            cause=f"{keys} has none of the keys that the request still asks for",
            remedy="give the folder of the keys that it names",
        )
    return replace(reading.request, parts=tuple(signed)).encode(), added


def merge(
    repository: Path,
    keys: Path,
    secret: Secret,
    requests: Sequence[bytes],
    *,
    now: int,
    periods: Periods = PERIODS,
) -> Change:
    """Join the signatures of copies of one request, and publish it when all are there.

    Args:
        repository: its folder.
        keys: with the keys of snapshot and timestamp; any others that are there and needed sign as well.
        secret: opens them.
        requests: as they came back, at least one.
        now: seconds since 1970 UTC.
        periods: how long what is signed now is valid.

    Raises:
        RequestStale: the repository has changed since, or the request was published already.
        RequestMalformed: the copies are not of one request, or hold what nobody may sign.
        SignersMissing: signatures are missing.
        DocumentError: a file is no request.
        KeysError: a key does not open.
        ContentError: busy, damaged, or it could not be read or written.
    """
    readings = [read_request(untrusted) for untrusted in requests]
    first = readings[0]
    if any(_unsigned(reading) != _unsigned(first) for reading in readings):
        raise malformed("the files are not copies of one request")
    require_signing()
    with locked(repository, wait=False):
        chain = load_chain(repository)
        parts = _pending(chain, first.parts)
        _join(chain, parts, readings)
        _require_complete(repository, chain, parts, dict(first.request.files))
        sign_parts(chain, parts, keys, secret)
        change = Change(purpose=first.purpose, parts=parts, files=first.request.files)
        publish_change(repository, chain, change, keys, secret, now=now, periods=periods)
    return change


def _request(repository: Path, chain: Chain, change: Change) -> SigningRequest:
    """The request for a change; what a channel offers goes with it, so that who signs can see it."""
    files = dict(change.files)
    for part in change.parts:
        channel = channel_of(part.role)
        current = part.signed.targets.get(release_target(channel, None)) if channel else None
        if current is not None and (name := target_name(current.path, current.hashes["sha256"])) not in files:
            files[name] = read_target(repository, current)
    parts = [
        SigningPart(
            role=part.role,
            previous=part.previous,
            metadata=part.metadata.to_bytes(),
            wanted=tuple(_wanted(delegator, part.role) for delegator in vouching),
        )
        for part, vouching in zip(change.parts, delegators(chain, change.parts), strict=True)
    ]
    return SigningRequest(purpose=change.purpose, parts=tuple(parts), files=tuple(files.items()))


def _wanted(delegator: Delegator, name: str) -> Wanted:
    role = delegator.get_delegated_role(name)
    return Wanted(threshold=role.threshold, keys=tuple(role.keyids))


def _unsigned(reading: Reading) -> tuple[object, ...]:
    """What copies of one request have in common."""
    return reading.purpose, reading.request.files, tuple((p.role, p.previous, p.digest) for p in reading.parts)


def _pending(chain: Chain, parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts that are not published yet; what they follow must be what the repository has."""
    there = {name: [digest_of(held.metadata)] for name, held in chain.releases.items()}
    there["targets"] = [digest_of(chain.targets.metadata)]
    there[Root.type] = [digest_of(root.metadata) for root in chain.roots]
    left = []
    for part in parts:
        known = there.get(part.role, [])
        if part.digest in known:
            continue
        if not known or part.previous != known[-1]:
            raise _stale(f"{part.role} {part.signed.version} does not follow what the repository has")
        known.append(part.digest)
        left.append(part)
    if not left:
        raise _stale("it is published already")
    return tuple(left)


def _require_complete(repository: Path, chain: Chain, parts: Sequence[Part], files: Mapping[str, bytes]) -> None:
    """What a channel's metadata names for the first time must have come with it, and its artifacts must be here."""
    for part in parts:
        if channel_of(part.role):
            new = names_of(part.signed).keys() - names_of(chain.releases[part.role].signed).keys()
            if missing := new - files.keys():
                raise malformed(f"{min(missing)} did not come with it")
            for data in {files[name] for name in new}:
                add_blobs(ContentStore(repository / BLOBS), Release.parse(data), ())


def _join(chain: Chain, parts: Sequence[Part], readings: Sequence[Reading]) -> None:
    """Give each part all signatures that verify, from whichever copy; the others are left out."""
    for part, vouching in zip(parts, delegators(chain, parts), strict=True):
        copies = [other for reading in readings for other in reading.parts if other.digest == part.digest]
        candidates = [signature for copy in copies for signature in copy.metadata.signatures.values()]
        payload = part.metadata.signed_bytes
        valid = {
            signature.keyid: signature
            for signature in candidates
            if any(_verifies(_key(delegator, signature.keyid), signature, payload) for delegator in vouching)
        }
        part.metadata.signatures.clear()
        part.metadata.signatures.update(valid)


def _key(delegator: Delegator, keyid: str) -> Key | None:
    try:
        return delegator.get_key(keyid)
    except ValueError:
        return None


def _verifies(key: Key | None, signature: Signature, payload: bytes) -> bool:
    try:
        if key is not None:
            key.verify_signature(signature, payload)
    except UnverifiedSignatureError:
        return False
    return key is not None


def _stale(why: str) -> RequestStale:
    return RequestStale("nothing was published", cause=why, remedy="make the request again")
