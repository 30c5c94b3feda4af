# SPDX-License-Identifier: Apache-2.0
"""A bad release is out, hosts run it, and its publisher takes it back."""

from __future__ import annotations

import pytest

from lab.hostile import Scene, body
from lab.publishing import PASSPHRASE
from publisher.desk import revoke
from publisher.revoke import Revocation
from updater.errors import MetadataRefused, RollbackRefused

TIMESTAMP = "metadata/timestamp.json"


def take_back(stage: Scene, channel: str, number: int, *, raise_epoch: bool = False) -> None:
    wanted = Revocation(channel=channel, number=number, raise_epoch=raise_epoch)
    revoke(stage.publisher.repository, stage.publisher.keys, PASSPHRASE, wanted, now=stage.now)


def test_a_host_that_runs_the_bad_release_goes_back_to_the_good_bits_by_going_forward(stage: Scene) -> None:
    first = stage.host.state().generation
    stage.publisher.publish_workload(2)
    assert stage.host.apply(stage.source, stage.now) is not None
    bad = {artifact.fsverity for r in stage.host.state().generation.parsed() for artifact in r.artifacts}  # type: ignore[union-attr]
    stale = (stage.publisher.repository / TIMESTAMP).read_bytes()

    take_back(stage, "desktop", 2)
    generation = stage.host.apply(stage.source, stage.now)
    assert generation is not None
    assert first is not None
    workload = next(release for release in generation.parsed() if release.channel == "desktop")
    assert workload.number == 3
    assert workload.artifacts == next(r for r in first.parsed() if r.channel == "desktop").artifacts
    # The gate starts nothing of these, whatever signed it.
    assert set(workload.refused) == bad - {a.fsverity for r in first.parsed() for a in r.artifacts}

    # Nobody can bring the bad release back by showing the repository as it was.
    stage.server.rules[TIMESTAMP] = body(stale)
    stage.host.refuses(MetadataRefused, stage.source, stage.now)


def test_a_platform_that_was_taken_back_with_its_epoch_raised_cannot_be_rolled_back_to(stage: Scene) -> None:
    stage.publisher.publish_platform(2)
    assert stage.host.apply(stage.source, stage.now) is not None
    take_back(stage, "platform", 2, raise_epoch=True)
    generation = stage.host.apply(stage.source, stage.now)
    assert generation is not None
    assert (generation.platform.number, generation.platform.epoch) == (3, 2)
    before = stage.host.state()
    with pytest.raises(RollbackRefused):
        stage.host.update.roll_back()
    assert stage.host.state() == before


def test_without_a_raised_epoch_its_administrator_may_still_go_back(stage: Scene) -> None:
    """Said plainly, since taking back is not the same as shutting out."""
    stage.publisher.publish_platform(2)
    assert stage.host.apply(stage.source, stage.now) is not None
    take_back(stage, "platform", 2)
    assert stage.host.apply(stage.source, stage.now) is not None
    back = stage.host.update.roll_back()
    assert back is not None
    assert back.platform.number == 2
    # The next look offers the good bits again only under yet another number: what was left is remembered.
    assert stage.host.update.journal.refused


def test_a_release_that_nobody_runs_any_more_is_refused_all_the_same(stage: Scene) -> None:
    stage.publisher.publish_workload(2)
    stage.publisher.publish_workload(3)
    assert stage.host.apply(stage.source, stage.now) is not None
    take_back(stage, "desktop", 2)
    generation = stage.host.apply(stage.source, stage.now)
    assert generation is not None
    workload = next(release for release in generation.parsed() if release.channel == "desktop")
    assert (workload.number, len(workload.refused)) == (4, 1)
