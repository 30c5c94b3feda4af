# SPDX-License-Identifier: Apache-2.0
"""Write and read the assignments of a fleet: the bins, and hosts in them.

A change signs the bins of its hosts anew, then snapshot and timestamp: nothing else is read or written, however many
hosts there are. A bin exists from its first host on. The snapshot lists bins by version alone, since their digests
would be most of what a host fetches; what that costs stands in decision 0017. Hosts see all of a change or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, SuccinctRoles, TargetFile, Targets

from content.errors import Missing
from documents.assignment import Assignment
from keys.signers import require_signing
from keys.unlock import Secret
from updater.assignment import ROLE, assignment_target, list_assignment, listed_assignment
from updater.errors import AssignmentRefused, MetadataExpired
from updater.formats import LIMITS, metadata_name
from updater.repository.authority import role_signers
from updater.repository.chain import (
    Chain,
    Held,
    damaged,
    load_chain,
    load_listed,
    meta_of,
    sign,
    write,
)
from updater.repository.errors import NoAssignments, NoSuchHost
from updater.repository.periods import PERIODS, Periods, expiry
from updater.repository.refresh import Refresher, locked


def assign(
    repository: Path,
    keys: Path,
    passphrase: Secret,
    assignments: Iterable[Assignment],
    *,
    now: int,
    without: Iterable[str] = (),
    periods: Periods = PERIODS,
) -> int:
    """Give hosts their assignments, in place of what they had, and take those of others away: all of it, or nothing.

    Args:
        repository: its folder.
        keys: with the key files of assignments, snapshot and timestamp.
        passphrase: opens them.
        assignments: of different hosts; of the same host the last one counts.
        now: seconds since 1970 UTC.
        without: hosts that are to have none; those that have none are left out.
        periods: how long what is signed now is valid.

    Returns:
        How many bins were signed.

    Raises:
        NoAssignments: the repository has no such role.
        AssignmentRefused: a bin has no room.
        DocumentError: no host would read an assignment; nothing was written.
        RepositoryDamaged: the repository is not consistent.
        KeysError: a key does not open.
        ContentError: busy, or it could not be read or written.
    """
    with locked(repository, wait=False):
        bins = _open(repository, keys, passphrase)
        changes: dict[str, dict[str, TargetFile]] = {}
        for assignment in assignments:
            target = list_assignment(assignment)
            changes.setdefault(bins.names.get_role_for_target(target.path), {})[target.path] = target
        gone: dict[str, list[str]] = {}
        for path in map(assignment_target, without):
            gone.setdefault(bins.names.get_role_for_target(path), []).append(path)
        for name in {**changes, **gone}:
            held = bins.load(name)
            for path in gone.get(name, ()):
                held.signed.targets.pop(path, None)
            held.signed.targets.update(changes.get(name, {}))
            bins.write(name, held, now, periods)
        bins.publish(now, periods)
    return len({**changes, **gone})


def unassign(
    repository: Path, keys: Path, passphrase: Secret, host: str, *, now: int, periods: Periods = PERIODS
) -> None:
    """Take a host's assignment away: if it follows assignments, it takes nothing more.

    Raises:
        NoSuchHost: it has none.
        VmgateError: see ``assign``.
        ValueError: not a host's name.
    """
    path = assignment_target(host)
    with locked(repository, wait=False):
        bins = _open(repository, keys, passphrase)
        name = bins.names.get_role_for_target(path)
        held = bins.load(name)
        if held.signed.targets.pop(path, None) is None:
            raise _no_such_host(host)
        bins.write(name, held, now, periods)
        bins.publish(now, periods)


def renew(repository: Path, keys: Path, passphrase: Secret, *, now: int, periods: Periods = PERIODS) -> int:
    """Sign the role, and its bins that are past half of their time, anew. What hosts are assigned stays.

    Returns:
        How many bins were signed.

    Raises:
        VmgateError: see ``assign``.
    """
    limit = expiry(now, periods.assignments // 2)
    signed = 0
    with locked(repository, wait=False):
        bins = _open(repository, keys, passphrase)
        for name in listed_bins(bins.chain):
            held = bins.load(name)
            if held.signed.expires < limit:
                bins.write(name, held, now, periods)
                signed += 1
        bins.write_role(now, periods)
        bins.publish(now, periods)
    return signed


def assignment_of(repository: Path, host: str) -> Assignment:
    """The assignment of one host, verified.

    Raises:
        NoAssignments: the repository has no such role.
        NoSuchHost: the host has none.
        RepositoryDamaged: the repository is not consistent.
        ContentError: it cannot be read.
    """
    held = bin_of(repository, load_chain(repository), host)
    return listed_assignment(held.signed.targets[assignment_target(host)])


def bin_of(repository: Path, chain: Chain, host: str) -> Held[Targets]:
    """The bin that lists a host, verified.

    Raises:
        VmgateError: see ``assignment_of``.
    """
    try:
        path = assignment_target(host)
    except ValueError as error:
        raise _no_such_host(host) from error
    name = bin_names(chain).get_role_for_target(path)
    held = load_bin(repository, chain, name) if f"{name}.json" in chain.snapshot.signed.meta else None
    if held is None or path not in held.signed.targets:
        raise _no_such_host(host)
    return held


def all_assignments(repository: Path, chain: Chain, now: int | None = None) -> Iterator[Assignment]:
    """Every assignment, verified, bin by bin.

    Args:
        repository: its folder.
        chain: its metadata; without an assignments role there is nothing.
        now: seconds since 1970 UTC; if given, no bin may have expired.

    Raises:
        RepositoryDamaged: a bin is damaged, or lists a host that is not its own.
        MetadataExpired: a bin's metadata is out of date.
        AssignmentRefused: an assignment is not what its listing says.
        DocumentError: an assignment is malformed.
        ContentError: it cannot be read.
    """
    for name in listed_bins(chain):
        bin_role = load_bin(repository, chain, name).signed
        if now is not None and bin_role.is_expired(datetime.fromtimestamp(now, UTC)):
            raise MetadataExpired(name, bin_role.expires.date().isoformat())
        for path, target in bin_role.targets.items():
            if bin_names(chain).get_role_for_target(path) != name:
                raise damaged(f"{name} lists {path}, which is not its own")
            yield listed_assignment(target)


def bin_names(chain: Chain) -> SuccinctRoles:
    """What tells the bin of a host.

    Raises:
        NoAssignments: the repository has no assignments role.
        RepositoryDamaged: the role has no bins.
    """
    if chain.assignments is None:
        raise NoAssignments(
            "there are no assignments",
            cause="the repository has no assignments role",
            remedy="make it with the targets keys: `vmgate repo assign init`",
        )
    delegations = chain.assignments.signed.delegations
    if delegations is None or delegations.succinct_roles is None:
        raise damaged(f"{ROLE} has no bins")
    return delegations.succinct_roles


def listed_bins(chain: Chain) -> list[str]:
    """The bins that there are, in their order; none where there is no assignments role."""
    names = bin_names(chain) if chain.assignments is not None else None
    listed = (name.removesuffix(".json") for name in chain.snapshot.signed.meta)
    return sorted(name for name in listed if names is not None and names.is_delegated_role(name))


def load_bin(repository: Path, chain: Chain, name: str) -> Held[Targets]:
    """A bin that is listed, verified.

    Raises:
        RepositoryDamaged: missing, malformed, unsigned, or of another version.
        ContentError: it cannot be read.
    """
    if chain.assignments is None:
        raise damaged(f"{name} is a bin of no role")
    try:
        return load_listed(
            repository, Targets, name, chain.snapshot.signed.meta[f"{name}.json"], chain.assignments.signed
        )
    except Missing as error:
        raise damaged(error.cause) from error
    except (RepositoryError, ValueError, KeyError) as error:
        raise damaged(f"{type(error).__name__}: {error}") from error


class Bins:
    """The bins of a locked repository while some are changed. Keys are opened before anything is written.

    Args:
        repository: its folder.
        chain: its metadata.
        signers: of the role and its bins from now on.
        refresher: of the same chain.

    Attributes:
        chain: what is given.
        names: what tells the bin of a host.
    """

    def __init__(self, repository: Path, chain: Chain, signers: Sequence[Signer], refresher: Refresher) -> None:
        self._repository = repository
        self.chain = chain
        self.names = bin_names(chain)
        self._signers = signers
        self._refresher = refresher
        self._changed: dict[str, MetaFile] = {}

    def load(self, name: str) -> Metadata[Targets]:
        """A bin as it is, or an empty one of version 0."""
        if f"{name}.json" in self.chain.snapshot.signed.meta:
            return load_bin(self._repository, self.chain, name).metadata
        empty = Metadata(Targets())
        empty.signed.version = 0
        return empty

    def write(self, name: str, held: Metadata[Targets], now: int, periods: Periods) -> None:
        """Sign a bin as its next version. Hosts do not see it yet."""
        data = self._sign(name, held, now, periods)
        if len(data) > LIMITS.targets:
            raise AssignmentRefused(
                "nothing was assigned",
                cause=f"{name} would have {len(data)} bytes and hosts read {LIMITS.targets}",
                remedy="assign to fewer hosts, or begin a repository with more bins",
            )
        write(self._repository, metadata_name(name, held.signed.version), data)
        self._changed[f"{name}.json"] = MetaFile(held.signed.version)

    def write_role(self, now: int, periods: Periods) -> None:
        """Sign the role that delegates to the bins as its next version."""
        if self.chain.assignments is not None:
            held = self.chain.assignments.metadata
            data = self._sign(ROLE, held, now, periods)
            write(self._repository, metadata_name(ROLE, held.signed.version), data)
            self._changed[f"{ROLE}.json"] = meta_of(held.signed, data)

    def publish(self, now: int, periods: Periods, changed: Mapping[str, MetaFile] | None = None) -> None:
        """Let hosts see what was written, and what else was ``changed``."""
        self._refresher.write(self._repository, {**self._changed, **(changed or {})}, now, periods)

    def _sign(self, name: str, held: Metadata[Targets], now: int, periods: Periods) -> bytes:
        held.signed.version += 1
        held.signed.expires = expiry(now, periods.assignments)
        return sign(held, self._signers)


def _open(repository: Path, keys: Path, passphrase: Secret) -> Bins:
    require_signing()
    chain = load_chain(repository)
    bin_names(chain)
    signers = role_signers(chain.targets.signed, ROLE, keys, passphrase)
    return Bins(repository, chain, signers, Refresher(keys, passphrase, chain))


def _no_such_host(host: str) -> NoSuchHost:
    return NoSuchHost(
        "the assignment was not found",
        cause=f"the repository has none for {host}",
        remedy="see `vmgate repo assign list`",
    )
