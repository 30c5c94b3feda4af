# SPDX-License-Identifier: Apache-2.0
"""The gate: the only place that says yes to a VM.

The checks, in their order; each is a finding, and one that fails or cannot be made is a no:

 1. The host has an active generation whose releases fit together.
 2. The VMM's components are, now, what the platform release names; what is local to the host is what its publisher
    names or its administrator approved, as far as the signed policy asks for that; nothing broke off this boot.
 3. The platform: this boot's log explains the TPM's PCRs and says what the release says (``measure.appraise``).
 4. The VM is one that an active workload release defines, and its definition is in the store as signed.
 5. Nothing that the VM or the VMM is made of is on a release's list of refused digests.
 6. The signed security policy allows the VM's size and the accelerator.
 7. The domain that libvirt is about to start is the one that the definition renders to, and it passes the linter, alone
    and together with the other VMs of the active releases.
 8. Each disk image is, now, what the definition names, all of it.
 9. Each disk image that is attached as raw does not begin like a format whose header names other files.

What is left to the caller: that the VM's key opens and that its TPM is the known one (``agent.launch``), and that
nobody with root's power exchanges a file between checks 8 and 9 and QEMU's opening it; each finding about a file says
what keeps others from it (``Finding.kept``). This module extends nothing and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from agent.plan import Plan, VmPlan
from agent.platform import Platform
from content.errors import ContentError, DigestMismatch
from content.measuring import Digester
from content.store import ContentStore
from documents.definition import Disk
from documents.errors import VmgateError
from documents.host_state import Generation
from documents.security_policy import SecurityPolicy
from documents.verdict import VERDICT_SECONDS, Finding, Verdict
from hypervisor.compare import differences
from hypervisor.errors import ImageNotRaw
from hypervisor.host_lint import lint_host
from hypervisor.image_file import require_raw_file
from hypervisor.lint import lint

EMULATION_RULE = "HV001"
"""The lint rule that emulation breaks by its nature; AllowEmulation answers for it."""

EMULATOR_RULE = "HV003"
"""The lint rule about emulators; one of the VMM image, which the comparison found, is the one that was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the gate says about one start.

    Attributes:
        verdict: all findings.
        plan: what would be started; None when it is not known or not trusted.
        pcrs: the TPM's registers (SHA-256 bank) as they were read for check 3; what is not there was not read.
    """

    verdict: Verdict
    plan: VmPlan | None
    pcrs: Mapping[int, bytes]

    def with_finding(self, finding: Finding) -> Judgement:
        """The same with one finding more, which may turn a yes into a no and never a no into a yes."""
        verdict = replace(self.verdict, findings=(*self.verdict.findings, finding))
        return replace(self, verdict=verdict, plan=None if verdict.status == "contraindicated" else self.plan)


class Gate:
    """Judges starts.

    Args:
        platform: measures and appraises the platform.
        store: holds what VMs are made of.
        plan: says which VMs the active releases define and how they are placed on this host.
        clock: gives seconds since 1970 UTC.
    """

    def __init__(self, platform: Platform, store: ContentStore, plan: Plan, clock: Callable[[], int]) -> None:
        self._platform = platform
        self._store = store
        self._plan = plan
        self._clock = clock

    def judge(self, name: str, untrusted_xml: bytes, generation: Generation | None) -> Judgement:
        """Make every check for one start; never raises for what it finds."""
        findings: list[Finding] = []
        pcrs: dict[int, bytes] = {}
        vm: VmPlan | None = None
        try:
            vm = self._check(name, untrusted_xml, generation, findings, pcrs)
        except VmgateError as error:
            # A check that could not be made is a check that failed.
            findings.append(make_finding("could-not-check", name, "fail", "a whole check", told(error)))
        # The platform's appraisal found the level; without one it is the lowest.
        level = next((finding.found for finding in findings if finding.check == "assurance-level"), "L0")
        now = max(0, self._clock())
        seconds = self._verdict_seconds(generation)
        verdict = Verdict(subject=name, level=level, time=now, findings=tuple(findings), expires=now + seconds)
        return Judgement(verdict=verdict, plan=None if verdict.status == "contraindicated" else vm, pcrs=pcrs)

    def _verdict_seconds(self, generation: Generation | None) -> int:
        """For how long a verdict counts; one that could not be made whole counts as long as any other."""
        try:
            return self._platform.policy(generation.platform).verdict_seconds if generation else VERDICT_SECONDS
        except VmgateError:
            return VERDICT_SECONDS

    def _check(
        self,
        name: str,
        untrusted_xml: bytes,
        generation: Generation | None,
        findings: list[Finding],
        pcrs: dict[int, bytes],
    ) -> VmPlan | None:
        """Make the checks; what was found and read is added to ``findings`` and ``pcrs`` as far as they came."""
        # (1)
        if generation is None:
            findings.append(make_finding("generation", name, "fail", "an active release", "none", "none"))
            return None
        # (2)
        findings.extend(self._platform.recheck(generation.platform))
        findings.extend(self._platform.recheck_local(generation))
        findings.extend(self._platform.recheck_boot())
        # (3)
        look = self._platform.look(generation)
        pcrs.update(look.pcrs)
        findings.extend(look.verdict.findings)
        # (4)
        artifacts = self._plan.artifacts(generation, name)
        if not artifacts:
            findings.append(
                make_finding("definition", name, "fail", "an active workload release", "no definition", "none")
            )
            return None
        digester = self._platform.digester(generation.platform)
        stored = [self._verify("definition", f"vm {name}", (a.fsverity, a.length), digester) for a in artifacts]
        findings.extend(stored)
        vm = self._plan.find(generation, name) if all(finding.outcome == "pass" for finding in stored) else None
        if vm is None:
            return None
        # (5)
        findings.extend(_refused(generation, vm))
        # (6)
        policy = self._platform.policy(generation.platform)
        findings.extend(_check_policy(policy, vm))
        # (7)
        findings.extend(_check_domain(vm, untrusted_xml))
        others = (other for other in self._plan.all(generation) if other.definition.name != name)
        findings.extend(_check_others(name, untrusted_xml, {other.definition.name: other.xml for other in others}))
        # (8)
        images = [self._verify("image", f"disk {d.name}", (d.image, d.length), digester) for d in vm.definition.disks]
        findings.extend(images)
        # (9)
        verified = (d for d, image in zip(vm.definition.disks, images, strict=True) if image.outcome == "pass")
        findings.extend(self._check_format(disk) for disk in verified)
        return vm

    def _check_format(self, disk: Disk) -> Finding:
        try:
            require_raw_file(self._store.path(disk.image), f"disk {disk.name}")
        except ImageNotRaw as error:
            # Whoever looks into it wants to know which file of the host was aimed at.
            found = ", naming ".join((error.found, *error.names))
            return make_finding("disk-format", f"disk {disk.name}", "fail", "raw", found)
        return make_finding("disk-format", f"disk {disk.name}", "pass", "raw", "raw")

    def _verify(self, check: str, subject: str, named: tuple[str, int], digester: Digester) -> Finding:
        fsverity, length = named
        expected = f"sha256:{fsverity}"
        try:
            taken = self._store.verify_for_use(fsverity, length, digester)
        except DigestMismatch as error:
            # What differs may be the length alone, told as "N bytes".
            found = f"sha256:{error.found}" if len(error.found) == len(fsverity) else error.found
            return make_finding(check, subject, "fail", expected, found)
        except ContentError as error:
            return make_finding(check, subject, "fail", expected, told(error))
        good = make_finding(check, subject, "pass", expected, expected)
        return replace(good, kept=taken.kept, taken=taken.taken)


def _refused(generation: Generation, vm: VmPlan) -> Iterable[Finding]:
    """What this VM and the VMM are made of; what other VMs are made of is their matter."""
    refused = {digest for release in generation.parsed() for digest in release.refused}
    made_of = {disk.image: f"disk {disk.name}" for disk in vm.definition.disks}
    made_of |= {artifact.fsverity: artifact.name for artifact in (vm.artifact, *generation.platform.artifacts)}
    for digest in sorted(refused & set(made_of)):
        expected = "not on a release's refused list"
        yield make_finding("refused-digest", made_of[digest], "fail", expected, f"sha256:{digest}")


def _check_policy(policy: SecurityPolicy, vm: VmPlan) -> Iterable[Finding]:
    definition = vm.definition
    for what, most, wanted in (
        ("vcpus", policy.max_vcpus, definition.vcpus),
        ("memory in MiB", policy.max_memory_mib, definition.memory_mib),
    ):
        outcome = "pass" if wanted <= most else "fail"
        yield make_finding("policy", what, outcome, f"at most {most}", str(wanted))
    if vm.placement.accelerator == "emulation":
        allowed = "AllowEmulation" in policy.allow
        found = "QEMU's emulation, which promises no isolation"
        yield make_finding("accelerator", definition.name, "warn" if allowed else "fail", "kvm", found)
    else:
        yield make_finding("accelerator", definition.name, "pass", "kvm", vm.placement.accelerator)


def _check_domain(vm: VmPlan, untrusted_xml: bytes) -> Iterable[Finding]:
    name = vm.definition.name
    found = differences(vm.xml, untrusted_xml)
    for difference in found[:50]:
        yield make_finding("domain", difference.xpath, "fail", difference.expected, difference.found)
    if not found:
        yield make_finding("domain", name, "pass", "as the definition says", "as the definition says")
    answered = {EMULATION_RULE} if vm.placement.accelerator == "emulation" else set()
    if vm.programs and not found:
        answered.add(EMULATOR_RULE)
    denied = [f for f in lint(untrusted_xml) if f.level == "deny" and f.id not in answered]
    for rule in denied[:50]:
        yield make_finding("lint", f"{rule.id} {rule.xpath}", "fail", rule.fix, rule.why)
    if not denied:
        yield make_finding("lint", name, "pass", "no rule that denies it", "none")


def _check_others(name: str, untrusted_xml: bytes, others: Mapping[str, str]) -> Iterable[Finding]:
    """Against the other VMs as their definitions render them: libvirt cannot be asked while it waits for the gate."""
    found = lint_host({name: untrusted_xml, **{other: xml.encode() for other, xml in others.items()}})
    denied = [one for one in found if one.domain == name and one.finding.level == "deny"]
    for one in denied[:50]:
        place = f"{one.finding.id} {one.finding.xpath} and {', '.join(one.others[:3])}"
        yield make_finding("lint", place, "fail", one.finding.fix, one.finding.why)
    if not denied:
        yield make_finding("lint", f"{name} beside others", "pass", "nothing shared with another VM", "nothing")


def make_finding(
    check: str, subject: str, outcome: str, expected: str, found: str, authority: str = "publisher"
) -> Finding:
    """A finding whose texts are made printable: what a guest or a caller wrote may hold anything."""
    return Finding(
        check=check,
        subject=_text(subject, 300),
        outcome=outcome,
        expected=_text(expected),
        found=_text(found),
        authority=authority,
    )


def told(error: VmgateError) -> str:
    """An error inside a finding: without its remedy, and without what separates the parts of an error's line."""
    return f"{error.what}: {error.cause}".replace("; ", ", ")


def _text(text: str, limit: int = 500) -> str:
    printable = "".join(c if c.isprintable() and not 0x200B <= ord(c) <= 0x206F else "?" for c in text)
    return printable[:limit] or "nothing"
