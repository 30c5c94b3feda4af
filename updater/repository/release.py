# SPDX-License-Identifier: Apache-2.0
"""Publish a release: its artifacts first, then its document, its metadata, and the timestamp last.

Hosts see nothing of it before the timestamp; a cut before that leaves the old state published. The channel's role
lists its newest releases only, so that what a host reads does not grow with the years; no file is ever removed.
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
from updater.errors import NoSuchChannel
from updater.formats import BLOBS, metadata_name, release_target, target_name
from updater.repository.authority import role_signers
from updater.repository.chain import Chain, Held, load_chain, meta_of, read_target, sign, write
from updater.repository.errors import ReleaseRefused
from updater.repository.packing import has_pack, make_deltas
from updater.repository.periods import PERIODS, Periods, expiry
from updater.repository.refresh import Refresher, locked

_NUMBER = re.compile(r"releases/[^/]+/([0-9]+)\.json")

LISTED = 16
"""So many of a channel's newest releases stay listed. Hosts may be held at one of them, and the next is made to follow
them: more than any publication looks back at."""


DELTAS = 5
"""From so many of the newest earlier releases there is a delta; other hosts find themselves what they have."""


def publish(
    repository: Path,
    keys: Path,
    passphrase: Secret,
    release_bytes: bytes,
    blobs: Iterable[Path],
    *,
    now: int,
    periods: Periods = PERIODS,
    listed: int = LISTED,
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
        listed: so many of the channel's newest releases stay listed, at least one.

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
        add_packs(repository, held.signed, release)
        for target in enter(held.signed, release, release_bytes, now, periods, listed):
            write(repository, target, release_bytes)
        data = sign(held.metadata, signers)
        write(repository, metadata_name(name, held.signed.version), data)
        refresher.write(repository, {f"{name}.json": meta_of(held.signed, data)}, now, periods)


def enter(
    targets: Targets, release: Release, release_bytes: bytes, now: int, periods: Periods, listed: int = LISTED
) -> list[str]:
    """Name a release as the newest in the next version of its channel's metadata, unsigned, and prune the oldest.

    Returns:
        Where in the repository its document belongs.
    """
    names = []
    for number in (release.number, None):
        target = TargetFile.from_data(release_target(release.channel, number), release_bytes, ["sha256"])
        target.unrecognized_fields["custom"] = {"published": now}
        targets.targets[target.path] = target
        names.append(target_name(target.path, target.hashes["sha256"]))
    _prune(targets, listed)
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
    return max(_numbers(targets), default=0)


def _numbers(targets: Targets) -> dict[int, str]:
    """The paths of the releases that are listed, by their numbers."""
    return {int(match[1]): path for path in targets.targets if (match := _NUMBER.fullmatch(path))}


def _prune(targets: Targets, listed: int) -> None:
    numbers = _numbers(targets)
    for number in sorted(numbers, reverse=True)[max(listed, 1) :]:
        del targets.targets[numbers[number]]


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


def add_packs(repository: Path, targets: Targets, release: Release) -> None:
    """Make packs of the large artifacts, with deltas from those of the same name in the releases before.

    Raises:
        RepositoryDamaged: a release that is listed is not there.
        ContentError: it failed.
    """
    paths = [path for _, path in sorted(_numbers(targets).items(), reverse=True)[:DELTAS]]
    earlier = [Release.parse(read_target(repository, targets.targets[path])) for path in paths]
    for artifact in release.artifacts:
        measured = Measured(fsverity=artifact.fsverity, length=artifact.length)
        if has_pack(measured):
            bases = [base for old in earlier if (base := old.artifact(artifact.name)) is not None]
            make_deltas(repository, measured, [Measured(fsverity=b.fsverity, length=b.length) for b in bases])


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
