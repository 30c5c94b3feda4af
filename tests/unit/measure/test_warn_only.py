# SPDX-License-Identifier: Apache-2.0
"""What a policy only warns about: seen, never a pass, and never enough to be affirmed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from documents.event import MeasuredEvent
from documents.security_policy import SecurityPolicy
from documents.verdict import VERDICT_SECONDS, Verdict
from lab.boot_logs import IMAGE, MACHINE
from lab.measuring import POLICY, booted, claims, digest, local, platform, reference, with_policy
from measure.appraise import appraise
from measure.pcr import VMM_PCR

NOW = 1_800_000_000
HOOK = "vmgate/hook"
WARNED = replace(POLICY, allow=(), warn_only=(HOOK,))


def judged(policy: SecurityPolicy, changed: str = "", *, gone: bool = False, refused: tuple[str, ...] = ()) -> Verdict:
    """An L2 host, with another digest of one component, or without it."""
    release = replace(with_policy(platform(1, image=IMAGE), policy), refused=refused)
    events = [*booted(release), *local(MACHINE)]
    for at, (pcr, event) in enumerate(events):
        if event.subject == changed:
            events[at] = (pcr, replace(event, fsverity=digest("changed")))
    events = [event for event in events if not (gone and event[1].subject == changed)]
    found = claims(events, chip=True, machine=MACHINE)
    return appraise(found, reference(release, image=IMAGE, policy=policy), NOW)


def test_a_component_as_it_should_be_passes_whether_it_is_enforced_or_not() -> None:
    assert judged(WARNED).status == "affirming"


def test_another_digest_is_a_warning_where_the_policy_says_so_and_nowhere_else() -> None:
    verdict = judged(WARNED, HOOK)
    (warning,) = [finding for finding in verdict.findings if finding.outcome != "pass"]
    assert (warning.check, warning.subject, warning.outcome) == ("component-digest", HOOK, "warn")
    assert (verdict.level, verdict.status) == ("L2", "warning")
    for policy, changed in ((replace(WARNED, warn_only=()), HOOK), (WARNED, "vmm/firmware-code")):
        assert ("component-digest", changed) in {(f.check, f.subject) for f in judged(policy, changed).failures()}


@pytest.mark.parametrize("how", ["gone", "refused", "besides"])
def test_what_is_worse_than_another_digest_still_fails(how: str) -> None:
    if how == "gone":
        verdict = judged(WARNED, HOOK, gone=True)
    elif how == "refused":
        verdict = judged(WARNED, HOOK, refused=(digest("changed"),))
    else:
        release = with_policy(platform(1, image=IMAGE), replace(WARNED, warn_only=("vmm/rootkit",)))
        stray = MeasuredEvent(event="component", subject="vmm/rootkit", fsverity=digest("x"))
        found = claims([*booted(release), (VMM_PCR, stray), *local(MACHINE)], chip=True, machine=MACHINE)
        policy = replace(WARNED, warn_only=("vmm/rootkit",))
        verdict = appraise(found, reference(release, image=IMAGE, policy=policy), NOW)
    assert verdict.status == "contraindicated"


def test_the_policy_says_for_how_long_a_verdict_counts() -> None:
    assert judged(WARNED).expires == NOW + VERDICT_SECONDS
    verdict = judged(replace(WARNED, verdict_seconds=60))
    assert [verdict.is_current(now) for now in (NOW - 1, NOW, NOW + 59, NOW + 60)] == [False, True, True, False]
