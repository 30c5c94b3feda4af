# SPDX-License-Identifier: Apache-2.0
"""Verify a bundle as a new host would, on a machine that is no host. Keeps nothing and activates nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from content import durable
from content.store import ContentStore
from documents.host_state import Floor
from documents.release import Release
from keys.anchor import LIMIT, TrustAnchor
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.download import fetch_artifacts
from updater.client.metadata import refresh


def verify_bundle(bundle: Path, anchor: Path, channels: Sequence[str], *, now: int) -> tuple[Release, ...]:
    """Run the whole workflow over a bundle: metadata from the anchor, each release, each artifact that it carries.

    Args:
        bundle: the file.
        anchor: root metadata that it must lead back to.
        channels: whose releases it must hold.
        now: seconds since 1970 UTC.

    Returns:
        The verified releases, in the order of the channels.

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
        for release in releases:
            fetch_artifacts(source, store, release.artifacts)
    return releases


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = durable.temporary(Path(tempfile.gettempdir()))
    durable.make_directory(folder)
    try:
        yield folder
    finally:
        durable.remove_tree(folder)
