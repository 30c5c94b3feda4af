# SPDX-License-Identifier: Apache-2.0
"""A release is taken back by a newer one that refuses what only it brought."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from documents.release import Artifact
from keys.files import create_key
from keys.policy_signer import open_policy_signers
from keys.roles import P256
from lab.publishing import NOW, PASSPHRASE, Publisher, platform, workload
from measure.policy import verify_signed_policy
from measure.predict import vmm_pcr_fresh
from publisher.desk import revoke
from publisher.errors import NothingToRevoke, PlanRefused
from publisher.revoke import Revocation, choose, plan_platform_revocation, plan_revocation
from publisher.shelf import Shelf
from updater.errors import NoSuchChannel
from updater.repository.errors import RepositoryDamaged
from updater.repository.verify import verify_repository

SAME, OLD, NEW = (
    Artifact(name=name, kind="image", fsverity=str(number) * 64, length=1)
    for number, name in enumerate(("image/same", "image/one", "image/two"))
)
GOOD, BAD = workload(1, SAME, OLD), workload(2, SAME, NEW)
WANTED = Revocation(channel="desktop", number=2)


def test_what_only_the_bad_one_brought_is_refused_from_now_on() -> None:
    made = plan_revocation(WANTED, BAD, GOOD, (BAD, GOOD))
    assert made == replace(GOOD, number=3, refused=(NEW.fsverity,))


def test_earlier_refusals_stay_and_the_epoch_never_falls() -> None:
    newest = replace(BAD, number=7, epoch=4, refused=("e" * 64,))
    made = plan_revocation(WANTED, BAD, replace(GOOD, refused=("f" * 64, "e" * 64)), (newest,))
    assert (made.number, made.epoch) == (8, 4)
    assert made.refused == ("e" * 64, "f" * 64, NEW.fsverity)
    assert plan_revocation(replace(WANTED, raise_epoch=True), BAD, GOOD, (newest,)).epoch == 5


@pytest.mark.parametrize(
    ("numbers", "bad", "good", "expected"),
    [((2, 1), 2, 0, 1), ((5, 4, 3), 4, 0, 5), ((5, 4, 3), 5, 3, 3), ((5, 4), 3, 0, 5)],
)
def test_which_content_comes_instead(numbers: tuple[int, ...], bad: int, good: int, expected: int) -> None:
    assert choose(numbers, Revocation(channel="desktop", number=bad, good=good)) == expected


@pytest.mark.parametrize(("numbers", "bad", "good"), [((1,), 1, 0), ((), 1, 0), ((2, 1), 2, 2), ((2, 1), 2, 9)])
def test_without_another_release_there_is_nothing_to_offer(numbers: tuple[int, ...], bad: int, good: int) -> None:
    with pytest.raises(NothingToRevoke):
        choose(numbers, Revocation(channel="desktop", number=bad, good=good))


def test_a_release_that_brought_nothing_of_its_own_is_not_revoked() -> None:
    with pytest.raises(NothingToRevoke, match="brought nothing that 1 does not bring"):
        plan_revocation(WANTED, replace(GOOD, number=2), GOOD, (BAD,))


def test_content_that_is_refused_already_does_not_come_back() -> None:
    with pytest.raises(PlanRefused, match="image/one"):
        plan_revocation(WANTED, BAD, GOOD, (replace(BAD, refused=(OLD.fsverity,)),))


def test_a_platform_gets_policies_for_its_new_number_and_for_the_way_out_of_the_bad_one(tmp_path: Path) -> None:
    create_key(tmp_path / "tpm-policy-1.pem", P256, PASSPHRASE)
    signers = open_policy_signers(tmp_path, PASSPHRASE)
    keys = (signers[0].public(),)
    good, bad = platform(1, SAME, OLD, policy_keys=keys), platform(2, SAME, NEW, epoch=2, policy_keys=keys)
    made = plan_platform_revocation(replace(WANTED, channel="platform"), bad, good, (bad, good), signers, None)
    for policy in made.policies:
        verify_signed_policy(policy, made.policy_keys, "platform")
    assert {(policy.predecessor, policy.epoch) for policy in made.policies} == {
        (old, epoch) for old in (0, 1, 2) for epoch in (0, 1, 2)
    }
    assert {dict(p.pcrs)[13] for p in made.policies if p.entry == "fresh"} == {vmm_pcr_fresh(good.reference)}
    assert (made.number, made.epoch, made.refused) == (3, 2, (NEW.fsverity,))


def test_the_desk_takes_a_release_back(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    for number in (1, 2):
        publisher.publish_platform(number)
        publisher.publish_workload(number)
    for channel in ("platform", "desktop"):
        made = revoke(publisher.repository, publisher.keys, PASSPHRASE, Revocation(channel=channel, number=2), now=NOW)
        shelf = Shelf(publisher.repository)
        assert shelf.release(channel, 3) == made
        assert made.artifacts == shelf.release(channel, 1).artifacts
        assert made.refused == tuple(artifact.fsverity for artifact in shelf.release(channel, 2).artifacts)
    assert verify_repository(publisher.repository, now=NOW).releases == 6
    with pytest.raises(NoSuchChannel):
        revoke(publisher.repository, publisher.keys, PASSPHRASE, Revocation(channel="other", number=2), now=NOW)
    with pytest.raises(RepositoryDamaged, match=r"9\.json is not there"):
        revoke(publisher.repository, publisher.keys, PASSPHRASE, Revocation(channel="desktop", number=9), now=NOW)
