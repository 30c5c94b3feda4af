# SPDX-License-Identifier: Apache-2.0
"""Remove from a repository what nobody can ask for any more. Nothing else ever removes a file from one.

1. Metadata whose successor is older than a timestamp is valid: a host that met an older timestamp on a slow mirror
   still finds all that belongs to it. Roots stay for good: a host walks over every one.
2. Releases that no metadata lists that stayed, and the artifacts that only they name. What a listed release names
   stays, so whatever a next release is made to follow, or a host may be held at, is there. Only artifacts of such
   releases are removed: what else lies between the blobs is not known here and stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from content import durable
from content.errors import storage
from content.store import ContentStore
from documents.release import Release
from updater.formats import BLOBS, LIMITS, METADATA, pack_name, target_name
from updater.pack import HEAD
from updater.repository.chain import Chain, damaged, load_chain, read_target
from updater.repository.periods import PERIODS
from updater.repository.refresh import locked

_METADATA = re.compile(r"([1-9][0-9]{0,9})\.(.{1,200})\.json")
_RELEASE = re.compile(r"[0-9a-f]{64}\.([1-9][0-9]{0,9}|current)\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was removed.

    Attributes:
        metadata: how many files of metadata.
        releases: how many release documents.
        blobs: how many artifacts, their packs with them.
        length: bytes of all of it, packs apart.
    """

    metadata: int
    releases: int
    blobs: int
    length: int


def collect(repository: Path, *, now: int, age: int = PERIODS.timestamp) -> Collected:
    """Remove what is no longer listed, and was not listed lately.

    Args:
        repository: its folder.
        now: seconds since 1970 UTC.
        age: seconds for which what was replaced stays.

    Raises:
        RepositoryDamaged: the repository is not consistent; nothing was removed.
        DocumentError: a release is malformed; as far.
        ContentError: busy, or it failed; what was removed stays removed.
    """
    with locked(repository, wait=False):
        chain = load_chain(repository)
        versions = _versions(repository, chain)
        metadata = {path for found in versions.values() for path in _superseded(found, now - age)}
        listing = [path for name in chain.releases for path in versions[name].values() if path not in metadata]
        listed, kept = _listed(repository, listing)
        releases = [path for path in _releases(repository, listed) if _written(path) <= now - age]
        store = ContentStore(repository / BLOBS)
        # Artifacts before the documents that name them: after a cut the next run still finds them.
        blobs = [store.path(fsverity) for fsverity in sorted(_named(releases) - kept)]
        blobs = [path for path in blobs if path.is_file()]
        packs = {path: (repository / pack_name(path.name, HEAD)).parent for path in blobs}
        length = 0
        for path in (*blobs, *releases, *sorted(metadata)):
            length += path.stat().st_size
            if path in packs and packs[path].is_dir():
                durable.remove_tree(packs[path])
            durable.remove(path)
    return Collected(metadata=len(metadata), releases=len(releases), blobs=len(blobs), length=length)


def _versions(repository: Path, chain: Chain) -> dict[str, dict[int, Path]]:
    """The files of each role that the snapshot lists, and of the snapshot, up to the listed version, in order."""
    current = {name.removesuffix(".json"): meta.version for name, meta in chain.snapshot.signed.meta.items()}
    current["snapshot"] = chain.snapshot.signed.version
    found: dict[str, dict[int, Path]] = {name: {} for name in current}
    for path in _files(repository / METADATA):
        match = _METADATA.fullmatch(path.name)
        if match and int(match[1]) <= current.get(unquote(match[2]), 0):
            found[unquote(match[2])][int(match[1])] = path
    return {name: dict(sorted(paths.items())) for name, paths in found.items()}


def _superseded(versions: dict[int, Path], before: int) -> list[Path]:
    return [path for path, successor in pairwise(versions.values()) if _written(successor) <= before]


def _listed(repository: Path, listing: list[Path]) -> tuple[set[str], set[str]]:
    """The files of the releases that some metadata of channels lists, and the artifacts that these name."""
    names: set[str] = set()
    artifacts: set[str] = set()
    for path in listing:
        try:
            targets = Metadata[Targets].from_bytes(durable.read_file(path, LIMITS.targets)).signed.targets
        except RepositoryError as error:
            raise damaged(f"{path.name}: {error}") from error
        for target in targets.values():
            name = target_name(target.path, target.hashes["sha256"])
            if name not in names:
                names.add(name)
                release = Release.parse(read_target(repository, target))
                artifacts |= {artifact.fsverity for artifact in release.artifacts}
    return names, artifacts


def _releases(repository: Path, listed: set[str]) -> list[Path]:
    """Release documents that no channel lists."""
    folders = [path for path in _files(repository / "targets/releases") if path.is_dir()]
    files = (path for folder in folders for path in _files(folder) if _RELEASE.fullmatch(path.name))
    return [path for path in files if str(path.relative_to(repository)) not in listed]


def _named(releases: list[Path]) -> set[str]:
    """The artifacts that some release documents name. They were signed once, and only take away here."""
    documents = (Release.parse(durable.read_file(path, Release.LIMIT)) for path in releases)
    return {artifact.fsverity for release in documents for artifact in release.artifacts}


def _files(folder: Path) -> list[Path]:
    with storage("the repository was not read", folder):
        return sorted(folder.iterdir()) if folder.is_dir() else []


def _written(path: Path) -> float:
    with storage("the repository was not read", path):
        return path.lstat().st_mtime
