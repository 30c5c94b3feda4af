# SPDX-License-Identifier: Apache-2.0
"""What a verifier is given becomes one set for each platform release, found by what the release names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from documents.release import Release
from documents.security_policy import SecurityPolicy
from documents.verdict import NotTrusted
from fleet.errors import VerifierUnready
from fleet.verifier import NOTHING_ALLOWED, Expected, answer, verify_evidence
from lab.boot_logs import IMAGE, MACHINE
from lab.measuring import POLICY, booted, digest, platform, started, with_policy, workload
from lab.proving import AK, KNOWN, NONCE, NOW, evidence
from measure.errors import QuoteRefused
from measure.valid_releases import Terms

SHORT = replace(POLICY, verdict_seconds=60)
OTHER_IMAGE = replace(MACHINE, application=digest("another kernel")).image()
ONE = with_policy(platform(1, image=IMAGE), POLICY)
TWO = with_policy(platform(2, image=OTHER_IMAGE), SHORT)
DURING = Terms(opens=NOW - 1, closes=NOW + 1)


def expected(*releases: Release, policies: tuple[SecurityPolicy, ...] = (POLICY,), terms: Terms = DURING) -> Expected:
    return Expected(
        releases=tuple(release.encode() for release in releases),
        anchor=None,
        policy=None,
        policies=tuple(policy.encode() for policy in policies),
        terms=terms,
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_release_finds_its_own_policy_and_host_image(order: tuple[int, ...]) -> None:
    policies, images = (POLICY.encode(), SHORT.encode()), (IMAGE.encode(), OTHER_IMAGE.encode())
    given = replace(
        expected(TWO, ONE),
        policies=tuple(policies[at] for at in order),
        images=tuple(images[at] for at in reversed(order)),
    )
    found = {reference.platform.number: reference for reference in given.references()}
    assert (found[1].policy, found[1].image) == (POLICY, IMAGE)
    assert (found[2].policy, found[2].image) == (SHORT, OTHER_IMAGE)


def test_a_release_whose_policy_was_not_given_is_allowed_nothing() -> None:
    found = expected(ONE, TWO).references()
    assert [reference.policy for reference in found] == [POLICY, NOTHING_ALLOWED]
    # Of one release alone the policy that was given is told to be another's.
    assert expected(TWO).references()[0].policy == POLICY


def test_a_workload_goes_with_the_platform_that_it_accepts() -> None:
    one, two = platform(1), platform(2)
    old, new = workload(1, "desk", accepts=(1, 2)), workload(2, "desk", accepts=(2, 3))
    given = expected(one, two, old, new)
    active = {r.platform.number: (r.workloads, r.earlier) for r in given.references()}
    assert active == {1: ((old,), ()), 2: ((new,), (old,))}
    for events, status in (
        ([*booted(one), started("desk", 1)], "warning"),
        ([*booted(one), started("desk", 2)], "contraindicated"),
        ([*booted(two), started("desk", 2)], "warning"),
        ([*booted(two), started("desk", 1)], "warning"),
    ):
        found = answer(evidence(events).encode(), given, KNOWN, NOW, build="0")
        assert found.judged.verdict.status == status
    # The newest platform goes with the newest workload or with none.
    picky = workload(3, "desk", accepts=(9, 9))
    judged = answer(evidence(booted(two)).encode(), expected(two, old, picky), KNOWN, NOW, build="0").judged
    assert "release-accepts" in {finding.check for finding in judged.verdict.failures()}


def test_what_the_newest_workload_refuses_every_platform_refuses() -> None:
    one, two = platform(1), platform(2)
    old = workload(1, "desk", accepts=(1, 2))
    new = workload(2, "desk", accepts=(2, 3), refused=(digest("vm/desk 1"),))
    judged = answer(
        evidence([*booted(one), started("desk", 1)]).encode(), expected(one, two, old, new), KNOWN, NOW, build="0"
    ).judged
    assert [finding.check for finding in judged.verdict.failures()] == ["vm-start"]


def test_the_verdict_lasts_as_long_as_the_policy_of_the_release_that_it_is_by() -> None:
    one, two = platform(1), with_policy(platform(2), SHORT)
    given = expected(one, two, policies=(POLICY, SHORT))
    for release, seconds in ((one, 3_600), (two, 60)):
        found = answer(evidence(booted(release)).encode(), given, KNOWN, NOW, build="0")
        assert found.claims["exp"] == NOW + seconds
        (part,) = found.claims["submods"].values()
        assert part["ear.appraisal-policy-id"] == f"platform/{release.number}"
        found.judged.require_trusted(NOW + seconds - 1)
        with pytest.raises(NotTrusted):
            found.judged.require_trusted(NOW + seconds)


def test_a_caller_that_wants_errors_gets_them() -> None:
    given = expected(platform(1))
    good = evidence(booted(platform(1)))
    assert verify_evidence(good.encode(), given, ak=AK, nonce=NONCE, time=NOW).status == "warning"
    with pytest.raises(QuoteRefused):
        verify_evidence(replace(good, cel=b"").encode(), given, ak=AK, nonce=NONCE, time=NOW)
    with pytest.raises(VerifierUnready):
        verify_evidence(good.encode(), expected(), ak=AK, nonce=NONCE, time=NOW)
