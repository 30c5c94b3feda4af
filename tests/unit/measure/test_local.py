# SPDX-License-Identifier: Apache-2.0
"""Whose word there is for what is local to a host: the publisher's, the administrator's, or nobody's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from content.fsverity import digest_bytes
from documents.baseline import Baseline
from documents.event import MeasuredEvent
from documents.host_files import ABSENT, HostFile, HostFiles
from documents.local_listing import UNREADABLE, ListedFile, shown_name, unusual_rights
from documents.release import Artifact, Release
from documents.security_policy import SecurityPolicy
from documents.site_baseline import SiteBaseline
from documents.verdict import Finding, Verdict
from lab.boot_logs import MACHINE
from lab.measuring import POLICY, PUBLISHER, booted, claims, digest, launch, platform, reference
from measure.appraise import appraise
from measure.baseline import Approved
from measure.local import (
    BASELINE,
    COMMAND_LINE,
    HOOKS,
    LOCAL_FILES,
    MORE_SETTINGS,
    PROGRAMS,
    SUBJECTS,
    Words,
    is_libvirt_program,
    judge_local,
    listing_digest,
    local_reference,
    programs_digest,
)

ONE = platform(1)
FOUND = {subject: digest(subject) for subject in SUBJECTS}


def approved(entries: dict[str, str], sequence: int = 1) -> Approved:
    """A baseline whose signature was verified."""
    baseline = Baseline(
        sequence=sequence, time=1, actor="root", channel=ONE.channel, number=1, entries=tuple(sorted(entries.items()))
    )
    fsverity = digest_bytes(baseline.encode())
    return Approved(baseline=baseline, fsverity=fsverity, channel=ONE.channel, key=PUBLISHER.public())


def judged(word: Approved | None, found: dict[str, str] = FOUND, local: str = "any") -> Verdict:
    """A host that measured these things and has this baseline."""
    policy = replace(POLICY, local=local)
    release = with_policy(policy)
    events = [*booted(release), *(launch("host", subject, value) for subject, value in sorted(found.items()))]
    events.append(launch("host", BASELINE, word.fsverity if word else ABSENT))
    claimed = replace(claims(events), approved=word)
    return appraise(claimed, reference(release, policy=policy), 1)


def with_policy(policy: SecurityPolicy) -> Release:
    """The release names the policy that its hosts are judged by."""
    value = digest_bytes(policy.encode())
    return replace(
        ONE,
        artifacts=tuple(replace(a, fsverity=value) if a.kind == "security-policy" else a for a in ONE.artifacts),
        reference=tuple(
            replace(v, fsverity=value) if v.component == "vmgate/security-policy" else v for v in ONE.reference
        ),
    )


def outcomes(verdict: Verdict) -> set[tuple[str, str]]:
    return {(f.check, f.subject) for f in verdict.findings if f.outcome == "fail"}


def local_findings_of(verdict: Verdict) -> dict[str, Finding]:
    return {f.subject: f for f in verdict.findings if f.check in ("host-local", "not-approved", "local-policy")}


def test_what_nobody_approved_is_a_warning_as_long_as_the_policy_asks_for_nothing() -> None:
    found = local_findings_of(judged(None))
    assert found.keys() == SUBJECTS
    assert {(f.outcome, f.authority) for f in found.values()} == {("warn", "none")}


def test_what_was_approved_passes_by_the_administrators_word() -> None:
    for local in ("any", "approved"):
        found = local_findings_of(judged(approved(FOUND), local=local))
        assert {(f.outcome, f.authority) for f in found.values()} == {("pass", "local")}


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_each_thing_that_differs_is_named_and_fails_where_the_policy_asks_for_approval(subject: str) -> None:
    word = approved(FOUND)
    changed = {**FOUND, subject: digest("changed")}
    lenient, strict = judged(word, changed), judged(word, changed, "approved")
    assert outcomes(lenient) == set()
    assert local_findings_of(lenient)[subject].outcome == "warn"
    assert outcomes(strict) == {("not-approved", subject)}
    assert local_findings_of(strict)[subject].expected == FOUND[subject]


def test_a_policy_that_asks_for_approval_refuses_a_host_where_nobody_approved() -> None:
    assert outcomes(judged(None, local="approved")) == {("not-approved", subject) for subject in SUBJECTS}


@pytest.mark.parametrize("local", ["approved", "publisher"])
@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_what_was_not_measured_fails_where_the_policy_asks(subject: str, local: str) -> None:
    less = {name: value for name, value in FOUND.items() if name != subject}
    assert ("host-local", subject) in outcomes(judged(approved(FOUND), less, local))


def test_where_the_publisher_alone_counts_the_administrators_word_is_none() -> None:
    assert outcomes(judged(approved(FOUND), local="publisher")) == {("local-policy", subject) for subject in SUBJECTS}


def test_no_baseline_takes_the_place_of_a_publishers_value() -> None:
    words = Words(publisher={HOOKS: digest("signed")}, approved=approved(FOUND), needed="approved")
    finding = judge_local("host-local", HOOKS, FOUND[HOOKS], words)
    assert (finding.outcome, finding.authority, finding.expected) == ("fail", "publisher", digest("signed"))


def test_what_cannot_be_measured_fails_even_where_it_was_approved_and_nothing_is_asked() -> None:
    broken = {**FOUND, HOOKS: UNREADABLE}
    for word in (None, approved(broken)):
        assert outcomes(judged(word, broken)) == {("host-local", HOOKS)}


def test_a_baseline_under_a_policy_key_or_channel_that_is_not_the_publishers_counts_for_nothing() -> None:
    other = replace(PUBLISHER.public(), x="0" * 63 + "1")
    for word in (replace(approved(FOUND), key=other), replace(approved(FOUND), channel="another")):
        assert outcomes(judged(word, local="approved")) == {("not-approved", subject) for subject in SUBJECTS}


SITE = SiteBaseline(entries=((HOOKS, (digest("one host's"), digest("another's"))),))


def with_site(release: Release, site: SiteBaseline = SITE) -> Release:
    listed = Artifact(name="host/site-baseline", kind="site-baseline", fsverity=digest_bytes(site.encode()), length=1)
    return replace(release, artifacts=(*release.artifacts, listed))


def judged_by_site(found: str, local: str, word: Approved | None = None) -> Verdict:
    """A host of a site that approved two kinds of hooks; the host's administrator may have approved all of it."""
    policy = replace(POLICY, local=local)
    release = with_site(with_policy(policy))
    there = {**FOUND, HOOKS: found}
    events = [*booted(release), *(launch("host", subject, value) for subject, value in sorted(there.items()))]
    events.append(launch("host", BASELINE, word.fsverity if word else ABSENT))
    claimed = replace(claims(events), approved=word)
    return appraise(claimed, reference(release, policy=policy, site=SITE), 1)


