# SPDX-License-Identifier: Apache-2.0
"""Keys in their owner's care: new ones made, public halves handed over, roles given other keys.

A key that leaves a role keeps its file: whoever holds it decides when it is destroyed. This module signs no release.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key

from content import durable
from keys.files import create_key
from keys.roles import role
from keys.signers import names_here, open_key, read_public
from keys.tpm_signer import SUFFIX, create_tpm_key
from keys.unlock import Secret, Unlock, unlock
from publisher.errors import NoSuchKeyId
from updater.repository.ceremony import carry_out, propose
from updater.repository.chain import Chain
from updater.repository.change import Change
from updater.repository.errors import NoSuchRole
from updater.repository.periods import PERIODS
from updater.repository.rotate import NewKeys, known_role, renew, rotate

SHORTEST = 8
"""Characters of a key's id that will do to name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Which keys a role is to have.

    Attributes:
        role: its name.
        names: keys in the folder that come in.
        public: files with public keys that others hold.
        make: so many new keys are made in the folder; None for as many as leave, where no other keys come in.
        remove: ids of keys that leave, or their first characters; none for all that are there.
        threshold: how many must sign; None for as many as before.
    """

    role: str
    names: tuple[str, ...] = ()
    public: tuple[Path, ...] = ()
    make: int | None = None
    remove: tuple[str, ...] = ()
    threshold: int | None = None


def new_key(name: str, folder: Path, secret: Secret) -> tuple[str, Key]:
    """Make the next key of a role in an encrypted file; it signs nothing before the repository knows it.

    Returns:
        Its name and public half.

    Raises:
        KeysError: no passphrase.
        ContentError: it could not be written.
        NoSuchRole: there is no such role.
    """
    curve, new = _curve(name), _next_name(name, folder)
    key = create_key(folder / f"{new}.pem", curve, unlock(secret).passphrase())
    return new, CryptoSigner(key).public_key


def new_tpm_key(name: str, folder: Path, secrets: Unlock) -> tuple[str, Key]:
    """Make the next key of a role in the TPM that ``secrets`` names. See ``new_key``.

    Raises:
        KeysError: the role's keys cannot be in a TPM, the TPM is not there, or the PIN cannot be one.
        ContentError: the key's file could not be written.
        NoSuchRole: there is no such role.
    """
    curve, new = _curve(name), _next_name(name, folder)
    return new, create_tpm_key(folder / f"{new}{SUFFIX}", new, curve, secrets)


def public_half(name: str, folder: Path, secret: Secret) -> Key:
    """The public half of a key that is here.

    Raises:
        NoSuchRole: it is not the name of a key.
        KeysError: it is not here or does not open.
        ContentError: a file cannot be read.
    """
    _curve(name.rpartition("-")[0])
    return open_key(name, folder, secret).public_key


def rotate_role(
    repository: Path, keys: Path, secret: Secret, wanted: Rotation, *, now: int, request: Path | None = None
) -> Change:
    """Give a role other keys and publish that, or write a request for the signatures.

    New keys are made once all else is known to be right; they stay if the signatures are then missing.

    Args:
        repository: its folder.
        keys: folder of the keys.
        secret: opens them.
        wanted: see there.
        now: seconds since 1970 UTC.
        request: where the request goes; without it, all signatures must be made here.

    Raises:
        UpdaterError: the rotation is refused, signatures are missing, or the repository is damaged.
        NoSuchKeyId: a key to be removed is not there.
        KeysError: a key does not open or is of another kind.
        ContentError: a file cannot be read or written.
    """

    def make(chain: Chain) -> Change:
        now_there = known_role(chain, wanted.role).keyids
        remove = None if not wanted.remove else {_key_id(text, now_there) for text in wanted.remove}
        add = [open_key(name, keys, secret).public_key for name in wanted.names]
        add += [read_public(path, _curve(wanted.role)) for path in wanted.public]
        leaving = len(now_there if remove is None else remove)
        count = wanted.make if wanted.make is not None else 0 if add else leaving
        add += [new_key(wanted.role, keys, secret)[1] for _ in range(count)]
        return rotate(
            chain,
            wanted.role,
            NewKeys(add=tuple(add), remove=remove, threshold=wanted.threshold),
            now=now,
            periods=PERIODS,
        )

    if request is None:
        return carry_out(repository, keys, secret, make, now=now)
    proposed, change = propose(repository, keys, secret, make)
    durable.write_file(request, proposed, 0o644)
    return change


def renew_role(
    repository: Path, keys: Path, secret: Secret, name: str, *, now: int, request: Path | None = None
) -> Change:
    """Let a role's metadata be valid for longer, or write a request for the signatures. See ``rotate_role``."""

    def make(chain: Chain) -> Change:
        return renew(chain, name, now=now, periods=PERIODS)

    if request is None:
        return carry_out(repository, keys, secret, make, now=now)
    proposed, change = propose(repository, keys, secret, make)
    durable.write_file(request, proposed, 0o644)
    return change


def _next_name(name: str, folder: Path) -> str:
    durable.make_directory(folder, 0o700)
    number = max((int(key.rpartition("-")[2]) for key in names_here(name, folder)), default=0) + 1
    return f"{name}-{number}"


def _curve(name: str) -> str:
    try:
        return role(name).curve
    except ValueError as error:
        raise NoSuchRole(
            "no key was used",
            cause=f"{name[:80]!r} is not a role",
            remedy="name root, targets, releases-CHANNEL, snapshot, timestamp or tpm-policy",
        ) from error


def _key_id(text: str, known: list[str]) -> str:
    found = [keyid for keyid in known if len(text) >= SHORTEST and keyid.startswith(text)]
    if len(found) != 1:
        raise NoSuchKeyId(
            "the keys were not rotated",
            cause=f"{text[:80]!r} means {len(found)} keys of the role",
            remedy=f"give at least {SHORTEST} characters of one of {', '.join(keyid[:SHORTEST] for keyid in known)}",
        )
    return found[0]
