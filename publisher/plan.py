# SPDX-License-Identifier: Apache-2.0
"""Putting a release together: measured artifacts in, one signed-policy-carrying document out.

Pure, except that the signer given is asked for signatures over policies computed here. Nothing is read from a host or a
repository. This module does not publish (``updater.repository`` does) and does not sign the release itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from content.fsverity import Measured, digest_bytes
from documents.definition import VmDefinition
from documents.errors import DocumentError
from documents.host_image import HostImage
from documents.release import Artifact, Origin, PolicyKey, ReferenceValue, Release
from documents.security_policy import SecurityPolicy
from measure.policy import PURPOSE_EPOCH
from measure.predict import PolicySigner, sign_policies
from publisher.errors import PlanRefused
from publisher.recipe import Terms

COMPONENTS = (
    ("vmm/host-files", "host-files"),
    ("vmm/firmware-code", "firmware-code"),
    ("vmm/firmware-vars", "firmware-vars"),
    ("vmgate/build", "vmgate-build"),
    ("vmgate/hook", "hook"),
    ("vmgate/security-policy", "security-policy"),
)
"""Name and kind of the artifacts of a platform release, in the order in which hosts measure them."""

IMAGE_COMPONENTS = (
    ("vmm/image", "vmm-image"),
    *(pair for pair in COMPONENTS if pair[0] not in ("vmm/host-files", "vmm/firmware-code")),
)
"""The same where the VMM is an image, which has the firmware's code in it."""

HOST_IMAGE = "host/image"
"""What the hosts boot, where the release says it. No component: firmware and kernel measure it before vmgate runs."""

LIBVIRT_FILES = "host/libvirt-files"
"""The files of libvirt's packages, where the release says them. No component: libvirt is among a host's own things, and
nothing is sealed against it."""

SITE_BASELINE = "host/site-baseline"
"""What is approved of the things local to all hosts, where the release says it. No component, for the same reason."""

