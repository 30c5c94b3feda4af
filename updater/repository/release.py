# SPDX-License-Identifier: Apache-2.0
"""Publish a release: its artifacts first, then its document, its metadata, and the timestamp last.

Hosts see nothing of it before the timestamp; a cut before that leaves the old state published. Nothing is ever removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tuf.api.metadata import TargetFile, Targets

from content.fsverity import Measured, digest_file
from content.store import ContentStore
from documents.release import Release
from keys.roles import releases_role
from keys.signers import require_signing
from keys.unlock import Secret
from updater.errors import NoSuchChannel, ReleaseRefused
from updater.formats import BLOBS, metadata_name, release_target, target_name
from updater.repository.authority import role_signers
from updater.repository.chain import Chain, Held, load_chain, meta_of, sign, write
from updater.repository.periods import PERIODS, Periods, expiry
from updater.repository.refresh import Refresher, locked

_NUMBER = re.compile(r"releases/[^/]+/([0-9]+)\.json")


def publish(
    repository: Path,
    keys: Path,
    passphrase: Secret,
    release_bytes: bytes,
    blobs: Iterable[Path],
    *,
    now: int,
    periods: Periods = PERIODS,
) -> None:
    """Publish a release as its channel's newest.

    Args:
        repository: its folder.
        keys: with the keys of the channel's role, snapshot and timestamp; root and targets are not needed.
        passphrase: opens them.
        release_bytes: the release document.
        blobs: files with the artifacts that the repository does not have yet, in any order.
        now: seconds since 1970 UTC; signed as the time of publication.
        periods: how long what is signed now is valid.

    Raises:
        DocumentError: the release is malformed.
        NoSuchChannel: the repository does not have its channel.
        ReleaseRefused: its number is not above the last, or the files are not its artifacts.
        RepositoryDamaged: the repository is not consistent.
        SignersMissing: not enough keys are here.
        KeysError: a key does not open.
        ContentError: busy, damaged, or it could not be read or written.
    """
    release = Release.parse(release_bytes)
    require_signing()
    with locked(repository, wait=False):
        chain = load_chain(repository)
        held = channel_role(chain, release.channel)
        require_newer(held.signed, release)
        name = releases_role(release.channel)
        signers = role_signers(chain.targets.signed, name, keys, passphrase)
        refresher = Refresher(keys, passphrase, chain)

        add_blobs(ContentStore(repository / BLOBS), release, blobs)
        for target in enter(held.signed, release, release_bytes, now, periods):
            write(repository, target, release_bytes)
        data = sign(held.metadata, signers)
        write(repository, metadata_name(name, held.signed.version), data)
        refresher.write(repository, {f"{name}.json": meta_of(held.signed, data)}, now, periods)


def enter(targets: Targets, release: Release, release_bytes: bytes, now: int, periods: Periods) -> list[str]:
    """Name a release as the newest in the next version of its channel's metadata, unsigned.

    Returns:
        Where in the repository its document belongs.
    """
    names = []
    for number in (release.number, None):
        target = TargetFile.from_data(release_target(release.channel, number), release_bytes, ["sha256"])
        target.unrecognized_fields["custom"] = {"published": now}
        targets.targets[target.path] = target
        names.append(target_name(target.path, target.hashes["sha256"]))
    targets.version += 1
    targets.expires = expiry(now, periods.releases)
    return names


def channel_role(chain: Chain, channel: str) -> Held[Targets]:
    """The metadata of a channel.

    Raises:
        NoSuchChannel: the repository does not have it.
    """
    held = chain.releases.get(releases_role(channel))
    if held is None:
        raise NoSuchChannel(
            "the channel was not found",
            cause=f"the repository has no channel {channel}",
            remedy="check the name; a new channel needs the targets keys",
        )
    return held


def last_number(targets: Targets) -> int:
    """The highest number that a channel has released; 0 for none."""
    return max((int(match[1]) for path in targets.targets if (match := _NUMBER.fullmatch(path))), default=0)


def require_newer(targets: Targets, release: Release) -> None:
    """Require a number above the channel's last.

    Raises:
        ReleaseRefused: it is not.
    """
    last = last_number(targets)
    if release.number <= last:
        raise ReleaseRefused(
            "the release was not published",
            cause=f"{release.channel} is at {last} and this is {release.number}",
            remedy=f"give it the number {last + 1} or a higher one",
        )


def add_blobs(store: ContentStore, release: Release, blobs: Iterable[Path]) -> None:
    """Take the files into the repository; then everything that the release names must be there, intact.

    Raises:
        ReleaseRefused: a file is none of the release's artifacts, or an artifact is missing.
        ContentError: damaged, or it could not be read or written.
    """
    wanted = {(artifact.fsverity, artifact.length) for artifact in release.artifacts}
    for path in blobs:
        measured = digest_file(path)
        if (measured.fsverity, measured.length) not in wanted:
            raise _not_published(f"{path} is none of its artifacts")
        # What is measured for good is the copy; were the file changed meanwhile, the artifact would be missing below.
        store.add_file(path)
    for artifact in release.artifacts:
        if not store.contains(artifact.fsverity, artifact.length):
            raise _not_published(f"nobody gave the bytes of {artifact.name}")
        store.verify(artifact.fsverity, artifact.length)


def add_file(repository: Path, path: Path) -> Measured:
    """Take a file into the repository ahead of the release that will name it. Links are followed.

    Raises:
        RepositoryDamaged: there is no repository.
        ContentError: busy, or it could not be read or written.
    """
    with locked(repository, wait=False):
        return ContentStore(repository / BLOBS).add_file(path.resolve())


def _not_published(why: str) -> ReleaseRefused:
    return ReleaseRefused("the release was not published", cause=why, remedy="give exactly the files that it names")
