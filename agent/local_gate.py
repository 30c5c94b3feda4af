# SPDX-License-Identifier: Apache-2.0
"""What the gate asks of a VM that was made on this host, besides all that it asks of every VM. Pure.

 a. The signed security policy of the platform has AllowLocal. Absent means no.
 b. The set that names it was signed by this host's TPM under a policy key of the active platform release, and is the
    newest (``agent.local_authority``, which the caller asked).
 c. Its definition says of itself what the set says: name, UUID.
 d. Its guardians are tpm and recovery at most: no key of a fleet is given for it.
 e. Neither its name, nor its UUID, nor an image of its disks is a VM's that an active release defines: who publishes
    comes first, also where it came later.
 f. Each image is one that the set names, with its length.

Each finding says ``local``: the expectation is the local authority's, or is about it. None is better than a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.plan import Plan, VmPlan
from documents.definition import VmDefinition
from documents.host_state import Generation
from documents.local_set import LocalSet, LocalVm
from documents.security_policy import LOCAL_VMS, SecurityPolicy
from documents.verdict import Finding

LOCAL_GUARDIANS = frozenset({"tpm", "recovery"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is a publisher's: for each name, UUID and digest of an image, what has it.

    Attributes:
        names, uuids: of VMs.
        images: digests of disks' images, and of all images that the releases deliver.
    """

    names: Mapping[str, str]
    uuids: Mapping[str, str]
    images: Mapping[str, str]


def published(plan: Plan, generation: Generation) -> Published:
    """What the active releases have.

    Raises:
        NotReady, ContentError: nobody can tell, so that nothing local is taken for free.
    """
    vms = tuple(plan.published(generation))
    images = {
        artifact.fsverity: f"{release.channel} {release.number}"
        for release in generation.workloads
        for artifact in release.of_kind("image")
    }
    return Published(
        names={vm.definition.name: _of(vm) for vm in vms},
        uuids={vm.definition.uuid: _of(vm) for vm in vms},
        images=images | {disk.image: _of(vm) for vm in vms for disk in vm.definition.based},
    )


def _of(vm: VmPlan) -> str:
    return f"{vm.definition.name} of {vm.release.channel} {vm.release.number}"


def displaced(vm: LocalVm, theirs: Published) -> str:
    """Why a local VM has to stand back behind a release's; empty where it has not."""
    if vm.name in theirs.names:
        return f"its name is that of {theirs.names[vm.name]}"
    return f"its UUID is that of {theirs.uuids[vm.uuid]}" if vm.uuid in theirs.uuids else ""


def local_refusal(plan: Plan, name: str) -> Iterator[Finding]:
    """What is told of a VM that nobody defines, where the local authority's word counts for nothing (b)."""
    if plan.local_refusal:
        yield _finding("local-vm", name, "fail", "signed by this host's local authority", plan.local_refusal)


def judge_local_vm(plan_of_vm: VmPlan, plan: Plan, policy: SecurityPolicy, generation: Generation) -> Iterator[Finding]:
    """One finding for each question; none about a VM of a release.

    Args:
        plan_of_vm: the VM; its definition's digest was verified.
        plan: of this host.
        policy: of the active platform release.
        generation: the active one.

    Raises:
        NotReady, ContentError: what is a publisher's is not known.
    """
    content = plan.local_set(generation)
    if plan_of_vm.local and content:
        yield from local_findings(plan_of_vm.local, plan_of_vm.definition, content, policy, published(plan, generation))


def local_findings(
    vm: LocalVm, definition: VmDefinition, content: LocalSet, policy: SecurityPolicy, theirs: Published
) -> Iterator[Finding]:
    """One finding for each question.

    Args:
        vm: as the set names it.
        definition: as the store has it; its digest was verified.
        content: the set (b).
        policy: of the active platform release.
        theirs: what is a publisher's.
    """
    name, number = vm.name, f"signed by this host's local authority as number {vm.number}"
    # (a), (b)
    allowed = LOCAL_VMS in policy.allow
    yield _finding("local-vm", name, "warn" if allowed else "fail", f"{LOCAL_VMS} in the security policy", number)
    # (c)
    said, is_ = f"{vm.name}, {vm.uuid}", f"{definition.name}, {definition.uuid}"
    yield _finding("local-name", name, "pass" if said == is_ else "fail", said, is_)
    # (d)
    fits = set(definition.guardians) <= LOCAL_GUARDIANS
    expected = " and ".join(sorted(LOCAL_GUARDIANS, reverse=True))
    yield _finding("local-guardians", name, "pass" if fits else "fail", expected, ", ".join(definition.guardians))
    # (e)
    reason = displaced(vm, theirs)
    free = "a name, a UUID and images that no release has"
    yield _finding("local-place", name, "fail" if reason else "pass", free, reason or free)
    # (f)
    imported = {(image.fsverity, image.length) for image in content.images}
    for disk in definition.based:
        subject = f"disk {disk.name}"
        if disk.image in theirs.images:
            yield _finding("local-place", subject, "fail", free, f"the image of {theirs.images[disk.image]}")
        good = (disk.image, disk.length) in imported
        found = f"sha256:{disk.image}"
        yield _finding("local-image", subject, "pass" if good else "fail", "an image that was imported here", found)


def _finding(check: str, subject: str, outcome: str, expected: str, found: str) -> Finding:
    return Finding(
        check=check, subject=subject, outcome=outcome, expected=expected, found=found[:500], authority="local"
    )
