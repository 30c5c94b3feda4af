# SPDX-License-Identifier: Apache-2.0
"""The assignments role of a repository and its key: made once, and replaced when it was stolen. Assigns no host.

Targets delegates ``assignments/*`` to it; it delegates to its bins, with the same key. The key is online, since hosts
are assigned all the time; targets keys are needed for what stands here, and for nothing else of assignments.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, SuccinctRoles, Targets

from keys.files import create_key
from keys.roles import key_names, role
from keys.signers import names_here, open_role, require_signing
from keys.unlock import Secret, unlock
from updater.assignment import BITS, PATHS, ROLE
from updater.formats import metadata_name
from updater.repository.assignments import Bins, bin_names, listed_bins
from updater.repository.authority import role_signers
from updater.repository.chain import Chain, damaged, load_chain, meta_of, sign, write
from updater.repository.errors import NoAssignments
from updater.repository.periods import PERIODS, Periods, expiry
from updater.repository.refresh import Refresher, locked

MAX_BITS = 15
"""More bins would not fit into the list of what belongs together (``LIMITS.snapshot``)."""


def create_assignments(
    repository: Path, keys: Path, passphrase: Secret, *, now: int, bits: int = BITS, periods: Periods = PERIODS
) -> None:
    """Make the role's key and let targets delegate to it. There are no hosts yet.

    Args:
        repository: its folder.
        keys: with the key files of targets, snapshot and timestamp; the new key goes there.
        passphrase: opens them, and encrypts the new one.
        now: seconds since 1970 UTC.
        bits: 2 to the power of it bins, from 1 to ``MAX_BITS``; they are never divided anew.
        periods: how long what is signed now is valid.

    Raises:
        NoAssignments: the repository has the role already.
        RepositoryDamaged: the repository is not consistent.
        KeysError: a key does not open.
        ContentError: busy, or it could not be read or written.
        ValueError: the number of bits is out of range.
    """
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"{bits} bits are not 1 to {MAX_BITS}")
    require_signing()
    with locked(repository, wait=False):
        chain = load_chain(repository)
        if chain.assignments is not None:
            raise NoAssignments(
                "no role was made", cause="the repository has assignments already", remedy="use what is there"
            )
        signers = _targets_signers(chain, keys, passphrase)
        refresher = Refresher(keys, passphrase, chain)
        own_signers = _own_signers(keys, passphrase)
        own = _delegator(own_signers, bits, periods, now)
        own_data = sign(own, own_signers)
        write(repository, metadata_name(ROLE, own.signed.version), own_data)
        changed = _delegate(repository, chain, own_signers, signers, expiry(now, periods.targets))
        refresher.write(repository, {f"{ROLE}.json": meta_of(own.signed, own_data), **changed}, now, periods)


def replace_key(repository: Path, keys: Path, passphrase: Secret, *, now: int, periods: Periods = PERIODS) -> int:
    """Let a new key sign assignments, and the one before no longer. What hosts are assigned stays.

    The file of the old key must be away. A new one that is here already, such as a TPM made, is taken; else it is made.

    Args:
        repository: its folder.
        keys: with the key files of targets, snapshot and timestamp.
        passphrase: opens them, and encrypts the new one.
        now: seconds since 1970 UTC.
        periods: how long what is signed now is valid.

    Returns:
        How many bins were signed.

    Raises:
        NoAssignments: the repository has no such role, or its key file is still there.
        RepositoryDamaged: the repository is not consistent.
        KeysError: a key does not open.
        ContentError: busy, or it could not be read or written.
    """
    require_signing()
    with locked(repository, wait=False):
        chain = load_chain(repository)
        names = bin_names(chain)
        signers = _targets_signers(chain, keys, passphrase)
        refresher = Refresher(keys, passphrase, chain)
        own_signers = _own_signers(keys, passphrase)
        if {signer.public_key.keyid for signer in own_signers} & set(names.keyids):
            raise NoAssignments(
                "the key was not replaced",
                cause=f"the old one is still in {keys}",
                remedy=f"move the file of {key_names(ROLE)[0]} away first",
            )
        bins = Bins(repository, chain, own_signers, refresher)
        # Read with the old key, all of them: afterwards the role knows the new one only.
        listed = {name: bins.load(name) for name in listed_bins(chain)}
        _let_sign(chain, own_signers)
        for name, held in listed.items():
            bins.write(name, held, now, periods)
        bins.write_role(now, periods)
        changed = _delegate(repository, chain, own_signers, signers, expiry(now, periods.targets))
        bins.publish(now, periods, changed)
    return len(listed)


def _targets_signers(chain: Chain, keys: Path, passphrase: Secret) -> list[Signer]:
    return role_signers(chain.root.signed, "targets", keys, passphrase)


def _own_signers(keys: Path, passphrase: Secret) -> list[Signer]:
    """The role's key, new unless an earlier call was cut after it."""
    (name,) = key_names(ROLE)
    if not names_here(ROLE, keys):
        create_key(keys / f"{name}.pem", role(ROLE).curve, unlock(passphrase).passphrase())
    return open_role(ROLE, keys, passphrase)


def _delegator(signers: list[Signer], bits: int, periods: Periods, now: int) -> Metadata[Targets]:
    keys: dict[str, Key] = {signer.public_key.keyid: signer.public_key for signer in signers}
    bins = SuccinctRoles(list(keys), role(ROLE).threshold, bits, ROLE)
    return Metadata(Targets(expires=expiry(now, periods.assignments), delegations=Delegations(keys, None, bins)))


def _let_sign(chain: Chain, signers: Sequence[Signer]) -> None:
    """Let the role delegate its bins to other keys than before."""
    delegations = chain.assignments.signed.delegations if chain.assignments is not None else None
    if delegations is None or delegations.succinct_roles is None:
        raise damaged(f"{ROLE} has no bins")
    delegations.keys = {signer.public_key.keyid: signer.public_key for signer in signers}
    delegations.succinct_roles.keyids = list(delegations.keys)


def _delegate(
    repository: Path, chain: Chain, own: Sequence[Signer], signers: Sequence[Signer], expires: datetime
) -> dict[str, MetaFile]:
    """Write targets metadata that delegates to the role with these keys and no others."""
    targets = chain.targets.signed
    delegations = targets.delegations
    if delegations is None or delegations.roles is None:
        raise damaged("targets delegates to no role")
    for keyid in list(delegations.roles[ROLE].keyids) if ROLE in delegations.roles else ():
        targets.revoke_key(keyid, ROLE)
    delegations.roles[ROLE] = DelegatedRole(ROLE, [], role(ROLE).threshold, terminating=True, paths=[PATHS])
    for signer in own:
        targets.add_key(signer.public_key, ROLE)
    targets.version += 1
    targets.expires = expires
    data = sign(chain.targets.metadata, signers)
    write(repository, metadata_name("targets", targets.version), data)
    return {"targets.json": meta_of(targets, data)}