REPOSITORY = "repository"
"""The component that comes first: the identity of the repository itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned(Measured):
    """A component's content that has a version of its own, such as a package's; empty where it has none."""

    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadInputs:
    """What a workload release is made of.

    Attributes:
        accepts: lowest and highest number of the platform releases that it runs on.
        images: name and content of each image.
        definitions: the VMs.
        policies: of the accepted platform releases as far as they are known; a VM must fit one of them.
    """

    accepts: tuple[int, int]
    images: tuple[tuple[str, Measured], ...]
    definitions: tuple[VmDefinition, ...]
    policies: tuple[SecurityPolicy, ...] = ()


def plan_platform(
    terms: Terms,
    components: Mapping[str, Measured],
    number: int,
    predecessors: Sequence[Release],
    repository_identity: str,
    signer: PolicySigner,
    image: HostImage | None = None,
    older: Sequence[PolicySigner] = (),
) -> Release:
    """Plan a platform release, with its policies signed for each state and epoch that a host may come from.

    Args:
        terms: from the recipe.
        components: content of each of ``COMPONENTS`` or of ``IMAGE_COMPONENTS``, by name, and those of
            ``LIBVIRT_FILES`` and ``SITE_BASELINE`` where there are any; a ``Versioned`` where it has a version of its
            own.
        number: of the release.
        predecessors: the releases from which a live switch is supported.
        repository_identity: fs-verity digest of the repository's first root metadata.
        signer: holds the TPM policy key.
        image: what the hosts boot; their keys then open only there.
        older: hold the policy keys that it takes over from: hosts have keys that only their policies open.

    Raises:
        PlanRefused: it would break a rule.
        PolicyRefused: the signer does not sign what it is asked for.
        ValueError: not the components of a platform, or predecessors of another channel: a bug of the caller.
    """
    order = IMAGE_COMPONENTS if IMAGE_COMPONENTS[0][0] in components else COMPONENTS
    if components.keys() - {LIBVIRT_FILES, SITE_BASELINE} != {name for name, _ in order}:
        raise ValueError("these are not the components of a platform release")
    _require_growth("platform", terms, number, predecessors)
    artifacts = tuple(_artifact(name, kind, components[name]) for name, kind in order)
    found = {REPOSITORY: repository_identity, **{artifact.name: artifact.fsverity for artifact in artifacts}}
    new = Origin.of(terms.channel, number)
    own = {name: part.version for name, part in components.items() if isinstance(part, Versioned) and part.version}
    origins = {name: replace(new, version=own.get(name, new.version)) for name in found}
    reference = _reference(found, origins, predecessors)
    booted = () if image is None else (_artifact(HOST_IMAGE, "host-image", _measured(image.encode())),)
    local = ((LIBVIRT_FILES, "host-files"), (SITE_BASELINE, "site-baseline"))
    named = tuple(_artifact(name, kind, components[name]) for name, kind in local if name in components)
    draft = Release(
        channel=terms.channel,
        authority="platform",
        number=number,
        epoch=terms.epoch,
        minimum_agent=terms.minimum_agent,
        import_days=terms.import_days,
        accepts=(0, 0),
        artifacts=(*artifacts, *booted, *named),
        reference=reference,
        policy_keys=(),
        policies=(),
        refused=terms.refused,
        waves=terms.waves,
        urgent=terms.urgent,
    )
    return checked(with_policies(draft, (signer, *older), predecessors, image))


def _reference(
    found: Mapping[str, str], new: Mapping[str, Origin], predecessors: Sequence[Release]
) -> tuple[ReferenceValue, ...]:
    """The reference values; what the newest release had keeps its origin, so that it measures as it did there."""
    newest = max(predecessors, key=lambda old: old.number, default=None)
    kept = {(value.component, value.fsverity): value.origin for value in newest.reference} if newest else {}
    return tuple(
        ReferenceValue(component=name, fsverity=digest, origin=kept.get((name, digest)) or new[name])
        for name, digest in found.items()
    )


def plan_workload(terms: Terms, inputs: WorkloadInputs, number: int, predecessors: Sequence[Release]) -> Release:
    """Plan a workload release.

    Args:
        terms: from the recipe.
        inputs: measured.
        number: of the release.
        predecessors: earlier releases of the channel, as many as are known.

    Raises:
        PlanRefused: it would break a rule.
    """
    _require_growth("workload", terms, number, predecessors)
    if not inputs.definitions:
        raise _refused("it has no VM", "name a definition")
    _require_distinct("image", (name for name, _ in inputs.images))
    _require_distinct("VM name", (definition.name for definition in inputs.definitions))
    _require_distinct("VM UUID", (definition.uuid for definition in inputs.definitions))
    for definition in inputs.definitions:
        _require_fit(definition, inputs)
    return checked(
        Release(
            channel=terms.channel,
            authority="workload",
            number=number,
            epoch=terms.epoch,
            minimum_agent=terms.minimum_agent,
            import_days=terms.import_days,
            accepts=inputs.accepts,
            artifacts=(
                *(_artifact(f"image/{name}", "image", measured) for name, measured in inputs.images),
                *(_artifact(f"vm/{d.name}", "definition", _measured(d.encode())) for d in inputs.definitions),
            ),
            reference=(),
            policy_keys=(),
            policies=(),
            refused=terms.refused,
            waves=terms.waves,
            urgent=terms.urgent,
        )
    )


def with_policies(
    draft: Release, signers: Sequence[PolicySigner], predecessors: Sequence[Release], image: HostImage | None
) -> Release:
    """A platform release with its policies, by each of its policy keys.

    Args:
        draft: all the rest of it.
        signers: hold the policy keys, the current one first.
        predecessors: the releases from which a live switch is supported.
        image: what its hosts boot.

    Raises:
        PlanRefused: hosts that come from a predecessor could not open their keys, or would not be re-sealed.
        PolicyRefused: a signer does not sign what it is asked for.
    """
    keys = tuple(signer.public() for signer in signers)
    _require_keys(keys, draft.epoch, predecessors)
    # A host whose key is still sealed for an older epoch must open it once more to raise it.
    epochs = {PURPOSE_EPOCH, draft.epoch, *(old.epoch for old in predecessors)}
    policies = [
        policy
        for signer in signers
        for policy in sign_policies(
            channel=draft.channel,
            number=draft.number,
            reference=draft.reference,
            predecessors=predecessors,
            signer=signer,
            epochs=epochs,
            image=image,
        )
    ]
    return replace(draft, policy_keys=keys, policies=tuple(policies))


def _require_keys(keys: Sequence[PolicyKey], epoch: int, predecessors: Sequence[Release]) -> None:
    newest = max(predecessors, key=lambda old: old.number, default=None)
    if newest is not None and newest.policy_keys[0] != keys[0] and epoch <= newest.epoch:
        raise _refused(
            f"its TPM policy key is another than in release {newest.number}, and only a higher epoch re-seals hosts",
            f"set epoch to {newest.epoch + 1} or more",
        )
    for old in predecessors:
        if old.policy_keys[0] not in keys:
            raise _refused(
                f"the TPM policy key of release {old.number} is not here, and no key of its hosts would open",
                "bring the key; it may go once two releases have named the new one first",
            )


def _require_growth(authority: str, terms: Terms, number: int, predecessors: Sequence[Release]) -> None:
    for old in predecessors:
        if old.channel != terms.channel:
            raise ValueError(f"{old.channel}/{old.number} is of another channel")
        if old.authority != authority:
            raise _refused(f"channel {terms.channel} has {old.authority} releases", "name another channel")
        if number <= old.number:
            raise _refused(f"number {number} is not above {old.number}", f"take {old.number + 1} or more")
        if terms.epoch < old.epoch:
            raise _refused(f"epoch {terms.epoch} is below {old.epoch} of release {old.number}", "never lower the epoch")


def _require_distinct(what: str, names: Iterable[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise _refused(f"the {what} {name} is there {times} times", "keep one")


def require_components(policy: SecurityPolicy) -> None:
    """Refuse a policy that only warns about what no platform release has: whoever wrote it meant something else.

    Raises:
        PlanRefused: it does.
    """
    unknown = sorted(set(policy.warn_only) - {REPOSITORY, *(name for name, _ in (*COMPONENTS, *IMAGE_COMPONENTS))})
    if unknown:
        raise _refused(f"warn_only names {unknown[0]}, which is no component", "name components as the release does")


def _require_fit(definition: VmDefinition, inputs: WorkloadInputs) -> None:
    """Refuse a VM with a disk that the release does not bring, or that no accepted platform would start."""
    brought = {(measured.fsverity, measured.length) for _, measured in inputs.images}
    for disk in definition.based:
        if (disk.image, disk.length) not in brought:
            raise _refused(f"disk {disk.name} of {definition.name} is no image of the release", "add the image")
    if inputs.policies and not any(_fits(definition, policy) for policy in inputs.policies):
        raise _refused(
            f"{definition.name} wants {definition.vcpus} processors and {definition.memory_mib} MiB, "
            "more than the accepted platform releases allow",
            "make it smaller, or raise the limits in a platform release first",
        )


def _fits(definition: VmDefinition, policy: SecurityPolicy) -> bool:
    return definition.vcpus <= policy.max_vcpus and definition.memory_mib <= policy.max_memory_mib


def _artifact(name: str, kind: str, measured: Measured) -> Artifact:
    if measured.length == 0:
        raise _refused(f"{name} is empty", "check the file that the recipe names")
    return Artifact(name=name, kind=kind, fsverity=measured.fsverity, length=measured.length)


def _measured(data: bytes) -> Measured:
    return Measured(fsverity=digest_bytes(data), length=len(data))


def checked(release: Release) -> Release:
    """The release, if hosts would take it.

    Raises:
        PlanRefused: it brings what it refuses, or breaks a rule of its document.
    """
    for artifact in release.artifacts:
        if artifact.fsverity in release.refused:
            raise _refused(f"it brings {artifact.name}, whose digest it refuses", "take one of the two out")
    try:
        return Release.parse(release.encode())
    except DocumentError as error:
        raise _refused(error.cause, "correct the recipe") from error


def _refused(cause: str, remedy: str) -> PlanRefused:
    return PlanRefused("the release was not planned", cause=cause, remedy=remedy)
