# SPDX-License-Identifier: Apache-2.0
"""TUF metadata that waits for signatures: the same bytes at every run, for keys that are made out of numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Role,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from documents.release import Artifact
from documents.signing_request import SigningPart, SigningRequest, Wanted
from lab.publishing import platform
from updater.formats import release_target, target_name

CHANNEL = "releases-platform"
_EXPIRES = datetime(2027, 11, 26, tzinfo=UTC)
RELEASE = platform(3, Artifact(name="vmm/image", kind="image", fsverity="5" * 64, length=2**20)).encode()
FILE = target_name(release_target("platform", None), sha256(RELEASE).hexdigest())


def _keys(first: int, count: int) -> dict[str, Key]:
    private = (ec.derive_private_key(first + number, ec.SECP384R1()) for number in range(count))
    found = (SSlibKey.from_crypto(key.public_key()) for key in private)
    return {key.keyid: key for key in found}


def _root() -> Root:
    keys = _keys(10, 6)
    ids = list(keys)
    tops = {kind.type: ids[at : at + 3] for at, kind in enumerate((Root, Targets, Snapshot, Timestamp))}
    roles = {name: Role(keyids=found, threshold=2) for name, found in tops.items()}
    return Root(version=2, expires=_EXPIRES, keys=keys, roles=roles)


def _targets(*, succinct: bool) -> Targets:
    keys = _keys(20, 2)
    paths = {CHANNEL: "releases/platform/*", "assignments": "assignments/*"}
    if succinct:
        bins = SuccinctRoles(keyids=list(keys), threshold=1, bit_length=4, name_prefix="bin")
        return Targets(version=4, expires=_EXPIRES, delegations=Delegations(keys=keys, succinct_roles=bins))
    roles = {
        name: DelegatedRole(name=name, keyids=[keyid], threshold=1, terminating=True, paths=[path])
        for (name, path), keyid in zip(paths.items(), keys, strict=True)
    }
    return Targets(version=4, expires=_EXPIRES, delegations=Delegations(keys=keys, roles=roles))


def _channel() -> Targets:
    paths = (release_target("platform", 3), release_target("platform", None))
    return Targets(
        version=5, expires=_EXPIRES, targets={path: TargetFile.from_data(path, RELEASE, ["sha256"]) for path in paths}
    )


def _bytes(signed: Any) -> bytes:
    return Metadata(signed).to_bytes()


PARTS: dict[str, bytes] = {
    "root": _bytes(_root()),
    "targets": _bytes(_targets(succinct=False)),
    CHANNEL: _bytes(_channel()),
}
"""Metadata by the role whose keys are to sign it."""

OTHERS = (_bytes(_targets(succinct=True)),)
"""What nobody here makes: ``targets`` that delegates by hashes of paths."""


def request(parts: dict[str, bytes]) -> bytes:
    """A request for parts that are right or wrong; a release comes with its channel's."""
    wanted = (Wanted(threshold=2, keys=("1" * 64, "2" * 64)),)
    return SigningRequest(
        purpose="the next release",
        parts=tuple(
            SigningPart(role=role, previous="4" * 64, metadata=data, wanted=wanted) for role, data in parts.items()
        ),
        files=((FILE, RELEASE),) if CHANNEL in parts else (),
    ).encode()
