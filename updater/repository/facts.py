# SPDX-License-Identifier: Apache-2.0
"""What metadata says, for the people who are to sign it: read from the bytes that are signed, never from a label.

TUF metadata of targets does not say whose it is, so what a key of ``targets`` signs must not be what a channel's key
would: ``require_kind`` keeps the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from securesystemslib.signer import Key
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Role as TufRole
from tuf.api.metadata import Root, TargetFile, Targets

from documents.fields import NAME
from documents.release import Release
from keys.roles import RELEASES
from updater.formats import release_target, target_name
from updater.repository.errors import RequestMalformed


def require_kind(role: str, signed: Any) -> None:
    """Require metadata that the keys of a role may sign.

    Raises:
        RequestMalformed: another role or type; targets metadata with files of its own, or that delegates otherwise than
            by path; a channel's that delegates.
    """
    if role not in (Root.type, Targets.type) and channel_of(role) is None:
        raise malformed(f"{role} is not signed by requests")
    if not isinstance(signed, Root if role == Root.type else Targets):
        raise malformed(f"the part for {role} is metadata of another type")
    if isinstance(signed, Targets):
        if role == Targets.type and signed.targets:
            raise malformed("metadata of targets names files, which only a channel's may")
        if role == Targets.type and not _delegates_by_path(signed):
            raise malformed("metadata of targets delegates by hashes of paths, which nobody who signs could read")
        if role != Targets.type and signed.delegations is not None:
            raise malformed(f"metadata of {role} delegates, which only that of targets may")


def _delegates_by_path(signed: Targets) -> bool:
    if signed.delegations is None:
        return True
    roles = signed.delegations.roles
    return roles is not None and all(role.paths is not None for role in roles.values())


def channel_of(role: str) -> str | None:
    """The channel that a role releases, if it is such a role."""
    name = role.removeprefix(RELEASES)
    return name if role.startswith(RELEASES) and NAME.fullmatch(name) else None


def require_files(channels: Iterable[Targets], files: Mapping[str, bytes]) -> None:
    """Require that each file is one that a channel's metadata names.

    Raises:
        RequestMalformed: it is not.
    """
    named = {name: target for signed in channels for name, target in names_of(signed).items()}
    for name, data in files.items():
        if name not in named:
            raise malformed(f"nothing names {name}")
        try:
            named[name].verify_length_and_hashes(data)
        except LengthOrHashMismatchError as error:
            raise malformed(f"{name}: {error}") from error


def names_of(signed: Targets) -> dict[str, TargetFile]:
    """The files that a channel's metadata names, by where they lie in the repository."""
    return {target_name(t.path, t.hashes.get("sha256", "")): t for t in signed.targets.values()}


def newest_release(role: str, signed: Targets, files: Mapping[str, bytes]) -> Release | None:
    """The release that a channel's metadata offers, out of files that passed ``require_files``; nothing if none.

    Raises:
        RequestMalformed: the file is not there, or is another channel's.
        DocumentError: it is no release.
    """
    channel = channel_of(role)
    current = signed.targets.get(release_target(channel, None)) if channel else None
    if current is None:
        return None
    data = files.get(target_name(current.path, current.hashes.get("sha256", "")))
    if data is None:
        raise malformed(f"the release that {role} offers did not come with it")
    release = Release.parse(data)
    if release.channel != channel:
        raise malformed(f"{role} offers a release of {release.channel}")
    return release


def facts(role: str, signed: Any, release: Release | None) -> tuple[str, ...]:
    """What is signed, line by line.

    Args:
        role: of the metadata.
        signed: the signed part, see ``require_kind``.
        release: see ``newest_release``.
    """
    lines = [f"{role} version {signed.version}, valid until {signed.expires.date().isoformat()}"]
    if isinstance(signed, Root):
        lines += _roles(signed.roles.items(), signed.keys)
    elif signed.delegations is not None:
        roles = signed.delegations.roles or {}
        lines += _roles(roles.items(), signed.delegations.keys)
    else:
        lines.append(f"{sum(not path.endswith('/current.json') for path in signed.targets)} releases")
    if release is not None:
        lines += _release(release)
    return tuple(lines)


def _roles(roles: Iterable[tuple[str, TufRole]], keys: Mapping[str, Key]) -> Iterable[str]:
    for name, role in roles:
        paths = getattr(role, "paths", None)
        yield f"{name}: {role.threshold} of {len(role.keyids)}" + (f", for {' '.join(paths)}" if paths else "")
        for keyid in role.keyids:
            # In full: the beginning of an id can be forged.
            yield f"  {keyid} {keys[keyid].scheme if keyid in keys else 'unknown'}"


def _release(release: Release) -> Iterable[str]:
    yield f"newest: {release.channel} {release.number} ({release.authority}), security epoch {release.epoch}"
    for artifact in release.artifacts:
        yield f"  {artifact.kind} {artifact.name} sha256:{artifact.fsverity}"
    for digest in release.refused:
        yield f"  refuses sha256:{digest}"


def malformed(why: str) -> RequestMalformed:
    """The error for a request that holds something else than it says."""
    return RequestMalformed("the request was refused", cause=why[:300], remedy="ask who made it")
