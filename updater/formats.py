# SPDX-License-Identifier: Apache-2.0
"""Where things lie in a repository and in a bundle, and how large they may be. Pure; opens nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from documents.fields import HEX_SHA256
from documents.release import MAX_NUMBER, Release
from keys.roles import releases_role

_NUMBERED = re.compile(r"releases/([^/]+)/([1-9][0-9]{0,9})\.json")

METADATA = "metadata"
TARGETS = "targets"
BLOBS = "blobs"
PACKS = "packs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that is read of each kind. Lengths in bytes, times in seconds."""

    root: int = 512_000
    timestamp: int = 16_384
    snapshot: int = 2_000_000
    targets: int = 5_000_000
    release: int = Release.LIMIT
    root_rotations: int = 256
    delegations: int = 32
    bundle_index: int = 16_000_000
    clock_step: int = 86_400
    """How far the clock may lie behind the floor, or behind a publication, before it is called wrong."""


LIMITS = Limits()


def metadata_name(role: str, version: int | None) -> str:
    """Where metadata lies, such as ``metadata/3.root.json``; without version only for the timestamp."""
    prefix = "" if version is None else f"{version}."
    return f"{METADATA}/{prefix}{quote(role, '')}.json"


def release_target(channel: str, number: int | None) -> str:
    """The target path of a release; without number that of the channel's newest.

    Raises:
        ValueError: not a channel's name, or not a release's number.
    """
    releases_role(channel)
    if number is not None and not 1 <= number <= MAX_NUMBER:
        raise ValueError(f"{number} is not the number of a release")
    return f"releases/{channel}/{'current' if number is None else number}.json"


def release_number(path: str, channel: str) -> int | None:
    """The number in the target path of a release; nothing if it has none or is no such path."""
    match = _NUMBERED.fullmatch(path)
    return int(match[2]) if match and match[1] == channel and int(match[2]) <= MAX_NUMBER else None


def target_name(path: str, sha256: str) -> str:
    """Where a target lies: consistent snapshots put its digest before its name (TUF 1.0.34, section 6.2)."""
    folder, slash, name = path.rpartition("/")
    return f"{TARGETS}/{folder}{slash}{sha256}.{name}"


def blob_name(fsverity: str) -> str:
    """Where an artifact lies.

    Raises:
        ValueError: not a digest.
    """
    if not HEX_SHA256.fullmatch(fsverity):
        raise ValueError(f"{fsverity!r} is not a SHA-256 digest")
    return f"{BLOBS}/{fsverity[:2]}/{fsverity}"


def pack_name(fsverity: str, part: str) -> str:
    """Where a part of an artifact's pack lies: ``head``, ``spans``, ``frames`` or a delta, see ``updater.pack``.

    Raises:
        ValueError: not a digest.
    """
    if not HEX_SHA256.fullmatch(fsverity):
        raise ValueError(f"{fsverity!r} is not a SHA-256 digest")
    return f"{PACKS}/{fsverity[:2]}/{fsverity}/{part}"


def delta_part(base: str) -> str:
    """The part of a pack that makes the artifact out of ``base``.

    Raises:
        ValueError: not a digest.
    """
    if not HEX_SHA256.fullmatch(base):
        raise ValueError(f"{base!r} is not a SHA-256 digest")
    return f"from-{base}"
