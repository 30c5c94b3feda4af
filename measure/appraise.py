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
  4. switches within the boot: the last one names this release, and PCR 13 is a value that its publisher signed;
  5. repository: the host's trust anchor is the expected one;
  6. components: each of the release's, in its order, with its digest; none missing, none besides, none refused;
  7. events: none that has no business in its PCR;
  8. VMs that were started: each by a definition of an accepted workload release, none refused;
  9. host-local things: those that the host image names as it names them; the others recorded and, until a site or
     local authority approves a baseline, no more than a warning;
 10. what ran before vmgate, where the release has a host image (``measure.boot``).

Left to the caller: that releases were verified (TUF), that the key is the host's, that the nonce is fresh, and whether
the TPM is a chip, which the quote does not prove.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from content.fsverity import digest_bytes
from documents.event import MeasuredEvent
from documents.evidence import Evidence
from documents.host_image import HostImage, ImageFile
from documents.release import ReferenceValue, Release
from documents.security_policy import SecurityPolicy
from documents.verdict import Finding, Verdict
from measure.boot import Booted, boot_findings, explain
from measure.cel import CelRecord, parse_log, replay
from measure.errors import LogRefused, PolicyRefused
from measure.known_entries import KnownEntries
from measure.known_image import KnownImage
from measure.pcr import BOOT_PCRS, LAUNCH_PCR, VMM_PCR
from measure.policy import verify_signed_policy
from measure.predict import reference_digest
from measure.quote import verify_quote
from measure.structures import refused

REPOSITORY = "repository"
"""The component whose digest is that of the first root metadata of the host's trust anchor."""

POLICY = "vmgate/security-policy"
IMAGE = "host/image"
LOCAL_FILES: Mapping[str, str] = MappingProxyType(
    {
        "host/libvirtd": "/usr/sbin/libvirtd",
        "host/qemu.conf": "/etc/libvirt/qemu.conf",
        "host/settings": "/etc/vmgate/vmgate.toml",
    }
)
"""Files that a host measures as its own, by the subject of their events. ``qemu.conf`` says how libvirt isolates QEMU:
its user, sVirt, seccomp."""

COMMAND_LINE = "host/kernel-command-line"
ALLOWANCE = {"L0": "AllowSoftwareTpm", "L1": "AllowSelfMeasured"}
NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a host claims, as far as its TPM vouches for it.

    Attributes:
        chip: whether the TPM is a chip and no program, as the caller knows.
        records: the measurement log.
        pcrs: values of PCR 12 and 13 (SHA-256 bank), read from the own TPM or proven by a quote.
        boot: what ran before vmgate; None where no log explains PCR 0 to 11.
    """

    chip: bool
    records: tuple[CelRecord, ...]
    pcrs: Mapping[int, bytes]
    boot: Booted | None = None


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
        known: of the same image, for who judges many hosts with it; None computes it for each verdict.
    """

    identity: str
    platform: Release
    workloads: tuple[Release, ...]
    policy: SecurityPolicy
    earlier: tuple[Release, ...] = ()
    image: HostImage | None = None
    known: KnownImage | None = None

    def __post_init__(self) -> None:
        if self.known is not None and self.known.image is not self.image:
            raise ValueError("what is known is of another host image")


