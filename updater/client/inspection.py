# SPDX-License-Identifier: Apache-2.0
"""Verify a bundle as a new host would, on a machine that is no host. Keeps nothing and activates nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from content import durable
from content.fsverity import Measured
from content.store import ContentStore
from documents.host_state import Floor
from documents.release import Artifact, Release
from keys.anchor import LIMIT, TrustAnchor
from updater.bundle import BundleReader
from updater.client.assemble import read_head
from updater.client.bundle_source import BundleSource
from updater.client.download import fetch_artifacts
from updater.client.metadata import refresh
from updater.errors import NotOffered
from updater.formats import delta_part, pack_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What a verified bundle holds.

    Attributes:
        releases: in the order of the channels.
        by_delta: names of artifacts of which it brings only what the receiver lacks: they could not be verified here.
    """

    releases: tuple[Release, ...]
    by_delta: tuple[str, ...]


def verify_bundle(
    bundle: Path, anchor: Path, channels: Sequence[str], have: Collection[str] = (), *, now: int
) -> Inspected:
    """Run the whole workflow over a bundle: metadata from the anchor, each release, each artifact that it carries.

    Args:
        bundle: the file.
        anchor: root metadata that it must lead back to.
        channels: whose releases it must hold.
        have: fs-verity digests of what the receiver has; may be missing, and deltas may be taken from them.
        now: seconds since 1970 UTC.

    Raises:
        UpdaterError: see ``updater.client.metadata.refresh``; or an artifact is missing.
        DigestMismatch: an artifact is not what was signed.
        KeysError: the anchor is none.
        ContentError: a file cannot be read, or there is no room for the artifacts in the folder for temporary files.
    """
    trust = TrustAnchor(durable.read_file(anchor, LIMIT))
    with BundleReader(bundle) as reader, _scratch() as folder:
        source = BundleSource(reader)
        floor = Floor(time=0, root=trust.version, releases=())
        offer = refresh(folder / "tuf", trust, source, channels, now=now, floor=floor)
        releases = tuple(Release.parse(offer.releases[channel]) for channel in channels)
        store = ContentStore(folder / "store")
        artifacts = [a for release in releases for a in release.artifacts if a.fsverity not in have]
        by_delta = tuple(a.name for a in artifacts if not _brought(source, store, a, have))
    return Inspected(releases=releases, by_delta=by_delta)


def _brought(source: BundleSource, store: ContentStore, artifact: Artifact, have: Collection[str]) -> bool:
    """Fetch an artifact; whether the bundle has all of it, and not only a delta from what the receiver has."""
    try:
        fetch_artifacts(source, store, [artifact])
        return True
    except NotOffered:
        head = read_head(source, Measured(fsverity=artifact.fsverity, length=artifact.length))
        bases = [offer.base for offer in head.offers if offer.base in have] if head else []
        if not any(source.has(pack_name(artifact.fsverity, delta_part(base))) for base in bases):
            raise
        return False


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = durable.temporary(Path(tempfile.gettempdir()))
    durable.make_directory(folder)
    try:
        yield folder
    finally:
        durable.remove_tree(folder)
