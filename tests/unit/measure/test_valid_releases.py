# SPDX-License-Identifier: Apache-2.0
"""The three states of an update, by time and number alone; and that hosts are judged by them, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.event import MeasuredEvent
from documents.release import Release
from documents.seen_host import SeenHost
from lab.measuring import IDENTITY, POLICY, booted, digest, platform, reference, started, switched, workload
from lab.proving import KNOWN, NOW, boot, evidence
from measure.pcr import VMM_PCR
from measure.valid_releases import BOTH, NEW, OLD, STATES, TABLE, Terms, valid_releases
from measure.verifying import Judged, judge

ONE = platform(1)
TWO = platform(2, predecessors=(ONE,))
OPENS, CLOSES = NOW - 10, NOW + 10
DURING = Terms(opens=OPENS, closes=CLOSES)
DESK = workload(1, "desk")


def verdict(
    events: Iterable[tuple[int, MeasuredEvent]],
    now: int = NOW,
    releases: tuple[Release, ...] = (ONE, TWO),
    terms: Terms = DURING,
    before: SeenHost | None = None,
) -> Judged:
    """What a verifier says that was given these releases."""
    references = tuple(reference(release, DESK) for release in releases)
    known = replace(KNOWN, before=before)
    return judge(evidence(events).encode(), references, known, now, terms=terms)


def refused(judged: Judged) -> set[tuple[str, str]]:
    assert judged.verdict.status == "contraindicated"
    assert judged.seen is None
    return {(finding.check, finding.subject) for finding in judged.verdict.failures()}


# The states


@pytest.mark.parametrize(
    ("now", "state", "numbers"),
    [
        (OPENS - 1, OLD, (1,)),
        (OPENS, BOTH, (2, 1)),
        (CLOSES - 1, BOTH, (2, 1)),
        (CLOSES, NEW, (2,)),
        (CLOSES + 10_000, NEW, (2,)),
    ],
)
def test_time_leads_from_the_old_release_over_both_to_the_new_one(now: int, state: str, numbers: tuple[int]) -> None:
    valid = valid_releases((ONE, TWO), DURING, now)
    assert (valid.state, valid.numbers) == (state, numbers)


def test_a_host_that_was_seen_at_the_new_release_has_no_way_back() -> None:
    for seen, state in ((0, BOTH), (1, BOTH), (2, NEW), (3, NEW)):
        assert valid_releases((ONE, TWO), replace(DURING, seen=seen), NOW).state == state


def test_a_raised_epoch_ends_the_old_release_at_once() -> None:
    raised = platform(2, epoch=2)
    assert valid_releases((ONE, raised), DURING, NOW).numbers == (2,)
    # Until then it is the only one that anybody has.
    assert valid_releases((ONE, raised), DURING, OPENS - 1).numbers == (1,)


def test_without_terms_only_the_newest_counts() -> None:
    assert valid_releases((TWO, ONE), Terms(), NOW).numbers == (2,)
    assert valid_releases((ONE,), Terms(opens=NOW + 1), NOW).numbers == (1,)


def test_only_the_release_before_the_newest_counts_beside_it() -> None:
    three = platform(3)
    assert valid_releases((ONE, three, TWO), DURING, NOW).numbers == (3, 2)


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=4, unique_by=lambda pair: pair[0]),
    st.builds(Terms, opens=st.integers(0, 20), closes=st.integers(0, 20), seen=st.integers(0, 7)),
    st.integers(0, 20),
)
def test_what_holds_in_every_state(numbers: list[tuple[int, int]], terms: Terms, now: int) -> None:
    releases = [platform_of(number, epoch) for number, epoch in numbers]
    valid = valid_releases(releases, terms, now)
    by_number = {release.number: release for release in releases}
    newest = max(by_number)
    assert valid.state in STATES
    assert 1 <= len(valid.numbers) <= 2
    assert set(valid.numbers) <= set(sorted(by_number)[-2:])
    assert valid.refused == by_number[newest].refused
    if newest in valid.numbers:
        assert all(by_number[number].epoch >= by_number[newest].epoch for number in valid.numbers)
    # Time leads on and never back.
    later = valid_releases(releases, terms, now + 1)
    assert STATES.index(later.state) >= STATES.index(valid.state)


def platform_of(number: int, epoch: int) -> Release:
    return replace(ONE, number=number, epoch=epoch, refused=(digest(f"refused by {number}"),))


def test_the_table_leads_forward_only() -> None:
    assert all(STATES.index(after) > STATES.index(before) for (before, _), after in TABLE.items())


# Hosts


def test_the_old_release_is_accepted_before_and_during_the_update_and_refused_after_it() -> None:
    for now, good in ((OPENS - 1, True), (NOW, True), (CLOSES, False)):
        judged = verdict(booted(ONE), now)
        assert judged.release == "platform/1"
        if good:
            assert judged.verdict.status == "warning"
        else:
            assert refused(judged) == {("release-valid", "platform/1")}
            (why,) = judged.verdict.failures()
            assert (why.expected, why.found) == ("platform/2 (state: new)", "platform/1")


def test_the_new_release_is_refused_before_the_update_and_accepted_from_then_on() -> None:
    for now, good in ((OPENS - 1, False), (NOW, True), (CLOSES, True)):
        for events in (booted(TWO), [*booted(ONE), *switched(TWO)]):
            judged = verdict(events, now)
            assert judged.release == "platform/2"
            if good:
                assert judged.verdict.status == "warning"
            else:
                assert refused(judged) == {("release-valid", "platform/2")}


def test_a_host_that_goes_back_is_refused() -> None:
    """Its TPM was reset between, so that nothing but the number speaks against it."""
    first = verdict([*booted(TWO), *boot(1)])
    assert first.seen is not None
    nonce = b"the nonce of the next question"
    again = judge(
        evidence([*booted(ONE), *boot(2)], nonce=nonce, counters=(9000, 4, 0)).encode(),
        (reference(ONE, DESK), reference(TWO, DESK)),
        replace(KNOWN, nonce=nonce, before=first.seen),
        NOW,
        terms=DURING,
    )
    assert refused(again) == {("release-valid", "platform/1")}


@pytest.mark.parametrize("component", [value.component for value in TWO.reference if value not in ONE.reference])
def test_a_mixture_of_two_valid_releases_is_refused(component: str) -> None:
    """Each component is one that some valid release has; together they are nobody's."""
    old = {event.subject: event for _, event in booted(ONE)}
    events = [(pcr, old[event.subject] if event.subject == component else event) for pcr, event in booted(TWO)]
    judged = verdict(events)
    assert ("component-digest", component) in refused(judged)


