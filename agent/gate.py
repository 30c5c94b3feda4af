# SPDX-License-Identifier: Apache-2.0
"""The gate: the only place that says yes to a VM.

The checks, in their order; each is a finding, and one that fails or cannot be made is a no:

 1. The host has an active generation whose releases fit together.
 2. The VMM's components are, now, what the platform release names; what is local to the host is what its publisher
    names or its administrator approved, as far as the signed policy asks for that; nothing broke off this boot.
 3. The platform: this boot's log explains the TPM's PCRs and says what the release says (``measure.appraise``).
 4. The VM is one that an active workload release or the local authority defines, and its definition is in the store as
    signed; one of the local authority is asked more (``agent.local_gate``).
 5. Nothing that the VM or the VMM is made of is on a release's list of refused digests, and nobody else who may took
    the VM back.
 6. The signed security policy allows the VM's size, the classes of its disks and the accelerator.
 7. The domain that libvirt is about to start is the one that the definition renders to, and it passes the linter, alone
    and together with the other VMs of the active releases. Its generation id is the one that was drawn for this start.
 8. Each disk image is, now, what the definition names, all of it.
 9. Each signed image does not begin like a format whose header names other files: it is attached as raw.
10. Each disk that the guest can write lies in a file of the VM's own, and its whole chain is the declared one.
11. Each network and device of the definition is one that this host offers and the signed policy allows, and is as it
     was made (``agent.networks``).

What is left to the caller: that the VM's key opens, that its TPM is the known one, and that disks which it keeps are as
they were left (``agent.launch``); and that nobody with root's power exchanges a file between checks 8 to 11 and QEMU's
opening it: each finding about a signed file says what keeps others from it (``Finding.kept``). This module extends
nothing and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from agent.attachments import Attachments
from agent.disk_files import verify_own_chain
from agent.findings import make_finding, told
from agent.local_gate import judge_local_vm, local_refusal
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
from hypervisor.compare import differences, generation_id
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
        local: digests of what is local to the host, as they were judged by check 2; empty where that was not reached.
    """

    verdict: Verdict
    plan: VmPlan | None
    pcrs: Mapping[int, bytes]
    local: Mapping[str, str]

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
        attachments: what the host offers to VMs.
        taken: gives the cause for which a VM was taken back otherwise than by a release; empty for none.
    """

    def __init__(
        self,
        platform: Platform,
        store: ContentStore,
        plan: Plan,
        clock: Callable[[], int],
        attachments: Attachments,
        taken: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._platform = platform
        self._store = store
        self._plan = plan
        self._clock = clock
        self._attachments = attachments
        self._taken = taken

    def judge(self, name: str, untrusted_xml: bytes, generation: Generation | None) -> Judgement:
        """Make every check for one start; never raises for what it finds."""
        findings: list[Finding] = []
        pcrs: dict[int, bytes] = {}
        local: dict[str, str] = {}
        vm: VmPlan | None = None
        try:
            vm = self._check(name, untrusted_xml, generation, findings, pcrs, local)
        except VmgateError as error:
            # A check that could not be made is a check that failed.
            findings.append(make_finding("could-not-check", name, "fail", "a whole check", told(error)))
        # The platform's appraisal found the level; without one it is the lowest.
        level = next((finding.found for finding in findings if finding.check == "assurance-level"), "L0")
        now = max(0, self._clock())
        seconds = self._verdict_seconds(generation)
        verdict = Verdict(subject=name, level=level, time=now, findings=tuple(findings), expires=now + seconds)
        plan = None if verdict.status == "contraindicated" else vm
        return Judgement(verdict=verdict, plan=plan, pcrs=pcrs, local=local)

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
        local: dict[str, str],
    ) -> VmPlan | None:
        """Make the checks; what was found and read is added to the last three as far as they came."""
        # (1) to (4)
        if generation is None:
            findings.append(make_finding("generation", name, "fail", "an active release", "none", "none"))
            return None
        self._check_platform(generation, findings, pcrs, local)
        artifacts = self._plan.artifacts(generation, name)
        if not artifacts:
            findings.append(
                make_finding("definition", name, "fail", "an active workload release", "no definition", "none")
            )
            findings.extend(local_refusal(self._plan, name))
            return None
        digester = self._platform.digester(generation.platform)
        whose = self._plan.whose(generation, name)
        stored = [self._verify("definition", f"vm {name}", (a.fsverity, a.length), digester, whose) for a in artifacts]
        findings.extend(stored)
        vm = self._plan.find(generation, name) if all(finding.outcome == "pass" for finding in stored) else None
        if vm is None:
            return None
        # (5)
        findings.extend(_refused(generation, vm))
        if cause := self._taken(name):
            findings.append(make_finding("taken-back", name, "fail", "a VM that may start", cause))
        # (6)
        policy = self._platform.policy(generation.platform)
        findings.extend(judge_local_vm(vm, self._plan, policy, generation))
        findings.extend(_check_policy(policy, vm))
        # (7)
        findings.extend(_check_domain(vm, untrusted_xml, whose))
        # A local VM keeps no release's from starting; it is held against all of them.
        known = self._plan.all(generation) if vm.local else self._plan.published(generation)
        others = [other for other in known if other.definition.name != name]
        findings.extend(_check_others(name, untrusted_xml, {other.definition.name: other.xml for other in others}))
        # (8)
        based = vm.definition.based
        images = [self._verify("image", f"disk {d.name}", (d.image, d.length), digester, whose) for d in based]
        findings.extend(images)
        # (9)
        verified = (d for d, image in zip(based, images, strict=True) if image.outcome == "pass")
        findings.extend(self._check_format(disk) for disk in verified)
        # (10)
        findings.extend(_check_chain(vm, disk) for disk in vm.definition.disks if disk.disk_class != "readonly")
        # (11)
        definitions = [other.definition for other in others]
        findings.extend(self._attachments.findings(vm.definition, policy, definitions, digester))
        return vm

    def _check_platform(
        self, generation: Generation, findings: list[Finding], pcrs: dict[int, bytes], local: dict[str, str]
    ) -> None:
        # (2)
        findings.extend(self._platform.recheck(generation.platform))
        local.update(self._platform.local_digests(generation.platform))
        findings.extend(self._platform.judge_local(generation, local))
        findings.extend(self._platform.recheck_boot())
        # (3)
        look = self._platform.look(generation)
        pcrs.update(look.pcrs)
        findings.extend(look.verdict.findings)

    def _check_format(self, disk: Disk) -> Finding:
        try:
            require_raw_file(self._store.path(disk.image), f"disk {disk.name}")
        except ImageNotRaw as error:
            # Whoever looks into it wants to know which file of the host was aimed at.
            found = ", naming ".join((error.found, *error.names))
            return make_finding("disk-format", f"disk {disk.name}", "fail", "raw", found)
        return make_finding("disk-format", f"disk {disk.name}", "pass", "raw", "raw")

    def _verify(self, check: str, subject: str, named: tuple[str, int], digester: Digester, whose: str) -> Finding:
        fsverity, length = named
        expected = f"sha256:{fsverity}"
        try:
            taken = self._store.verify_for_use(fsverity, length, digester)
        except DigestMismatch as error:
            # What differs may be the length alone, told as "N bytes".
            found = f"sha256:{error.found}" if len(error.found) == len(fsverity) else error.found
            return make_finding(check, subject, "fail", expected, found, whose)
        except ContentError as error:
            return make_finding(check, subject, "fail", expected, told(error), whose)
        good = make_finding(check, subject, "pass", expected, expected, whose)
        return replace(good, kept=taken.kept, taken=taken.taken)


def _refused(generation: Generation, vm: VmPlan) -> Iterable[Finding]:
    """What this VM and the VMM are made of; what other VMs are made of is their matter."""
    refused = {digest for release in generation.parsed() for digest in release.refused}
    made_of = {disk.image: f"disk {disk.name}" for disk in vm.definition.based}
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
    for disk in definition.disks:
        outcome = "pass" if disk.disk_class in policy.disks else "fail"
        yield make_finding(
            "policy", f"disk {disk.name}", outcome, ", ".join(policy.disks) or "no disk", disk.disk_class
        )
    if vm.placement.accelerator == "emulation":
        allowed = "AllowEmulation" in policy.allow
        found = "QEMU's emulation, which promises no isolation"
        yield make_finding("accelerator", definition.name, "warn" if allowed else "fail", "kvm", found)
    else:
        yield make_finding("accelerator", definition.name, "pass", "kvm", vm.placement.accelerator)


def _check_chain(vm: VmPlan, disk: Disk) -> Finding:
    expected = "a file of the VM's own, over what is declared"
    try:
        found = verify_own_chain(vm, disk)
    except VmgateError as error:
        return make_finding("disk-chain", f"disk {disk.name}", "fail", expected, told(error))
    return make_finding("disk-chain", f"disk {disk.name}", "pass", expected, found)


def _check_domain(vm: VmPlan, untrusted_xml: bytes, whose: str) -> Iterable[Finding]:
    name = vm.definition.name
    found = differences(vm.xml, untrusted_xml)
    for difference in found[:50]:
        yield make_finding("domain", difference.xpath, "fail", difference.expected, difference.found, whose)
    if not found:
        yield make_finding("domain", name, "pass", "as the definition says", "as the definition says", whose)
    expected, given = vm.placement.generation_id, generation_id(untrusted_xml)
    outcome = "pass" if expected and given == expected else "fail"
    yield make_finding("generation-id", name, outcome, expected, given, "local")
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
