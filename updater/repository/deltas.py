# SPDX-License-Identifier: Apache-2.0
"""More deltas to a channel's newest release than its publication made: for hosts that were away for long.

Nothing is signed and no metadata changes; a delta is only another way to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from content.fsverity import Measured
from documents.release import Artifact, Release
from updater.formats import release_target
from updater.repository.chain import Chain, load_chain, read_target
from updater.repository.errors import NoSuchRelease
from updater.repository.packing import has_pack, make_deltas
from updater.repository.refresh import locked
from updater.repository.release import channel_role


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A delta that is on offer.

    Attributes:
        artifact: name of the artifact that comes out of it.
        number: of the release whose artifact of that name it needs.
        length: bytes of the delta.
        whole: bytes of the artifact.
    """

    artifact: str
    number: int
    length: int
    whole: int


def add_deltas(repository: Path, channel: str, numbers: Sequence[int]) -> tuple[Made, ...]:
    """Make deltas to a channel's newest release from earlier ones.

    Args:
        repository: its folder.
        channel: which.
        numbers: of earlier releases that are still listed; their artifacts must still be there.

    Returns:
        The deltas on offer from these releases, made now or before. An artifact that is too small or too different has
        none.

    Raises:
        NoSuchChannel: the repository does not have it.
        NoSuchRelease: a release is not listed, or the channel has none.
        RepositoryDamaged: it is not consistent.
        ContentError: busy, an artifact is gone, or it could not be written.
    """
    with locked(repository, wait=False):
        chain = load_chain(repository)
        newest = _release(repository, chain, channel, None)
        earlier = [_release(repository, chain, channel, number) for number in numbers]
        return tuple(
            made
            for artifact in newest.artifacts
            if has_pack(_measured(artifact))
            for made in _make(repository, artifact, earlier)
        )


def _make(repository: Path, artifact: Artifact, earlier: Sequence[Release]) -> list[Made]:
    bases = {r.number: base for r in earlier if (base := r.artifact(artifact.name)) is not None}
    offers = make_deltas(repository, _measured(artifact), [_measured(base) for base in bases.values()])
    lengths = {offer.base: offer.length for offer in offers}
    return [
        Made(artifact=artifact.name, number=number, length=lengths[base.fsverity], whole=artifact.length)
        for number, base in bases.items()
        if base.fsverity in lengths
    ]


def _release(repository: Path, chain: Chain, channel: str, number: int | None) -> Release:
    path = release_target(channel, number)
    target = channel_role(chain, channel).signed.targets.get(path)
    if target is None:
        raise NoSuchRelease(
            "no delta was made",
            cause=f"{path} is not listed in the repository",
            remedy="name releases that it lists; `vmgate repo verify` tells the newest",
        )
    return Release.parse(read_target(repository, target))


def _measured(artifact: Artifact) -> Measured:
    return Measured(fsverity=artifact.fsverity, length=artifact.length)