def test_firmware_of_the_old_release_with_the_hook_of_the_new_one_is_refused() -> None:
    other_hook = replace(
        TWO,
        reference=tuple(
            replace(value, fsverity=digest("hook 2")) if value.component == "vmgate/hook" else value
            for value in TWO.reference
        ),
    )
    hook = next(event for event in booted(other_hook) if event[1].subject == "vmgate/hook")
    events = [hook if event.subject == "vmgate/hook" else (VMM_PCR, event) for _, event in booted(ONE)]
    for releases in ((ONE, other_hook), (other_hook, ONE)):
        judged = verdict(events, releases=releases)
        # The best candidate is the one with the fewest failures, whatever the order.
        assert judged.release == "platform/1"
        assert refused(judged) == {("component-digest", "vmgate/hook")}


def test_the_policy_of_one_release_does_not_serve_another() -> None:
    generous = replace(POLICY, allow=("AllowSelfMeasured", "AllowSoftwareTpm"))
    references = (reference(ONE, DESK), reference(TWO, DESK, policy=generous))
    judged = judge(evidence(booted(TWO)).encode(), references, KNOWN, NOW, terms=DURING)
    assert refused(judged) == {("reference", "vmgate/security-policy")}


def test_what_the_newest_refuses_every_release_refuses() -> None:
    bad = digest("vmm/firmware-code 1")
    refusing = platform(2, refused=(bad,))
    for now in (OPENS - 1, NOW):
        judged = verdict(booted(ONE), now, (ONE, refusing))
        assert refused(judged) == {("component-refused", "vmm/firmware-code")}


def test_an_older_workload_than_the_newest_belongs_to_the_older_platform_only_if_it_is_named() -> None:
    judged = verdict([*booted(ONE), started("desk", 1)])
    assert judged.verdict.status == "warning"
    assert ("vm-start", "other") in refused(verdict([*booted(ONE), started("other", 1)]))


def test_every_release_gives_its_own_identity_of_the_repository() -> None:
    references = (reference(ONE, DESK, identity=digest("another root")), reference(TWO, DESK, identity=IDENTITY))
    judged = judge(evidence(booted(ONE)).encode(), references, KNOWN, NOW, terms=DURING)
    assert refused(judged) == {("repository-identity", "repository")}


def test_the_guide_tells_the_states() -> None:
    """Each state has its row, in the order in which they come."""
    guide = (Path(__file__).parents[3] / "docs/guide/attestation.md").read_text()
    rows = re.findall(r"^\| ([a-z ]+) \| .* \| .* \|$", guide[guide.index("## Several releases") :], re.MULTILINE)
    assert rows == ["state", *STATES]
