# SPDX-License-Identifier: Apache-2.0
"""The one appraisal: what a host claims against what its publishers signed. Host, gate, fleet and publisher use it.

All checks, by the numbers that the code carries. Each gives a finding; a check that cannot be made fails.
  0. claims from evidence: the quote is the expected key's, answers the nonce, covers PCR 12 and 13 of the SHA-256 bank,
     and its digest is that of the replayed logs (``claims_from_evidence``, which raises);
  1. assurance level: L0 and L1 only where the platform's policy allows them by name. L2 is a chip whose host booted
     what the release's host image says (10);
  2. reference: one platform release with reference values, its own security policy and, where it names one, its own
     host image; workload releases that accept it;
  3. log: there is one, and PCR 12 and 13 are what it replays to;
  4. switches within the boot: the last one names this release and what it is, and PCR 13 is a value that its publisher
     signed;
  5. repository: the host's trust anchor is the expected one;
  6. components: each of the release's, in its order, with its digest and the release that it came with; none missing,
     none besides, none refused. Another digest of a component that the security policy names as ``warn_only`` is a
     warning, never a pass;
  7. events: none that has no business in its PCR;
  8. VMs that were started: each by a definition of an accepted workload release, which it names; none refused. A local
     VM, told by a pseudonym and a salted digest, warns where the security policy allows such, else fails while it runs;
  9. host-local things: those that the publisher names as it names them; the others as the approved baseline names them.
     Without either, the policy says whether that is a warning. The kernel command line as the policy asks for it;
 10. what ran before vmgate, where the release has a host image (``measure.boot``).

Left to the caller: that releases were verified (TUF), that the key is the host's, that the nonce is fresh, and whether
the TPM is a chip, which the quote does not prove.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from content.fsverity import digest_bytes
from documents.event import MeasuredEvent
from documents.evidence import Evidence
from documents.host_files import HostFiles
from documents.host_image import HostImage
from documents.release import Origin, ReferenceValue, Release
from documents.security_policy import LOCAL_VMS, SecurityPolicy
from documents.site_baseline import SiteBaseline
from documents.verdict import Finding, Verdict
from measure.baseline import Approved, verify_baseline
from measure.boot import Booted, boot_findings, explain
from measure.boot_files import IMA_PCR
from measure.cel import CelRecord, parse_log, replay
from measure.corim import Environment
from measure.endorsed import endorsement
from measure.errors import LogRefused, PolicyRefused
from measure.findings import NOTHING, compare, enforced, finding
from measure.kernel_arguments import argument_findings
from measure.known_entries import KnownEntries
from measure.known_image import KnownImage
from measure.launches import launch_findings
from measure.local import COMMAND_LINE, Words, local_findings, local_reference
from measure.pcr import BOOT_PCRS, LAUNCH_PCR, VMM_PCR
from measure.policy import verify_signed_policy
from measure.predict import reference_digest, switch_event
from measure.quote import Quote, verify_quote
from measure.structures import refused

REPOSITORY = "repository"
"""The component whose digest is that of the first root metadata of the host's trust anchor."""

