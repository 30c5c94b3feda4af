# SPDX-License-Identifier: Apache-2.0
"""What a repository has published already: releases and their artifacts, verified from the repository's first root on.

This module changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from content.durable import read_file
from content.fsverity import Measured, digest_bytes, digest_file
from content.store import ContentStore
from documents.host_image import HostImage
from documents.release import Release
from documents.security_policy import SecurityPolicy
from updater.formats import BLOBS, release_target
from updater.repository.chain import damaged, load_chain, read_target
from updater.repository.release import channel_role

RELEASES = "releases-"
"""What the name of a channel's role starts with."""


class Shelf:
    """A repository as it was when this was made.

    Args:
        repository: its folder.

    Attributes:
        identity: fs-verity digest of its first root metadata.
        blobs: its artifacts.

    Raises:
        RepositoryDamaged: it is not consistent.
        ContentError: it cannot be read.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._chain = load_chain(repository)
        self.identity = digest_bytes(self._chain.roots[0].data)
        self.blobs = ContentStore(repository / BLOBS)

    def channels(self) -> tuple[str, ...]:
        """The names of its channels."""
        return tuple(name.removeprefix(RELEASES) for name in self._chain.releases)

    def numbers(self, channel: str) -> tuple[int, ...]:
        """The numbers of a channel's releases, newest first.

        Raises:
            NoSuchChannel: the repository does not have it.
        """
        names = (
            path.rpartition("/")[2].removesuffix(".json") for path in channel_role(self._chain, channel).signed.targets
        )
        return tuple(sorted((int(name) for name in names if name.isdecimal()), reverse=True))

    def release(self, channel: str, number: int) -> Release:
        """One release.

        Raises:
            RepositoryDamaged: there is none, or it is not the one that was signed.
            DocumentError: this vmgate cannot read it.
            ContentError: it cannot be read.
        """
        path = release_target(channel, number)
        targets = channel_role(self._chain, channel).signed.targets
        if path not in targets:
            raise damaged(f"{path} is not there")
        return Release.parse(read_target(self._repository, targets[path]))

    def measured(self, fsverity: str) -> Measured:
        """An artifact that `vmgate repo add` or an earlier release has put into the repository.

        Raises:
            Missing: it is not there.
            RepositoryDamaged: what is there is not it.
            ContentError: it cannot be read.
        """
        measured = digest_file(self.blobs.path(fsverity))
        if measured.fsverity != fsverity:
            raise damaged(f"{self.blobs.path(fsverity)} is damaged")
        return measured

    def host_image(self, release: Release) -> HostImage | None:
        """What a platform release says that its hosts boot, if it does.

        Raises:
            DigestMismatch: it is not what was signed.
            ContentError: it cannot be read.
        """
        for artifact in release.of_kind("host-image"):
            return HostImage.parse(self.blobs.read(artifact.fsverity, artifact.length))
        return None

    def policies(self, accepts: tuple[int, int]) -> Iterator[SecurityPolicy]:
        """The rules of the newest platform release of each channel whose number lies in a range.

        Raises:
            RepositoryDamaged: a release is not the one that was signed.
            ContentError: an artifact is missing or damaged.
        """
        for channel in self.channels():
            accepted = [number for number in self.numbers(channel) if accepts[0] <= number <= accepts[1]]
            if not accepted:
                continue
            release = self.release(channel, accepted[0])
            for artifact in release.of_kind("security-policy"):
                self.blobs.verify(artifact.fsverity, artifact.length)
                yield SecurityPolicy.parse(read_file(self.blobs.path(artifact.fsverity), SecurityPolicy.LIMIT))