def claims_from_evidence(
    evidence: Evidence, ak: bytes, nonce: bytes, *, chip: bool = False, known: KnownEntries | None = None
) -> Claims:
    """Verify evidence and return what it proves.

    Args:
        evidence: as the host sent it.
        ak: TPMT_PUBLIC of the attestation key that the host is known by.
        nonce: what the host was asked with.
        chip: what is known about the host from elsewhere. A quote does not tell a chip from a program.
        known: entries of the IMA list that need no parsing, for who judges many hosts.

    Raises:
        QuoteRefused: see ``measure.quote``; or another key, or PCR 12 or 13 is not covered, or the logs do not add up.
        LogRefused: a log is malformed, or no boot log explains the PCRs that the quote covers.
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
        # A log that the quote does not cover is refused like one that it contradicts.
        covered = all(quote.selects("sha256", pcr) for pcr in BOOT_PCRS)
        boot = explain(
            evidence.boot_log,
            evidence.ima,
            lambda before: covered and quote.fits({**values, "sha256": {**before, **own}}),
            known,
        )
    else:
        quote.verify_values(values)
    return Claims(chip=chip, records=records, pcrs={pcr: own[pcr] for pcr in (LAUNCH_PCR, VMM_PCR)}, boot=boot)


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
    return Verdict(subject=subject, level=level, time=time, findings=found)


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
    yield from _launches(claims.records, reference)
    yield from _local(claims.records, reference.image)


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
    yield _finding("reference", label, "reference values of a platform release", found, good=good)
    artifact = platform.artifact(POLICY)
    yield _compare("reference", POLICY, artifact.fsverity if artifact else "", digest_bytes(reference.policy.encode()))
    wanted, given = platform.artifact(IMAGE), reference.image
    if wanted or given:
        digest = reference.known.fsverity if reference.known else digest_bytes(given.encode()) if given else ""
        yield _compare("reference", IMAGE, wanted.fsverity if wanted else "", digest)
    # Earlier releases only explain VMs that still run; what they accepted no longer matters.
    for release in reference.workloads:
        low, high = release.accepts
        good = release.authority == "workload" and low <= platform.number <= high
        subject = f"{release.channel}/{release.number}"
        yield _finding(
            "release-accepts", subject, f"platform releases {low} to {high}", str(platform.number), good=good
        )


def _log(claims: Claims) -> Iterator[Finding]:
    # 3.
    yield _finding("log", "vmgate", "measured events", f"{len(claims.records)} events", good=bool(claims.records))
    try:
        replayed = replay(claims.records, "sha256")
    except LogRefused as error:
        yield _finding("log-replay", "vmgate", "a SHA-256 digest in each record", error.cause, good=False)
        return
    for pcr in (LAUNCH_PCR, VMM_PCR):
        expected = claims.pcrs[pcr].hex() if pcr in claims.pcrs else ""
        yield _compare("log-replay", f"pcr/{pcr}", expected, replayed[pcr].hex(), authority="local")


def _switch(switch: MeasuredEvent, claims: Claims, platform: Release) -> Iterator[Finding]:
    # 4.
    label = f"{platform.channel}/{platform.number}"
    yield _finding("vmm-switch", label, label, switch.subject, good=switch.subject == label)
    yield _compare("vmm-switch", f"{label}/reference", reference_digest(platform.reference), switch.fsverity)
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
    yield _finding("vmm-switch", f"pcr/{VMM_PCR}", expected, found or NOTHING, good=good)


def _components(events: list[MeasuredEvent], reference: Reference) -> Iterator[Finding]:
    """Checks 5 and 6, over the events after the last switch."""
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event.subject, []).append(event.fsverity)
    yield _compare(  # 5.
        "repository-identity", REPOSITORY, reference.identity, _one(found.get(REPOSITORY)), authority="local"
    )
    # 6.
    expected = reference.platform.reference
    for value in expected:
        yield _compare("component-digest", value.component, value.fsverity, _one(found.get(value.component)))
    known = {value.component for value in expected}
    for subject in found.keys() - known:
        yield _finding("component-unknown", subject, NOTHING, _one(found[subject]), good=False)
    yield _order(events, expected)
    gone = _refused_digests(reference)
    for event in events:
        if event.fsverity in gone:
            yield _finding(
                "component-refused", event.subject, "a digest that is not refused", event.fsverity, good=False
            )


def _order(events: list[MeasuredEvent], expected: tuple[ReferenceValue, ...]) -> Finding:
    wanted = [value.component for value in expected]
    measured = [event.subject for event in events]
    if wanted and measured == wanted:
        return _finding("component-order", "vmm", "the release's order", "the release's order", good=True)
    for position, (want, got) in enumerate(zip(wanted, measured, strict=False)):
        if want != got:
            return _finding("component-order", "vmm", f"{want} at position {position + 1}", got, good=False)
    return _finding("component-order", "vmm", f"{len(wanted)} components", f"{len(measured)} components", good=False)


def _unknown(records: Iterable[CelRecord]) -> Iterator[Finding]:
    # 7.
    allowed = {VMM_PCR: ("component", "vmm-switch"), LAUNCH_PCR: ("epoch", "host", "key-drop", "vm-start", "vm-stop")}
    strangers = {(entry.pcr, entry.content.event) for entry in records if entry.content.event not in allowed[entry.pcr]}
    for pcr, event in sorted(strangers):
        yield _finding("event", f"pcr/{pcr}", " or ".join(allowed[pcr]), event, good=False)


def _launches(records: Iterable[CelRecord], reference: Reference) -> Iterator[Finding]:
    # 8.
    running: dict[tuple[str, str], bool] = {}
    for event in (entry.content for entry in records if entry.pcr == LAUNCH_PCR):
        if event.event == "vm-start":
            running[event.subject, event.fsverity] = True
        elif event.event == "vm-stop":
            running |= {started: False for started in running if started[0] == event.subject}
    gone = _refused_digests(reference)
    for (name, digest), runs in running.items():
        now, before = _definitions(name, reference.workloads), _definitions(name, reference.earlier)
        outcome = "fail"
        if digest in now and digest not in gone:
            outcome = "pass"
        elif not runs or (digest in before and digest not in gone):
            # It stopped, or it goes on as it was started: the update came later, and its next start is judged anew.
            outcome = "warn"
        expected = " or ".join(sorted(now - gone)) or "a definition of a workload release"
        found = digest if outcome == "pass" else f"{digest}, {'still running' if runs else 'stopped'}"
        yield Finding(check="vm-start", subject=name, outcome=outcome, expected=expected[:500], found=found)


def _local(records: Iterable[CelRecord], image: HostImage | None) -> Iterator[Finding]:
    # 9.
    events = (entry.content for entry in records if entry.pcr == LAUNCH_PCR and entry.content.event == "host")
    expected = local_reference(image)
    found = dict.fromkeys((event.subject, event.fsverity) for event in events)
    for subject in expected.keys() - {name for name, _ in found}:
        yield _compare("host-local", subject, expected[subject], "")
    for subject, digest in found:
        if subject in expected:
            yield _compare("host-local", subject, expected[subject], digest)
            continue
        yield Finding(
            check="host-local",
            subject=subject,
            outcome="warn",
            expected="recorded, no baseline approved",
            found=digest,
            authority="none",
        )


def local_reference(image: HostImage | None) -> dict[str, str]:
    """Digests of host-local things that the image's publisher vouches for, by the subject of their events."""
    if image is None:
        return {}
    named = {subject: entry.fsverity for subject, path in LOCAL_FILES.items() if (entry := _file(image, path))}
    return {COMMAND_LINE: digest_bytes(image.command_line.encode() + b"\n"), **named}