POLICY = "vmgate/security-policy"
IMAGE = "host/image"
LIBVIRT_FILES = "host/libvirt-files"
SITE_BASELINE = "host/site-baseline"
ALLOWANCE = {"L0": "AllowSoftwareTpm", "L1": "AllowSelfMeasured"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a host claims, as far as its TPM vouches for it.

    Attributes:
        chip: whether the TPM is a chip and no program, as the caller knows.
        records: the measurement log.
        pcrs: values of PCR 12 and 13 (SHA-256 bank), read from the own TPM or proven by a quote.
        boot: what ran before vmgate; None where no log explains PCR 0 to 11.
        approved: the baseline, its signature verified; None where there is none.
        command_line: the kernel command line as the host tells it; None where it does not.
    """

    chip: bool
    records: tuple[CelRecord, ...]
    pcrs: Mapping[int, bytes]
    boot: Booted | None = None
    approved: Approved | None = None
    command_line: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the claims are compared with; all of it was verified before.

    Attributes:
        identity: fs-verity digest of the first root metadata of the repository that the host must follow.
        platform: the platform release.
        workloads: the workload releases that are active.
        policy: the platform release's security policy.
        earlier: workload releases that were active before in this boot and whose VMs may still run.
        image: the platform release's host image; None where it has none.
        packages: the platform release's list of files of libvirt's packages; None where it has none.
        site: what the platform release approves for all hosts; None where it has no such baseline.
        refused: digests that must not run any more besides those that these releases name, such as a newer one's.
        endorsed: reference values that somebody else tells, which must name the same; None where nobody was asked.
        known: of the same image, for who judges many hosts with it; None computes it for each verdict.
    """

    identity: str
    platform: Release
    workloads: tuple[Release, ...]
    policy: SecurityPolicy
    earlier: tuple[Release, ...] = ()
    image: HostImage | None = None
    packages: HostFiles | None = None
    site: SiteBaseline | None = None
    refused: tuple[str, ...] = ()
    endorsed: tuple[Environment, ...] | None = None
    known: KnownImage | None = None

    def __post_init__(self) -> None:
        if self.known is not None and self.known.image is not self.image:
            raise ValueError("what is known is of another host image")


def claims_from_evidence(evidence: Evidence, ak: bytes, nonce: bytes, *, chip: bool = False) -> Claims:
    """See ``prove``; the quote is left out."""
    return prove(evidence, ak, nonce, chip=chip)[0]


def prove(
    evidence: Evidence, ak: bytes, nonce: bytes, *, chip: bool = False, known: KnownEntries | None = None
) -> tuple[Claims, Quote]:
    """Verify evidence and return what it proves, and the quote that proves it.

    Args:
        evidence: as the host sent it.
        ak: TPMT_PUBLIC of the attestation key that the host is known by.
        nonce: what the host was asked with.
        chip: what is known about the host from elsewhere. A quote does not tell a chip from a program.
        known: entries of the IMA list that need no parsing, for who judges many hosts.

    Raises:
        QuoteRefused: see ``measure.quote``; or another key, or PCR 12 or 13 is not covered, or the logs do not add up.
        LogRefused: a log is malformed, or no boot log explains the PCRs that the quote covers.
        BaselineRefused: there is a baseline, and this host's key did not sign it.
    """
    # 0.
    if evidence.ak != ak:
        raise refused("the host shows another attestation key than the one it is known by")
    quote = verify_quote(evidence.attest, evidence.signature, ak, nonce)
    for pcr in (LAUNCH_PCR, VMM_PCR):
        if not quote.selects("sha256", pcr):
            raise refused(f"it does not cover PCR {pcr} of the SHA-256 bank")
    records = parse_log(evidence.cel)
    logged = {alg: replay(records, alg) for alg in (records[0].digests if records else ("sha256",))}
    values = {alg: dict(pcrs) for alg, pcrs in logged.items() if alg != "sha1"}
    own = values.setdefault("sha256", {})
    boot = None
    if evidence.boot_log:
        # A log that the quote does not cover is refused like one that it contradicts. Without an IMA list PCR 10 may be
        # left out; a host image then finds its files missing from the list.
        needed = [pcr for pcr in BOOT_PCRS if pcr != IMA_PCR or evidence.ima]
        covered = all(quote.selects("sha256", pcr) for pcr in needed)
        boot = explain(
            evidence.boot_log,
            evidence.ima,
            lambda before: covered and quote.fits({**values, "sha256": {**before, **own}}),
            known,
        )
        shown = {pcr: value for pcr, value in boot.pcrs.items() if quote.selects("sha256", pcr)}
        boot = replace(boot, pcrs=MappingProxyType(shown))
    else:
        quote.verify_values(values)
    pcrs = {pcr: own[pcr] for pcr in (LAUNCH_PCR, VMM_PCR)}
    claims = Claims(
        chip=chip,
        records=records,
        pcrs=pcrs,
        boot=boot,
        approved=verify_baseline(evidence.baseline, ak) if evidence.baseline else None,
        command_line=evidence.command_line or None,
    )
    return claims, quote


def appraise(claims: Claims, reference: Reference, time: int, subject: str = "platform") -> Verdict:
    """Judge a host.

    Args:
        claims: what it claims.
        reference: what it is compared with.
        time: seconds since 1970 UTC, for the verdict.
        subject: whom the verdict is about.
    """
    files = reference.known.files if reference.known else None
    before = tuple(boot_findings(claims.boot, reference.image, files)) if reference.image else ()
    level = _level(claims, before)
    found = (_allowed(level, reference.policy), *_findings(claims, reference), *before)
    expires = time + reference.policy.verdict_seconds
    return Verdict(subject=subject, level=level, time=time, findings=found, expires=expires)


def _level(claims: Claims, before: tuple[Finding, ...]) -> str:
    if not claims.chip:
        return "L0"
    return "L2" if before and all(finding.outcome != "fail" for finding in before) else "L1"


def _findings(claims: Claims, reference: Reference) -> Iterator[Finding]:
    yield from _reference(reference)
    yield from _log(claims)
    events = [entry.content for entry in claims.records if entry.pcr == VMM_PCR]
    switches = [number for number, event in enumerate(events) if event.event == "vmm-switch"]
    if switches:
        yield from _switch(events[switches[-1]], claims, reference.platform)
    current = events[switches[-1] + 1 :] if switches else events
    yield from _components(current, reference)
    yield from _unknown(claims.records)
    yield from launch_findings(
        claims.records, reference.workloads, reference.earlier, _refused_digests(reference),
        local=LOCAL_VMS in reference.policy.allow,
    )  # fmt: skip
    yield from _local(claims, reference)


def _allowed(level: str, policy: SecurityPolicy) -> Finding:
    # 1.
    if level == "L2":
        return Finding(check="assurance-level", subject="platform", outcome="pass", expected="L2", found="L2")
    allowance = ALLOWANCE.get(level)
    outcome = "warn" if allowance in policy.allow else "fail"
    expected = f"L2, or {allowance} in the security policy" if allowance else "L2"
    return Finding(check="assurance-level", subject="platform", outcome=outcome, expected=expected, found=level)


def _reference(reference: Reference) -> Iterator[Finding]:
    # 2.
    platform = reference.platform
    label = f"{platform.channel}/{platform.number}"
    good = platform.authority == "platform" and bool(platform.reference)
    found = f"{len(platform.reference)} values of a {platform.authority} release"
    yield finding("reference", label, "reference values of a platform release", found, good=good)
    artifact = platform.artifact(POLICY)
    yield compare("reference", POLICY, artifact.fsverity if artifact else "", digest_bytes(reference.policy.encode()))
    wanted, given = platform.artifact(IMAGE), reference.image
    if wanted or given:
        digest = reference.known.fsverity if reference.known else digest_bytes(given.encode()) if given else ""
        yield compare("reference", IMAGE, wanted.fsverity if wanted else "", digest)
    for name, document in ((LIBVIRT_FILES, reference.packages), (SITE_BASELINE, reference.site)):
        listed = platform.artifact(name)
        if listed or document:
            given_digest = digest_bytes(document.encode()) if document else ""
            yield compare("reference", name, listed.fsverity if listed else "", given_digest)
    if reference.endorsed is not None:
        yield endorsement(platform, reference.image, reference.endorsed)
    # Earlier releases only explain VMs that still run; what they accepted no longer matters.
    for release in reference.workloads:
        low, high = release.accepts
        good = release.authority == "workload" and low <= platform.number <= high
        subject = f"{release.channel}/{release.number}"
        yield finding("release-accepts", subject, f"platform releases {low} to {high}", str(platform.number), good=good)


def _log(claims: Claims) -> Iterator[Finding]:
    # 3.
    yield finding("log", "vmgate", "measured events", f"{len(claims.records)} events", good=bool(claims.records))
    try:
        replayed = replay(claims.records, "sha256")
    except LogRefused as error:
        yield finding("log-replay", "vmgate", "a SHA-256 digest in each record", error.cause, good=False)
        return
    for pcr in (LAUNCH_PCR, VMM_PCR):
        expected = claims.pcrs[pcr].hex() if pcr in claims.pcrs else ""
        yield compare("log-replay", f"pcr/{pcr}", expected, replayed[pcr].hex(), authority="local")


def _switch(switch: MeasuredEvent, claims: Claims, platform: Release) -> Iterator[Finding]:
    # 4.
    label = f"{platform.channel}/{platform.number}"
    yield finding("vmm-switch", label, label, switch.subject, good=switch.subject == label)
    yield compare("vmm-switch", f"{label}/reference", reference_digest(platform.reference), switch.fsverity)
    wanted = switch_event(platform.channel, platform.number, platform.reference)
    yield from _origin("vmm-switch", f"{label}/origin", wanted.origin, [switch.origin])
    found = claims.pcrs.get(VMM_PCR, b"").hex()
    state = {**(claims.boot.pcrs if claims.boot else {}), **claims.pcrs}
    good = False
    for policy in platform.policies:
        try:
            verify_signed_policy(policy, platform.policy_keys, platform.channel)
        except PolicyRefused:
            continue
        fits = all(state.get(index, b"").hex() == value for index, value in policy.pcrs)
        good = good or (policy.entry == "switch" and VMM_PCR in dict(policy.pcrs) and fits)
    expected = "a switch that the release's publisher signed, or a reboot"
    yield finding("vmm-switch", f"pcr/{VMM_PCR}", expected, found or NOTHING, good=good)


def _components(events: list[MeasuredEvent], reference: Reference) -> Iterator[Finding]:
    """Checks 5 and 6, over the events after the last switch."""
    found: dict[str, list[str]] = {}
    origins: dict[str, list[Origin | None]] = {}
    for event in events:
        found.setdefault(event.subject, []).append(event.fsverity)
        origins.setdefault(event.subject, []).append(event.origin)
    yield compare(  # 5.
        "repository-identity", REPOSITORY, reference.identity, _one(found.get(REPOSITORY)), authority="local"
    )
    # 6.
    expected = reference.platform.reference
    for value in expected:
        judged = compare("component-digest", value.component, value.fsverity, _one(found.get(value.component)))
        yield enforced(judged, value.component, reference.policy.warn_only)
    for value in expected:
        yield from _origin("component-origin", value.component, value.origin, origins.get(value.component, []))
    known = {value.component for value in expected}
    for subject in found.keys() - known:
        yield finding("component-unknown", subject, NOTHING, _one(found[subject]), good=False)
    yield _order(events, expected)
    gone = _refused_digests(reference)
    for event in events:
        if event.fsverity in gone:
            yield finding(
                "component-refused", event.subject, "a digest that is not refused", event.fsverity, good=False
            )


def _origin(check: str, subject: str, expected: Origin | None, found: list[Origin | None]) -> Iterator[Finding]:
    """Where a thing came from; nothing is found about what neither the release nor the log tells."""
    wanted = _told(expected)
    others = [text for text in map(_told, found) if text != wanted]
    if expected or others:
        yield finding(check, subject, wanted, (others or [wanted])[0], good=not others)


def _told(origin: Origin | None) -> str:
    return f"{origin.target}, version {origin.version}" if origin else NOTHING


def _order(events: list[MeasuredEvent], expected: tuple[ReferenceValue, ...]) -> Finding:
    wanted = [value.component for value in expected]
    measured = [event.subject for event in events]
    if wanted and measured == wanted:
        return finding("component-order", "vmm", "the release's order", "the release's order", good=True)
    for position, (want, got) in enumerate(zip(wanted, measured, strict=False)):
        if want != got:
            return finding("component-order", "vmm", f"{want} at position {position + 1}", got, good=False)
    return finding("component-order", "vmm", f"{len(wanted)} components", f"{len(measured)} components", good=False)


def _unknown(records: Iterable[CelRecord]) -> Iterator[Finding]:
    # 7.
    allowed = {VMM_PCR: ("component", "vmm-switch"), LAUNCH_PCR: ("epoch", "host", "key-drop", "vm-start", "vm-stop")}
    strangers = {(entry.pcr, entry.content.event) for entry in records if entry.content.event not in allowed[entry.pcr]}
    for pcr, event in sorted(strangers):
        yield finding("event", f"pcr/{pcr}", " or ".join(allowed[pcr]), event, good=False)


def _local(claims: Claims, reference: Reference) -> Iterator[Finding]:
    # 9.
    yield from local_findings(claims.records, words_for(reference, claims.approved))
    measured = [entry.content.fsverity for entry in claims.records if entry.content.subject == COMMAND_LINE]
    line = claims.command_line
    # A command line that was not measured is as good as none.
    known = line if line is not None and measured[-1:] == [digest_bytes(line)] else None
    yield from argument_findings(known, reference.policy)


def words_for(reference: Reference, approved: Approved | None) -> Words:
    """Whose word counts for what is local: a baseline does if it was signed in a state that this publisher approved."""
    platform = reference.platform
    ours = approved is not None and approved.channel == platform.channel and approved.key in platform.policy_keys
    return Words(
        publisher=reference.known.local if reference.known else local_reference(reference.image, reference.packages),
        site=dict(reference.site.entries) if reference.site else {},
        approved=approved if ours else None,
        needed=reference.policy.local,
    )


def _refused_digests(reference: Reference) -> set[str]:
    releases = (reference.platform, *reference.workloads)
    return {digest for release in releases for digest in release.refused} | set(reference.refused)


def _one(digests: list[str] | None) -> str:
    """The one digest measured for a component; more than one is as wrong as none."""
    if not digests:
        return ""
    return digests[0] if len(digests) == 1 else f"{len(digests)} digests"
