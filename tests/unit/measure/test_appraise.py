# SPDX-License-Identifier: Apache-2.0
"""The one appraisal: a good host, then one thing wrong at a time; each wrong thing is named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.event import MeasuredEvent
from documents.evidence import Evidence
from documents.release import Origin, Release
from documents.verdict import Finding, NotTrusted, Verdict
from lab.boot_logs import IMAGE, IPL, MACHINE, Machine
from lab.boot_logs import event as boot_event
from lab.documents import damaged
from lab.measuring import (
    IDENTITY,
    POLICY,
    Signer,
    booted,
    claims,
    digest,
    launch,
    local,
    logged,
    platform,
    reference,
    started,
    stopped,
    switched,
    workload,
)
from lab.paper_tpm import EccAk, RsaAk, attest
from measure.appraise import Claims, Reference, appraise, claims_from_evidence
from measure.cel import encode_record, replay
from measure.errors import LogRefused, QuoteRefused
from measure.local import BASELINE
from measure.pcr import LAUNCH_PCR, VMM_PCR

ONE = platform(1)
TWO = platform(2, predecessors=(ONE,))
DESK = workload(1, "desk")
IMAGED = platform(1, image=IMAGE)
WITH_IMAGE = reference(IMAGED, DESK, image=IMAGE)
VERIFIED = [*booted(IMAGED), *local(MACHINE)]
NONCE = b"a nonce of at least sixteen bytes"
Events = list[tuple[int, MeasuredEvent]]


def judge(
    events: Events, against: Reference | None = None, *, chip: bool = False, machine: Machine | None = None
) -> Verdict:
    found = claims(events, chip=chip, machine=machine)
    return appraise(found, against or reference(ONE, DESK), 1_800_000_000)


def the_failure(verdict: Verdict) -> Finding:
    """The only finding that stands in the way."""
    with pytest.raises(NotTrusted):
        verdict.require_trusted("nothing")
    (failure,) = verdict.failures()
    return failure


def failed_checks(verdict: Verdict) -> set[tuple[str, str]]:
    with pytest.raises(NotTrusted):
        verdict.require_trusted("nothing")
    return {(finding.check, finding.subject) for finding in verdict.failures()}


def test_a_good_host_is_trusted_with_the_warning_of_its_level() -> None:
    verdict = judge([*booted(ONE), started("desk", 1)])
    verdict.require_trusted("nothing")
    assert verdict.status == "warning"
    assert [finding.check for finding in verdict.findings if finding.outcome == "warn"] == ["assurance-level"]
    assert {finding.subject for finding in verdict.findings if finding.check == "component-digest"} == {
        value.component for value in ONE.reference
    }


def test_only_l2_affirms() -> None:
    """A chip, and a host that booted what its release says; each half alone is less."""
    verdict = judge(VERIFIED, WITH_IMAGE, chip=True, machine=MACHINE)
    assert (verdict.level, verdict.status) == ("L2", "affirming")
    assert (judge(VERIFIED, WITH_IMAGE, machine=MACHINE).level, judge(booted(ONE), chip=True).level) == ("L0", "L1")


@pytest.mark.parametrize(("level", "allow"), [("L0", "AllowSoftwareTpm"), ("L1", "AllowSelfMeasured")])
def test_a_level_below_l2_needs_its_name_in_the_policy(level: str, allow: str) -> None:
    for allowed in ((), (allow,), ("AllowEmulation",)):
        policy = replace(POLICY, allow=allowed)
        verdict = judge(booted(ONE), reference(ONE, policy=policy), chip=level == "L1")
        (finding,) = [finding for finding in verdict.findings if finding.check == "assurance-level"]
        assert finding.outcome == ("warn" if allow in allowed else "fail")
        assert verdict.level == level


def test_a_policy_that_is_not_the_releases_fails() -> None:
    generous = replace(POLICY, allow=("AllowEmulation", "AllowSelfMeasured", "AllowSoftwareTpm"))
    failure = the_failure(judge(booted(ONE), reference(ONE, policy=generous)))
    assert (failure.check, failure.subject) == ("reference", "vmgate/security-policy")


@pytest.mark.parametrize("index", range(len(ONE.reference)))
def test_each_component_with_another_digest_is_named(index: int) -> None:
    events = booted(ONE)
    good = events[index][1]
    bad = digest("changed")
    events[index] = (VMM_PCR, replace(good, fsverity=bad))
    failures = judge(events).failures()
    assert failures
    for failure in failures:
        assert (failure.subject, failure.expected, failure.found) == (good.subject, good.fsverity, bad)
    assert ("component-digest", good.subject) in {(failure.check, failure.subject) for failure in failures}


@pytest.mark.parametrize("index", range(len(ONE.reference)))
def test_each_missing_component_is_named(index: int) -> None:
    events = booted(ONE)
    _, gone = events.pop(index)
    found = failed_checks(judge(events))
    assert ("component-digest", gone.subject) in found
    assert ("component-order", "vmm") in found


def test_a_component_besides_is_named() -> None:
    events = [*booted(ONE), (VMM_PCR, MeasuredEvent(event="component", subject="vmm/rootkit", fsverity=digest("x")))]
    assert failed_checks(judge(events)) == {("component-unknown", "vmm/rootkit"), ("component-order", "vmm")}


def test_a_component_measured_twice_fails_even_with_the_same_digest() -> None:
    events = booted(ONE)
    found = failed_checks(judge([*events, events[1]]))
    assert ("component-digest", "vmm/host-files") in found


def test_another_order_fails() -> None:
    events = booted(ONE)
    events[1], events[2] = events[2], events[1]
    failure = the_failure(judge(events))
    assert (failure.check, failure.expected, failure.found) == (
        "component-order",
        "vmm/host-files at position 2",
        "vmm/firmware-code",
    )


def test_another_trust_anchor_is_named() -> None:
    failure = the_failure(judge(booted(ONE), reference(ONE, identity=digest("another root"))))
    assert (failure.check, failure.subject, failure.found) == ("repository-identity", "repository", IDENTITY)


def test_an_older_release_than_the_one_that_counts_fails() -> None:
    assert ("component-digest", "vmm/host-files") in failed_checks(judge(booted(ONE), reference(TWO, DESK)))


def test_a_digest_that_the_release_itself_refuses_fails() -> None:
    bad = platform(1, refused=(digest("vmgate/hook 0"),))
    failure = the_failure(judge(booted(bad), reference(bad)))
    assert (failure.check, failure.subject) == ("component-refused", "vmgate/hook")


def test_no_log_at_all_fails() -> None:
    found = failed_checks(judge([]))
    assert ("log", "vmgate") in found
    assert ("component-digest", "repository") in found


def test_no_pcr_values_at_all_fail() -> None:
    honest = claims(booted(ONE))
    verdict = appraise(replace(honest, pcrs={}), reference(ONE), 1)
    assert failed_checks(verdict) == {("log-replay", "pcr/12"), ("log-replay", "pcr/13")}


def test_no_reference_values_fail() -> None:
    bare = replace(ONE, reference=())
    found = failed_checks(judge(booted(ONE), reference(bare)))
    assert ("reference", "platform/1") in found
    assert ("component-order", "vmm") in found


def test_a_workload_release_is_no_platform() -> None:
    found = failed_checks(judge(booted(ONE), reference(DESK)))
    assert ("reference", "desktops/1") in found


def test_a_log_that_tells_another_story_than_the_tpm_fails() -> None:
    """The attacker changed a component, and wrote the log as if not."""
    events = booted(ONE)
    events[2] = (VMM_PCR, replace(events[2][1], fsverity=digest("changed")))
    lying = replace(claims(events), records=logged(booted(ONE)))
    failure = the_failure(appraise(lying, reference(ONE), 1))
    assert (failure.check, failure.subject) == ("log-replay", "pcr/13")


def test_a_log_without_sha256_digests_fails() -> None:
    honest = claims(booted(ONE))
    records = tuple(replace(entry, digests={"sha1": entry.digests["sha1"]}) for entry in honest.records)
    assert ("log-replay", "vmgate") in failed_checks(appraise(replace(honest, records=records), reference(ONE), 1))


@pytest.mark.parametrize(
    ("pcr", "event"),
    [(VMM_PCR, "vm-start"), (VMM_PCR, "host"), (LAUNCH_PCR, "component"), (LAUNCH_PCR, "vmm-switch")],
)
def test_an_event_in_the_wrong_pcr_fails(pcr: int, event: str) -> None:
    stray = MeasuredEvent(event=event, subject="desk", fsverity=digest("vm/desk 1"))
    assert ("event", f"pcr/{pcr}") in failed_checks(judge([*booted(ONE), (pcr, stray)]))


def test_a_live_switch_that_was_signed_is_trusted() -> None:
    verdict = judge([*booted(ONE), started("desk", 1), *switched(TWO)], reference(TWO, DESK))
    verdict.require_trusted("nothing")
    assert "vmm-switch" in {finding.check for finding in verdict.findings}


def test_a_second_switch_waits_for_a_reboot() -> None:
    three = platform(3, predecessors=(TWO,))
    events = [*booted(ONE), *switched(TWO), *switched(three)]
    failure = the_failure(judge(events, reference(three, DESK)))
    assert (failure.check, failure.subject) == ("vmm-switch", "pcr/13")


def test_a_switch_from_something_that_nobody_signed_fails() -> None:
    """What ran before the switch was not the predecessor."""
    events = booted(ONE)
    events[1] = (VMM_PCR, replace(events[1][1], fsverity=digest("rootkit")))
    failure = the_failure(judge([*events, *switched(TWO)], reference(TWO, DESK)))
    assert (failure.check, failure.subject) == ("vmm-switch", "pcr/13")


def test_a_switch_without_a_signed_policy_or_by_another_signer_fails() -> None:
    for other in (platform(2), platform(2, predecessors=(ONE,), signer=Signer("mallory"))):
        failure = the_failure(judge([*booted(ONE), *switched(other)], reference(other, DESK)))
        assert failure.check == "vmm-switch"


def test_a_switch_that_names_another_release_fails() -> None:
    events = [*booted(ONE), *switched(TWO)]
    at = len(booted(ONE))
    events[at] = (VMM_PCR, replace(events[at][1], subject="platform/3"))
    assert ("vmm-switch", "platform/2") in failed_checks(judge(events, reference(TWO, DESK)))


def test_a_fresh_boot_is_not_excused_by_a_switch_policy() -> None:
    assert judge(booted(TWO), reference(TWO, DESK)).status == "warning"


def test_a_vm_of_no_release_fails_while_it_runs() -> None:
    for rogue in (launch("vm-start", "desk", digest("rogue")), started("other", 1)):
        failure = the_failure(judge([*booted(ONE), rogue]))
        assert failure.check == "vm-start"
        assert "still running" in failure.found


def test_a_vm_by_another_vms_definition_fails() -> None:
    both = workload(1, "desk", "lab")
    swapped = launch("vm-start", "lab", digest("vm/desk 1"))
    assert the_failure(judge([*booted(ONE), swapped], reference(ONE, both))).subject == "lab"


def test_an_earlier_workload_need_not_accept_the_platform_that_came_after_it() -> None:
    """Platform 1 came with a new workload release; the old one accepted only an older platform."""
    old = workload(1, "desk", accepts=(7, 9))
    verdict = judge(booted(ONE), reference(ONE, workload(2, "desk"), earlier=(old,)))
    assert not [finding for finding in verdict.failures() if finding.check == "release-accepts"]


def test_a_vm_of_the_release_before_is_a_warning_where_that_release_is_named() -> None:
    new = workload(2, "desk")
    events = [*booted(ONE), started("desk", 1)]
    assert the_failure(judge(events, reference(ONE, new))).subject == "desk"
    verdict = judge(events, reference(ONE, new, earlier=(DESK,)))
    assert [f.outcome for f in verdict.findings if f.check == "vm-start"] == ["warn"]
    stopped_verdict = judge([*events, stopped("desk", 1), started("desk", 2)], reference(ONE, new))
    assert [f.outcome for f in stopped_verdict.findings if f.check == "vm-start"] == ["warn", "pass"]


def test_a_refused_definition_fails_while_it_runs() -> None:
    refusing = workload(2, "desk", refused=(digest("vm/desk 1"),))
    events = [*booted(ONE), started("desk", 1)]
    assert the_failure(judge(events, reference(ONE, refusing, earlier=(DESK,)))).subject == "desk"


def test_a_workload_that_does_not_accept_the_platform_fails() -> None:
    picky = workload(1, "desk", accepts=(2, 3))
    failure = the_failure(judge(booted(ONE), reference(ONE, picky)))
    assert (failure.check, failure.expected, failure.found) == ("release-accepts", "platform releases 2 to 3", "1")


def test_host_local_things_that_nobody_vouches_for_are_a_warning() -> None:
    settings = launch("host", "host/settings", digest("settings"))
    verdict = judge([*VERIFIED, settings], WITH_IMAGE, chip=True, machine=MACHINE)
    (finding,) = [finding for finding in verdict.findings if finding.outcome == "warn"]
    assert (finding.check, finding.subject, finding.authority) == ("host-local", "host/settings", "none")
    assert (verdict.level, verdict.status) == ("L2", "warning")


def test_host_local_things_that_the_image_vouches_for_must_be_as_it_says() -> None:
    for at, (pcr, event) in enumerate(VERIFIED):
        if event.event == "host" and event.subject != BASELINE:
            changed = [*VERIFIED[:at], (pcr, replace(event, fsverity=digest("changed"))), *VERIFIED[at + 1 :]]
            without = [*VERIFIED[:at], *VERIFIED[at + 1 :]]
            for events in (changed, without):
                failure = the_failure(judge(events, WITH_IMAGE, chip=True, machine=MACHINE))
                assert (failure.check, failure.subject) == ("host-local", event.subject)


def test_a_host_that_booted_something_else_is_no_l2_and_not_trusted() -> None:
    for changed in (replace(MACHINE, secure_boot=b"\0"), replace(MACHINE, application=digest("another")), None):
        verdict = judge(VERIFIED, WITH_IMAGE, chip=True, machine=changed)
        assert (verdict.level, verdict.status) == ("L1", "contraindicated")


def test_a_host_image_that_is_missing_or_is_not_the_releases_fails() -> None:
    other = replace(MACHINE, application=digest("another")).image()
    for against in (reference(IMAGED), reference(IMAGED, image=other), reference(ONE, image=IMAGE)):
        assert ("reference", "host/image") in failed_checks(judge(VERIFIED, against, chip=True, machine=MACHINE))


def test_a_switch_counts_in_the_boot_of_the_image_it_was_signed_for() -> None:
    two = platform(2, predecessors=(IMAGED,), image=IMAGE)
    events = [*booted(IMAGED), *local(MACHINE), *switched(two)]
    against = reference(two, DESK, image=IMAGE)
    assert judge(events, against, chip=True, machine=MACHINE).status == "affirming"
    late = replace(MACHINE, phase="sysinit:ready:shutdown")
    assert ("vmm-switch", "pcr/13") in failed_checks(judge(events, against, chip=True, machine=late))


def test_a_host_that_runs_long_has_few_findings() -> None:
    cycle = [started("desk", 1), stopped("desk", 1), launch("host", "host/settings", digest("same"))]
    assert len(judge([*booted(ONE), *cycle * 300]).findings) == len(judge([*booted(ONE), *cycle]).findings)


@given(st.data())
def test_no_change_of_the_vmm_events_is_ever_trusted(data: st.DataObject) -> None:
    good = booted(ONE)
    events = data.draw(st.lists(st.sampled_from([*good, *booted(TWO), *switched(TWO)]), max_size=9))
    verdict = judge(events)
    assert (verdict.status != "contraindicated") == (events == good)


# Evidence


def evidence(events: Events, key: EccAk | RsaAk | None = None, nonce: bytes = NONCE, **changes: Any) -> Evidence:
    key = key or EccAk()
    records = logged(events)
    message = attest(nonce, {"sha256": replay(records, "sha256")})
    base = Evidence(
        attest=message,
        signature=key.sign(message),
        ak=key.public,
        boot_log=b"",
        ima=b"",
        cel=b"".join(encode_record(entry) for entry in records),
    )
    return replace(base, **changes)


def test_good_evidence_is_judged_like_the_host_judges_itself() -> None:
    events = [*booted(ONE), started("desk", 1)]
    proven = claims_from_evidence(evidence(events), EccAk().public, NONCE)
    assert proven == claims(events)
    assert appraise(proven, reference(ONE, DESK), 7) == appraise(claims(events), reference(ONE, DESK), 7)


def test_other_banks_count_where_the_quote_selects_them() -> None:
    records = logged(booted(ONE))
    good = {bank: replay(records, bank) for bank in ("sha256", "sha384")}
    bad = {**good, "sha384": {**good["sha384"], VMM_PCR: bytes(48)}}
    for values in (good, bad):
        message = attest(NONCE, values)
        sample = evidence(booted(ONE), attest=message, signature=EccAk().sign(message))
        if values is good:
            assert claims_from_evidence(sample, EccAk().public, NONCE).records == records
        else:
            with pytest.raises(QuoteRefused):
                claims_from_evidence(sample, EccAk().public, NONCE)


def whole_evidence(machine: Machine, told: Machine | None = None, pcrs: Iterable[int] = range(12)) -> Evidence:
    """Evidence of a host with a host image. ``told``: the machine whose logs it sends."""
    told = told or machine
    values = {**{index: machine.pcrs()[index] for index in pcrs}, **replay(logged(VERIFIED), "sha256")}
    message = attest(NONCE, {"sha256": values})
    signature = EccAk().sign(message)
    return evidence(VERIFIED, attest=message, signature=signature, boot_log=told.boot_log(), ima=told.ima_list())


def test_evidence_tells_what_ran_before_vmgate() -> None:
    proven = claims_from_evidence(whole_evidence(MACHINE), EccAk().public, NONCE, chip=True)
    assert proven == claims(VERIFIED, chip=True, machine=MACHINE)
    assert appraise(proven, WITH_IMAGE, 7).status == "affirming"


def test_a_boot_log_that_the_quote_contradicts_or_does_not_cover_is_refused() -> None:
    attacker = replace(MACHINE, secure_boot=b"\0", application=digest("rootkit"))
    samples = [whole_evidence(attacker, told=MACHINE), whole_evidence(MACHINE, told=attacker)]
    samples += [whole_evidence(MACHINE, pcrs=set(range(12)) - {left_out}) for left_out in range(12)]
    samples += [evidence(VERIFIED, boot_log=MACHINE.boot_log(), ima=MACHINE.ima_list())]
    for sample in samples:
        with pytest.raises((QuoteRefused, LogRefused)):
            claims_from_evidence(sample, EccAk().public, NONCE)


def test_a_quote_of_boot_pcrs_without_their_log_is_refused() -> None:
    with pytest.raises(QuoteRefused):
        claims_from_evidence(replace(whole_evidence(MACHINE), boot_log=b""), EccAk().public, NONCE)


def test_a_boot_log_cannot_speak_for_our_pcrs() -> None:
    liar = replace(MACHINE, more=(boot_event(VMM_PCR, IPL, b"what vmgate did not measure"),))
    sample = replace(whole_evidence(MACHINE), boot_log=liar.boot_log())
    proven = claims_from_evidence(sample, EccAk().public, NONCE)
    assert proven.pcrs == claims(VERIFIED).pcrs


def test_evidence_of_another_host_nonce_log_or_selection_is_refused() -> None:
    good = evidence(booted(ONE))
    other_log = evidence(booted(TWO)).cel
    partial = attest(NONCE, {"sha256": {13: replay(logged(booted(ONE)), "sha256")[13]}})
    weak = attest(NONCE, {"sha384": replay(logged(booted(ONE)), "sha384")})
    attacks: list[tuple[Evidence, bytes, bytes]] = [
        (good, RsaAk().public, NONCE),
        (evidence(booted(ONE), RsaAk()), EccAk().public, NONCE),
        (good, EccAk().public, b"another nonce of some length"),
        (good, EccAk().public, b""),
        (replace(good, cel=other_log), EccAk().public, NONCE),
        (replace(good, cel=b""), EccAk().public, NONCE),
        (replace(good, attest=partial, signature=EccAk().sign(partial)), EccAk().public, NONCE),
        (replace(good, attest=weak, signature=EccAk().sign(weak)), EccAk().public, NONCE),
    ]
    for sample, ak, nonce in attacks:
        with pytest.raises(QuoteRefused):
            claims_from_evidence(sample, ak, nonce)


def test_evidence_with_an_empty_log_is_never_trusted() -> None:
    proven = claims_from_evidence(evidence([]), EccAk().public, NONCE)
    assert ("log", "vmgate") in failed_checks(appraise(proven, reference(ONE), 1))


def test_damage_anywhere_in_the_log_is_refused() -> None:
    good = evidence(booted(ONE)[:2])
    for data in damaged(good.cel):
        if data != good.cel:
            with pytest.raises((QuoteRefused, LogRefused)):
                claims_from_evidence(replace(good, cel=data), EccAk().public, NONCE)


def test_every_release_in_use_here_is_a_document() -> None:
    for release in (ONE, TWO, DESK):
        assert Release.parse(release.encode()) == release
    assert isinstance(claims([]), Claims)


@pytest.mark.parametrize("index", range(len(ONE.reference)))
@pytest.mark.parametrize(
    "origin",
    [None, Origin.of("platform", 9), Origin.of("other", 1), Origin(target="releases/platform/1.json", version="2")],
)
def test_a_component_that_came_from_elsewhere_is_named(index: int, origin: Origin | None) -> None:
    """A forged target, a forged version, and the form of event that told neither."""
    events = booted(ONE)
    good = events[index][1]
    events[index] = (VMM_PCR, replace(good, origin=origin))
    failure = the_failure(judge(events))
    assert (failure.check, failure.subject) == ("component-origin", good.subject)
    assert failure.expected == "releases/platform/1.json, version 1"


def test_a_switch_that_came_from_elsewhere_is_named() -> None:
    events = [*booted(ONE), *switched(TWO)]
    at = len(booted(ONE))
    events[at] = (VMM_PCR, replace(events[at][1], origin=Origin.of("platform", 1)))
    assert ("vmm-switch", "platform/2/origin") in failed_checks(judge(events, reference(TWO, DESK)))


def test_a_release_that_told_no_origins_is_measured_without_them() -> None:
    old = replace(ONE, reference=tuple(replace(value, origin=None) for value in ONE.reference))
    verdict = judge(booted(old), reference(old, DESK))
    verdict.require_trusted("nothing")
    assert "component-origin" not in {finding.check for finding in verdict.findings}
    # The new form of an event is as wrong there as the old one is elsewhere.
    assert ("component-origin", "repository") in failed_checks(judge(booted(ONE), reference(old, DESK)))
