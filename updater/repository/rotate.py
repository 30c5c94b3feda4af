# SPDX-License-Identifier: Apache-2.0
"""New keys for a role, or the same keys for longer: what has to be signed for it. Pure; writes nothing.

A role that the root names gets two new roots: one that lists old and new keys, so that what was published before and
what comes now are both valid, and one with the new keys alone. Between them snapshot and timestamp are signed anew.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.metadata import Role as TufRole

from updater.repository.chain import Chain, Held
from updater.repository.change import ONLINE, Change, Part, digest_of
from updater.repository.errors import NoSuchRole, RotationRefused
from updater.repository.periods import Periods, expiry

S = TypeVar("S", Root, Targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeys:
    """The keys that a role is to have.

    Attributes:
        add: new ones.
        remove: ids of those that leave; None for all that it has.
        threshold: how many must sign; None for as many as before.
    """

    add: tuple[Key, ...]
    remove: Collection[str] | None = None
    threshold: int | None = None


def known_role(chain: Chain, role: str) -> TufRole:
    """The keys and threshold of a role as they are.

    Raises:
        NoSuchRole: the repository does not have it.
    """
    if role in chain.releases:
        return chain.targets.signed.get_delegated_role(role)
    if role not in ("root", "targets", *ONLINE):
        names = ", ".join(("root", "targets", *ONLINE, *chain.releases))
        raise NoSuchRole("nothing was signed", cause=f"{role!r} is none of {names}", remedy="name one of them")
    return chain.root.signed.roles[role]


def rotate(chain: Chain, role: str, wanted: NewKeys, *, now: int, periods: Periods) -> Change:
    """Give a role other keys.

    Args:
        chain: the repository now.
        role: ``root``, ``targets``, ``snapshot``, ``timestamp``, or that of a channel.
        wanted: its keys.
        now: seconds since 1970 UTC.
        periods: how long what is signed now is valid.

    Raises:
        NoSuchRole: the repository does not have it.
        RotationRefused: the keys would not do.
    """
    purpose = f"rotate the keys of {role}"
    if role in chain.releases:
        targets = _next(chain.targets, now + periods.targets)
        delegations = targets.signed.delegations
        if delegations is None or delegations.roles is None:
            raise ValueError("a channel without delegation")
        others = {keyid for name, other in delegations.roles.items() if name != role for keyid in other.keyids}
        _assign(delegations.roles[role], delegations.keys, _changed(delegations.roles[role], wanted, others), wanted)
        _forget(delegations.keys, delegations.roles.values())
        channel = _next(chain.releases[role], now + periods.releases)
        return Change(
            purpose=purpose,
            parts=(_part("targets", chain.targets, targets), _part(role, chain.releases[role], channel)),
        )
    known_role(chain, role)
    roots = _roots(chain.root, role, wanted, now + periods.root)
    parts = [
        Part(role="root", previous=digest_of(old), metadata=new)
        for old, new in zip((chain.root.metadata, *roots), roots, strict=False)
    ]
    if role == "targets":
        parts.append(_part("targets", chain.targets, _next(chain.targets, now + periods.targets)))
    return Change(purpose=purpose, parts=tuple(parts))


def renew(chain: Chain, role: str, *, now: int, periods: Periods) -> Change:
    """Let a role's metadata be valid for longer, with nothing else changed.

    Raises:
        NoSuchRole: the repository does not have it, or ``refresh`` renews it.
    """
    if role in chain.releases:
        part = _part(role, chain.releases[role], _next(chain.releases[role], now + periods.releases))
    elif role == "targets":
        part = _part(role, chain.targets, _next(chain.targets, now + periods.targets))
    elif role == "root":
        part = _part(role, chain.root, _next(chain.root, now + periods.root))
    else:
        known_role(chain, role)
        raise NoSuchRole("nothing was signed", cause=f"{role} lives for days", remedy="run `vmgate repo refresh`")
    return Change(purpose=f"renew {role} {part.signed.version}", parts=(part,))


def _roots(old: Held[Root], role: str, wanted: NewKeys, expires: int) -> list[Metadata[Root]]:
    """The next roots: the last of them has what is wanted."""
    now = old.signed.roles[role]
    others = {keyid for name, other in old.signed.roles.items() if name != role for keyid in other.keyids}
    keyids = _changed(now, wanted, others)
    last = _next(old, expires)
    _assign(last.signed.roles[role], last.signed.keys, keyids, wanted)
    _forget(last.signed.keys, last.signed.roles.values())
    if role == "root":
        return [last]
    # Both sets of keys, and the lower threshold: valid is what either had signed.
    first = _next(old, expires)
    both = first.signed.roles[role]
    both.keyids = list(dict.fromkeys([*both.keyids, *keyids]))
    both.threshold = min(now.threshold, last.signed.roles[role].threshold)
    first.signed.keys.update({key.keyid: key for key in wanted.add})
    last.signed.version += 1
    return [first, last]


def _changed(now: TufRole, wanted: NewKeys, others: Collection[str]) -> list[str]:
    """The ids of the keys that the role will have. A new one that it has already stays: a cut can be made good."""
    gone = set(now.keyids if wanted.remove is None else wanted.remove)
    added = [key.keyid for key in wanted.add]
    keyids = list(dict.fromkeys([*(keyid for keyid in now.keyids if keyid not in gone), *added]))
    threshold = wanted.threshold or now.threshold
    if not gone <= set(now.keyids):
        raise _refused("a key to be removed is not one of the role's")
    if len(set(added)) != len(added) or set(added) & set(others):
        raise _refused("a new key is given twice, or signs for another role")
    if not 1 <= threshold <= len(keyids):
        raise _refused(f"{threshold} of {len(keyids)} keys can never sign")
    return keyids


def _assign(role: TufRole, known: dict[str, Key], keyids: list[str], wanted: NewKeys) -> None:
    role.keyids = keyids
    role.threshold = wanted.threshold or role.threshold
    known.update({key.keyid: key for key in wanted.add})


def _forget(known: dict[str, Key], roles: Iterable[TufRole]) -> None:
    used = {keyid for role in roles for keyid in role.keyids}
    for keyid in known.keys() - used:
        del known[keyid]


def _next(old: Held[S], expires: int) -> Metadata[S]:
    """The next version of metadata, unsigned."""
    new = copy.deepcopy(old.metadata)
    new.signatures.clear()
    new.signed.version += 1
    new.signed.expires = expiry(expires, 0)
    return new


def _part(role: str, old: Held[S], new: Metadata[S]) -> Part:
    return Part(role=role, previous=digest_of(old.metadata), metadata=new)


def _refused(why: str) -> RotationRefused:
    return RotationRefused("the keys were not rotated", cause=why, remedy="check keys and threshold")
