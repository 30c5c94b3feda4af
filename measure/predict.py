# SPDX-License-Identifier: Apache-2.0
"""What a release will measure to, and the TPM policies for that state: computed before any host has run it.

Everything comes from the release's reference values and its host image. Nothing is read from a host. This module keeps
no key; whoever calls ``sign_policies`` brings a signer, which computes from the values what it signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from content.fsverity import digest_bytes
from documents.canonical import encode
from documents.event import MeasuredEvent
from documents.host_image import HostImage
from documents.release import Origin, PolicyKey, ReferenceValue, Release, SignedPolicy
from measure.boot import pcr11
from measure.pcr import KERNEL_IMAGE_PCR, VMM_PCR, extend, measure, reset_value
from measure.policy import verify_signed_policy


class PolicySigner(Protocol):
    """Holds a TPM policy key. It signs nothing else with it."""

    def public(self) -> PolicyKey:
        """The public half."""
        ...

    def sign(self, pcrs: Mapping[int, str], channel: str, epoch: int) -> bytes:
        """ECDSA P-256 over SHA-256 of what ``keys.tpm_policy.signable`` computes of these; r || s, 64 bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One state that a host can be in with a release. PCR values are SHA-256, hexadecimal.

    Attributes:
        entry: how it came there: ``fresh`` boot, or ``switch`` within a boot.
        predecessor: the release switched from; 0 for a fresh boot.
        vmm_pcr: PCR 13.
        phase: of the boot; one of the host image's, "" where the release has none.
        boot_pcr: PCR 11: the host image in that phase; "" where the release has none.
    """

    entry: str
    predecessor: int
    vmm_pcr: str
    phase: str = ""
    boot_pcr: str = ""

    @property
    def pcrs(self) -> tuple[tuple[int, str], ...]:
        """What a policy for this state asks for: (index, value) in ascending order."""
        boot = ((KERNEL_IMAGE_PCR, self.boot_pcr),) if self.boot_pcr else ()
        return (*boot, (VMM_PCR, self.vmm_pcr))


def events_of(reference: Iterable[ReferenceValue]) -> tuple[MeasuredEvent, ...]:
    """The events that a host in this state extends into its VMM PCR, in their order."""
    return tuple(
        MeasuredEvent(event="component", subject=value.component, fsverity=value.fsverity, origin=value.origin)
        for value in reference
    )


def reference_digest(reference: Iterable[ReferenceValue]) -> str:
    """The fs-verity digest of the canonical reference values: what a ``vmm-switch`` event carries.

    A release cannot hold its own digest in its policies, so the switch names what the policies are made from.
    """
    return digest_bytes(encode({"reference": [value.members() for value in reference]}))


def switch_event(channel: str, number: int, reference: Iterable[ReferenceValue]) -> MeasuredEvent:
    """The event that comes before all others when a running host changes to another release."""
    values = tuple(reference)
    # As its components do: a release that was made before events told their origin must measure to what it signed.
    origin = Origin.of(channel, number) if all(value.origin for value in values) else None
    subject = f"{channel}/{number}"
    return MeasuredEvent(event="vmm-switch", subject=subject, fsverity=reference_digest(values), origin=origin)


def vmm_pcr_fresh(reference: Iterable[ReferenceValue]) -> str:
    """The VMM PCR of a host that booted into this state."""
    return _extended(reset_value("sha256", VMM_PCR), events_of(reference)).hex()


def vmm_pcr_switch(previous: str, channel: str, number: int, reference: Iterable[ReferenceValue]) -> str:
    """The VMM PCR of a host that switched to this state while its VMM PCR was ``previous`` (hexadecimal)."""
    values = tuple(reference)
    events = (switch_event(channel, number, values), *events_of(values))
    return _extended(bytes.fromhex(previous), events).hex()


def predictions(
    channel: str,
    number: int,
    reference: tuple[ReferenceValue, ...],
    predecessors: Iterable[Release],
    image: HostImage | None = None,
) -> tuple[Prediction, ...]:
    """The states of a release: fresh, then switched to from a fresh boot of each predecessor, oldest first.

    With a host image each of them once for each of its phases. A host cannot switch between images without a reboot, so
    only predecessors with the same image count, and without an image those that have none.

    Raises:
        ValueError: no reference values, or a predecessor of another channel or not older: a bug of the caller.
    """
    if not reference:
        raise ValueError("a state without reference values cannot be predicted")
    ways = [("fresh", 0, vmm_pcr_fresh(reference))]
    images = [digest_bytes(image.encode())] if image else []
    for old in sorted(predecessors, key=lambda release: release.number):
        if old.channel != channel or old.number >= number or not old.reference:
            raise ValueError(f"{old.channel}/{old.number} is no predecessor of {channel}/{number}")
        if [artifact.fsverity for artifact in old.of_kind("host-image")] == images:
            value = vmm_pcr_switch(vmm_pcr_fresh(old.reference), channel, number, reference)
            ways.append(("switch", old.number, value))
    boots = [(phase, pcr11(image, phase)) for phase in image.phases] if image else [("", "")]
    return tuple(
        Prediction(entry=entry, predecessor=predecessor, vmm_pcr=value, phase=phase, boot_pcr=boot)
        for entry, predecessor, value in ways
        for phase, boot in boots
    )


def sign_policies(
    *,
    channel: str,
    number: int,
    reference: tuple[ReferenceValue, ...],
    predecessors: Iterable[Release],
    signer: PolicySigner,
    epochs: Iterable[int],
    image: HostImage | None = None,
) -> tuple[SignedPolicy, ...]:
    """The signed policies of a release: each predicted state, for each epoch that a host may come from.

    Args:
        channel: of the release.
        number: of the release.
        reference: of the release.
        predecessors: releases from which a live switch is supported.
        signer: asked only for values predicted here.
        epochs: the release's own epoch, and the one before where the release raises it.
        image: the release's host image; its PCR 11 then stands beside the VMM PCR in each policy.

    Raises:
        PolicyRefused: the signer's signature does not verify with its own key.
        ValueError: see ``predictions``; or no epoch.
    """
    wanted = sorted(set(epochs))
    if not wanted:
        raise ValueError("a policy is signed for an epoch")
    policies = []
    for state in predictions(channel, number, reference, predecessors, image):
        for epoch in wanted:
            signature = signer.sign(dict(state.pcrs), channel, epoch)
            policy = SignedPolicy(
                entry=state.entry,
                predecessor=state.predecessor,
                epoch=epoch,
                pcrs=state.pcrs,
                signature=signature,
            )
            verify_signed_policy(policy, (signer.public(),), channel)
            policies.append(policy)
    return tuple(policies)


def _extended(value: bytes, events: Iterable[MeasuredEvent]) -> bytes:
    for event in events:
        value = extend("sha256", value, measure("sha256", event.encode()))
    return value
