# SPDX-License-Identifier: Apache-2.0
"""Write an offline bundle: the metadata, newest releases and artifacts that a host needs, in one file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from content import durable
from content.errors import Missing, storage
from content.fsverity import Measured, verify_file
from documents.assignment import Assignment
from documents.bundle import BundleEntry, BundleIndex
from documents.release import Release
from updater.assignment import assignment_target, choose, listed_assignment
from updater.bundle import encode_head
from updater.errors import NoSuchChannel
from updater.formats import blob_name, delta_part, pack_name, release_number, release_target, target_name
from updater.pack import FRAMES, HEAD, SPANS
from updater.repository.assignments import bin_of
from updater.repository.blob import Blob
from updater.repository.chain import FILE_MODE, Chain, load_chain, read_target
from updater.repository.packing import has_pack, read_head
from updater.repository.refresh import locked
from updater.repository.release import channel_role
from updater.repository.unpacking import verify_delta, verify_frames


def export_bundle(
    repository: Path,
    channels: Sequence[str],
    path: Path,
    have: Collection[str] = (),
    hosts: Collection[str] = (),
) -> BundleIndex:
    """Write a bundle of the newest releases of some channels.

    Args:
        repository: its folder.
        channels: whose newest releases it will carry.
        path: the bundle; a file that is there is replaced as a whole.
        have: fs-verity digests of what every receiver has already; left out, and what deltas are taken from.
        hosts: receivers that follow assignments: their assignments, and the newest releases that these allow, too.

    Returns:
        What is in it.

    Raises:
        NoSuchChannel: the repository does not have a channel, or no release of it.
        NoAssignments, NoSuchHost: it has no assignment for a host.
        RepositoryDamaged: the repository is not consistent.
        PackMalformed: a pack or a delta does not give its artifact.
        ContentError: busy, damaged, or it could not be read or written.
    """
    with locked(repository, wait=True):
        chain = load_chain(repository)
        names = _metadata_names(chain, channels)
        assignments = [_assignment(repository, chain, host, names) for host in hosts]
        artifacts: dict[str, int] = {}
        for channel in channels:
            for name, release in _release_targets(repository, chain, channel, assignments):
                names.add(name)
                artifacts |= {a.fsverity: a.length for a in release.artifacts if a.fsverity not in have}
        for fsverity, length in artifacts.items():
            names |= _artifact(repository, Measured(fsverity=fsverity, length=length), have)
        index = _lay_out(repository, sorted(names))
        with durable.Writer(durable.temporary(path.parent)) as writer:
            writer.write(encode_head(index))
            for entry in index.entries:
                writer.copy(repository / entry.name)
            writer.commit(path, FILE_MODE)
        return index


def _artifact(repository: Path, artifact: Measured, have: Collection[str]) -> set[str]:
    """The fewest files that bring an artifact, verified: a delta from what receivers have, its pack, or all of it."""
    blob_path = repository / blob_name(artifact.fsverity)
    verify_file(blob_path, artifact.fsverity, artifact.length)
    try:
        head = read_head(repository, artifact) if has_pack(artifact) else None
    except Missing:
        head = None
    if head is None:
        return {blob_name(artifact.fsverity)}
    deltas = [offer for offer in head.offers if offer.base in have]
    with Blob(blob_path) as blob:
        if deltas:
            smallest = min(deltas, key=lambda offer: offer.length)
            verify_delta(repository, artifact, smallest, blob)
            parts = [HEAD, delta_part(smallest.base)]
        else:
            verify_frames(repository, artifact, head, blob)
            parts = [HEAD, SPANS, FRAMES]
    return {pack_name(artifact.fsverity, part) for part in parts}


def _metadata_names(chain: Chain, channels: Sequence[str]) -> set[str]:
    names = {chain.timestamp.name, chain.snapshot.name, chain.targets.name}
    return names | {root.name for root in chain.roots} | {channel_role(chain, channel).name for channel in channels}


def _assignment(repository: Path, chain: Chain, host: str, names: set[str]) -> Assignment:
    """The assignment of a host; adds to ``names`` the metadata that leads to it."""
    held = bin_of(repository, chain, host)
    names |= {held.name} | ({chain.assignments.name} if chain.assignments is not None else set())
    return listed_assignment(held.signed.targets[assignment_target(host)])


def _release_targets(
    repository: Path, chain: Chain, channel: str, assignments: Collection[Assignment]
) -> Iterator[tuple[str, Release]]:
    """The newest release of a channel under both of its names, and what assignments choose instead."""
    targets = channel_role(chain, channel).signed.targets
    current = targets.get(release_target(channel, None))
    if current is None:
        raise NoSuchChannel(
            "the bundle was not written", cause=f"{channel} has no release yet", remedy="publish one first"
        )
    release = Release.parse(read_target(repository, current))
    listed = [number for path in targets if (number := release_number(path, channel)) is not None]
    chosen = {choose(assignment, channel, listed) for assignment in assignments} | {release.number}
    yield target_name(current.path, current.hashes["sha256"]), release
    for number in chosen - {None}:
        target = targets[release_target(channel, number)]
        yield target_name(target.path, target.hashes["sha256"]), Release.parse(read_target(repository, target))


def _lay_out(repository: Path, names: Sequence[str]) -> BundleIndex:
    entries = []
    offset = 0
    for name in names:
        with storage("the bundle was not written", repository / name):
            length = (repository / name).stat().st_size
        entries.append(BundleEntry(name=name, offset=offset, length=length))
        offset += length
    return BundleIndex(entries=tuple(entries))