def _file(image: HostImage, path: str) -> ImageFile | None:
    """Some ten thousand, sorted by path: looked for and not indexed, since a verifier does this for each verdict."""
    at = bisect_left(image.files, path, key=lambda entry: entry.path)
    return image.files[at] if at < len(image.files) and image.files[at].path == path else None


def _definitions(name: str, releases: Iterable[Release]) -> set[str]:
    artifacts = (artifact for release in releases for artifact in release.of_kind("definition"))
    return {artifact.fsverity for artifact in artifacts if artifact.name == f"vm/{name}"}


def _refused_digests(reference: Reference) -> set[str]:
    return {digest for release in (reference.platform, *reference.workloads) for digest in release.refused}


def _one(digests: list[str] | None) -> str:
    """The one digest measured for a component; more than one is as wrong as none."""
    if not digests:
        return ""
    return digests[0] if len(digests) == 1 else f"{len(digests)} digests"


def _compare(check: str, subject: str, expected: str, found: str, authority: str = "publisher") -> Finding:
    good = bool(expected) and expected == found
    return _finding(check, subject, expected or NOTHING, found or NOTHING, good=good, authority=authority)


def _finding(
    check: str, subject: str, expected: str, found: str, *, good: bool, authority: str = "publisher"
) -> Finding:
    outcome = "pass" if good else "fail"
    return Finding(check=check, subject=subject, outcome=outcome, expected=expected, found=found, authority=authority)
