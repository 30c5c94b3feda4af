# SPDX-License-Identifier: Apache-2.0
"""What the VMM of this host is made of, digested now: the found side of every reference value.

How a component is found follows from the kind of its artifact. This module does not extend, compare or judge.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from content import durable
from content.errors import ContentError
from content.fsverity import digest_bytes, digest_file
from content.store import ContentStore
from documents.host_files import ABSENT, HostFile, HostFiles
from documents.release import Artifact, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One component as it is on this host.

    Attributes:
        name: as in the release.
        fsverity: found digest; ABSENT when it is not there or not readable.
        differences: (path, expected digest, found digest) of files inside it that differ.
    """

    name: str
    fsverity: str
    differences: tuple[tuple[str, str, str], ...] = ()


class Components:
    """Finds the components of a platform release on this host.

    Args:
        store: holds what releases deliver.
        anchor: path of the trust anchor, whose bytes identify the repository.
        root: where paths of the host start.
        site: folder that holds vmgate's own packages.
        hook: path of the installed libvirt hook.
    """

    def __init__(self, store: ContentStore, anchor: Path, root: Path, site: Path, hook: Path) -> None:
        self._store = store
        self._anchor = anchor
        self._root = root
        self._site = site
        self._hook = hook

    def find(self, release: Release) -> tuple[Component, ...]:
        """Digest everything that the release's reference values name, in their order."""
        return tuple(self._find_one(release, value.component) for value in release.reference)

    def _find_one(self, release: Release, name: str) -> Component:
        artifact = release.artifact(name)
        if artifact is None:
            # The only component that no artifact delivers is the repository itself.
            return Component(name=name, fsverity=_digest(self._anchor) if name == "repository" else ABSENT)
        finders: dict[str, Callable[[Artifact], Component]] = {
            "host-files": self._find_files,
            "vmgate-build": self._find_files,
            "hook": lambda hook: Component(name=hook.name, fsverity=_digest(self._hook)),
        }
        return finders.get(artifact.kind, self._find_blob)(artifact)

    def _find_blob(self, artifact: Artifact) -> Component:
        return Component(name=artifact.name, fsverity=_digest(self._store.path(artifact.fsverity)))

    def _find_files(self, artifact: Artifact) -> Component:
        """Make the list again from what is installed; equal lists have equal digests."""
        try:
            self._store.verify(artifact.fsverity, artifact.length)
            listing = HostFiles.parse(durable.read_file(self._store.path(artifact.fsverity), HostFiles.LIMIT))
        except ContentError:
            return Component(name=artifact.name, fsverity=ABSENT)
        base = self._root if listing.root == "host" else self._site
        with ThreadPoolExecutor() as pool:
            found = tuple(pool.map(lambda entry: _found(base, entry), listing.files))
        differences = tuple(
            (old.path, old.fsverity, new.fsverity) for old, new in zip(listing.files, found, strict=True) if old != new
        )
        remade = HostFiles(root=listing.root, packages=listing.packages, files=found)
        return Component(name=artifact.name, fsverity=digest_bytes(remade.encode()), differences=differences)


def _digest(path: Path) -> str:
    try:
        return digest_file(path).fsverity
    except ContentError:
        return ABSENT


def _found(base: Path, entry: HostFile) -> HostFile:
    path = base / entry.path.lstrip("/")
    try:
        measured = digest_file(path)
    except ContentError:
        return HostFile(path=entry.path, fsverity=ABSENT, length=0)
    return HostFile(path=entry.path, fsverity=measured.fsverity, length=measured.length)