@pytest.mark.parametrize("local", ["any", "approved", "publisher"])
@pytest.mark.parametrize("found", ["one host's", "another's"])
def test_what_the_site_approved_passes_by_its_word_on_every_host(local: str, found: str) -> None:
    finding = local_findings_of(judged_by_site(digest(found), local))[HOOKS]
    assert (finding.outcome, finding.authority) == ("pass", "site")


def test_what_the_site_did_not_approve_is_the_administrators_where_the_policy_leaves_it() -> None:
    changed = digest("changed")
    own = approved({**FOUND, HOOKS: changed})
    assert local_findings_of(judged_by_site(changed, "any"))[HOOKS].outcome == "warn"
    refused = local_findings_of(judged_by_site(changed, "approved"))[HOOKS]
    assert (refused.check, refused.outcome) == ("not-approved", "fail")
    assert refused.expected == "one of 2 that the site approved"
    passed = local_findings_of(judged_by_site(changed, "approved", own))[HOOKS]
    assert (passed.outcome, passed.authority) == ("pass", "local")
    refused = local_findings_of(judged_by_site(changed, "publisher", own))[HOOKS]
    assert (refused.check, refused.outcome) == ("local-policy", "fail")


def test_no_site_takes_the_place_of_the_publishers_value() -> None:
    words = Words(publisher={HOOKS: digest("signed")}, site=dict(SITE.entries), needed="any")
    finding = judge_local("host-local", HOOKS, digest("another's"), words)
    assert (finding.outcome, finding.authority) == ("fail", "publisher")


def test_what_the_site_names_must_have_been_measured_whatever_the_policy_asks() -> None:
    release = with_site(ONE)
    assert ("host-local", HOOKS) in outcomes(appraise(claims(booted(release)), reference(release, site=SITE), 1))


def test_the_sites_baseline_that_counts_is_the_releases_own() -> None:
    good = claims([*booted(ONE), launch("host", HOOKS, digest("another's"))])
    assert not appraise(good, reference(with_site(ONE), site=SITE), 1).failures()
    other = SiteBaseline(entries=((HOOKS, (digest("a third's"),)),))
    for against in (reference(with_site(ONE)), reference(ONE, site=SITE), reference(with_site(ONE), site=other)):
        assert ("reference", "host/site-baseline") in outcomes(appraise(good, against, 1))


def test_an_older_baseline_beside_the_log_of_a_newer_one_fails() -> None:
    events = [*booted(ONE), launch("host", BASELINE, approved(FOUND, 2).fsverity)]
    claimed = replace(claims(events), approved=approved(FOUND, 1))
    assert outcomes(appraise(claimed, reference(ONE), 1)) == {("baseline", BASELINE)}


def test_what_was_changed_and_then_approved_in_a_boot_is_judged_as_it_is() -> None:
    later = launch("host", HOOKS, FOUND[HOOKS])
    word = approved(FOUND)
    release = with_policy(replace(POLICY, local="approved"))
    events = [*booted(release), *(launch("host", s, v) for s, v in {**FOUND, HOOKS: digest("before")}.items()), later]
    events.append(launch("host", BASELINE, word.fsverity))
    against = reference(release, policy=replace(POLICY, local="approved"))
    assert not appraise(replace(claims(events), approved=word), against, 1).failures()


