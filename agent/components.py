# SPDX-License-Identifier: Apache-2.0
"""What the VMM of this host is made of, digested now: the found side of every reference value.

How a component is found follows from the kind of its artifact. This module does not extend, compare or judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from agent.vmm_images import KIND, VmmImages
from content.errors import ContentError
from content.fsverity import digest_bytes
from content.measuring import Digester, Taken
from content.store import ContentStore
from documents.host_files import ABSENT, HostFile, HostFiles
from documents.release import Artifact, Release
from documents.verdict import KEPT

THREADS = 4
"""That look at the files of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One component as it is on this host.

    Attributes:
        name: as in the release.
        fsverity: found digest; ABSENT when it is not there or not readable.
        differences: (path, expected digest, found digest) of files inside it that differ.
        kept: what keeps it so, one of ``documents.verdict.KEPT``; of several files, the weakest. Empty for none.
        taken: one of ``documents.verdict.TAKEN`` if no file was read; else empty.
        flaw: why what was digested is not what would be used; empty where it is.
    """

    name: str
    fsverity: str
    differences: tuple[tuple[str, str, str], ...] = ()
    kept: str = ""
    taken: str = ""
    flaw: str = ""


class Components:
    """Finds the components of a platform release on this host.

    Args:
        store: holds what releases deliver.
        anchor: path of the trust anchor, whose bytes identify the repository.
        root: where paths of the host start.
        site: folder that holds vmgate's own packages.
        hook: path of the installed libvirt hook.
        images: mounted VMM images.
    """

    def __init__(
        self, store: ContentStore, anchor: Path, root: Path, site: Path, hook: Path, images: VmmImages
    ) -> None:
        self._store = store
        self._anchor = anchor
        self._root = root
        self._site = site
        self._hook = hook
        self._images = images

    def find(self, release: Release, digester: Digester | None = None) -> tuple[Component, ...]:
        """Digest everything that the release's reference values name, in their order.

        Args:
            release: a platform release.
            digester: measures; without one, each file that has no fs-verity is read.
        """
        by = digester or Digester()
        return tuple(self._find_one(release, value.component, by) for value in release.reference)

    def _find_one(self, release: Release, name: str, digester: Digester) -> Component:
        artifact = release.artifact(name)
        if artifact is None:
            # The only component that no artifact delivers is the repository itself.
            return _component(name, self._anchor, digester) if name == "repository" else _absent(name)
        finders: dict[str, Callable[[Artifact, Digester], Component]] = {
            "host-files": self._find_files,
            "vmgate-build": self._find_files,
            KIND: self._find_image,
            "hook": lambda hook, by: _component(hook.name, self._hook, by),
        }
        return finders.get(artifact.kind, self._find_blob)(artifact, digester)

    def _find_blob(self, artifact: Artifact, digester: Digester) -> Component:
        return _component(artifact.name, self._store.path(artifact.fsverity), digester)

    def _find_image(self, artifact: Artifact, digester: Digester) -> Component:
        # Measured is the file; what is mounted must be that file, now.
        return replace(self._find_blob(artifact, digester), flaw=self._images.flaw(artifact))

    def _find_files(self, artifact: Artifact, digester: Digester) -> Component:
        """Make the list again from what is installed; equal lists have equal digests."""
        try:
            # Read once and judged as read: between two readings it could be exchanged.
            listing = _parsed(self._store.read(artifact.fsverity, artifact.length))
        except ContentError:
            return _absent(artifact.name)
        base = self._root if listing.root == "host" else self._site
        taken = _take_all([base / entry.path.lstrip("/") for entry in listing.files], digester)
        found = tuple(_found(old, new) for old, new in zip(listing.files, taken, strict=True))
        differences = tuple(
            (old.path, old.fsverity, new.fsverity) for old, new in zip(listing.files, found, strict=True) if old != new
        )
        remade = HostFiles(root=listing.root, packages=listing.packages, files=found) if differences else None
        there = [one for one in taken if one is not None]
        return Component(
            name=artifact.name,
            # The list that was read was encoded as all are: an equal one has its digest.
            fsverity=digest_bytes(remade.encode()) if remade else artifact.fsverity,
            differences=differences,
            kept=max((one.kept for one in there), key=KEPT.index, default=""),
            # What was read was read: the strongest way of one file is no claim for all of them.
            taken=there[0].taken if len({one.taken for one in there}) == 1 else "",
        )


@lru_cache(maxsize=4)
def _parsed(listing: bytes) -> HostFiles:
    """A list of hundreds of files, which is the same at each start."""
    return HostFiles.parse(listing)


def _absent(name: str) -> Component:
    return Component(name=name, fsverity=ABSENT)


def _component(name: str, path: Path, digester: Digester) -> Component:
    taken = _take(path, digester)
    if taken is None:
        return _absent(name)
    return Component(name=name, fsverity=taken.fsverity, kept=taken.kept, taken=taken.taken)


def _take_all(paths: Sequence[Path], digester: Digester) -> tuple[Taken | None, ...]:
    """As ``_take``, in their order, by a few threads with a share each: most files are small, and some are not."""
    shares = min(THREADS, len(paths)) or 1
    with ThreadPoolExecutor(shares) as pool:
        # Every n-th: big files lie beside each other.
        lists = list(pool.map(lambda first: [_take(path, digester) for path in paths[first::shares]], range(shares)))
    return tuple(lists[place % shares][place // shares] for place in range(len(paths)))


def _take(path: Path, digester: Digester) -> Taken | None:
    try:
        return digester.measure(path)
    except ContentError:
        return None


def _found(entry: HostFile, taken: Taken | None) -> HostFile:
    if taken is None:
        return HostFile(path=entry.path, fsverity=ABSENT, length=0)
    return HostFile(path=entry.path, fsverity=taken.fsverity, length=taken.length)