def test_the_kernels_arguments_count_only_if_the_log_covers_them() -> None:
    policy = replace(POLICY, kernel_required=("quiet",))
    release = with_policy(policy)
    line = b"quiet ro\n"
    for measured, told, good in ((line, line, True), (b"ro\n", line, False), (line, None, False), (None, line, False)):
        local = [launch("host", COMMAND_LINE, digest_bytes(measured))] if measured else []
        claimed = replace(claims([*booted(release), *local]), command_line=told)
        failed = outcomes(appraise(claimed, reference(release, policy=policy), 1))
        assert failed == (set() if good else {("kernel-argument", "quiet")})


def test_an_images_list_is_what_its_host_measures_and_an_added_hook_shows() -> None:
    image = MACHINE.image()
    named = local_reference(image)
    assert named.keys() == SUBJECTS - {"host/settings", MORE_SETTINGS}
    assert named[HOOKS] == listing_digest(())
    assert named["host/virtqemud.conf"] == ABSENT
    files = {entry.path: entry.fsverity for entry in image.files}
    assert named[PROGRAMS] == programs_digest(files)
    assert programs_digest({**files, "/usr/lib/libvirt/more": digest("x")}) != named[PROGRAMS]
    hook = ListedFile(path="daemon.d/10-x", fsverity=digest("x"))
    assert listing_digest([hook]) != named[HOOKS]


def test_lists_of_packages_vouch_for_the_programs_alone() -> None:
    paths = ("/etc/default/libvirtd", "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so")
    files = {path: digest(path) for path in (*paths, LOCAL_FILES["host/libvirtd"])}
    listing = HostFiles(
        root="host",
        packages=(),
        files=tuple(HostFile(path=path, fsverity=value, length=1) for path, value in sorted(files.items())),
    )
    named = local_reference(None, listing)
    assert named == {"host/libvirtd": digest("/usr/sbin/libvirtd"), PROGRAMS: programs_digest(files)}
    assert local_reference(None) == {}


def test_the_list_that_counts_is_the_releases_own() -> None:
    listing = HostFiles(
        root="host", packages=(), files=(HostFile(path="/usr/sbin/libvirtd", fsverity=digest("daemon"), length=1),)
    )
    listed = Artifact(name="host/libvirt-files", kind="host-files", fsverity=digest_bytes(listing.encode()), length=1)
    release = replace(ONE, artifacts=(*ONE.artifacts, listed))
    named = local_reference(None, listing)
    good = [*booted(ONE), *(launch("host", subject, value) for subject, value in named.items())]
    assert not appraise(claims(good), reference(release, packages=listing), 1).failures()
    for against in (reference(release), reference(ONE, packages=listing)):
        assert ("reference", "host/libvirt-files") in outcomes(appraise(claims(good), against, 1))
    bad = [*booted(ONE), *(launch("host", subject, digest("changed")) for subject in named)]
    found = outcomes(appraise(claims(bad), reference(release, packages=listing), 1))
    assert found == {("host-local", "host/libvirtd"), ("host-local", PROGRAMS)}


@pytest.mark.parametrize(
    ("path", "belongs"),
    [
        ("/usr/sbin/libvirtd", True),
        ("/usr/sbin/virtqemud", True),
        ("/usr/lib/libvirt/virt-aa-helper", True),
        ("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so", True),
        ("/usr/lib64/libvirt.so.0.12008.0", True),
        ("/usr/sbin/virt-what", False),
        ("/usr/lib/x86_64-linux-gnu/libvirglrenderer.so.1", False),
        ("/usr/bin/virsh", False),
        ("/usr/sbin/libvirtd/x", False),
    ],
)
def test_what_belongs_to_libvirts_daemons(path: str, belongs: bool) -> None:
    assert is_libvirt_program(path) is belongs


def test_rights_are_told_only_where_they_are_unusual() -> None:
    assert unusual_rights(0, 0, 0o755, program=True) == ""
    assert unusual_rights(0, 0, 0o644, program=False) == ""
    assert unusual_rights(0, 0, 0o644, program=True) == "uid 0 gid 0 mode 0644"
    assert unusual_rights(1000, 0, 0o755, program=True) == "uid 1000 gid 0 mode 0755"
    for mode in (0o775, 0o757, 0o4755, 0o2755):
        assert unusual_rights(0, 0, mode, program=True)


def test_names_that_differ_stay_different_when_shown() -> None:
    names = [b"a b", b"a\\x20b", b"a\nb", b"\xff", b"\\xff", b"a"]
    shown = {shown_name(name) for name in names}
    assert len(shown) == len(names)
    assert all(" " <= c <= "~" for name in shown for c in name)


def test_a_list_that_is_too_long_to_be_meant_is_never_expected() -> None:
    files = [ListedFile(path=f"{number:05}", fsverity=digest("x")) for number in range(5_001)]
    assert listing_digest(files) == UNREADABLE
    assert MeasuredEvent(event="host", subject=HOOKS, fsverity=UNREADABLE).encode()
