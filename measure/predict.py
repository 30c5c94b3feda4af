# SPDX-License-Identifier: Apache-2.0
"""What a release will measure to, and the TPM policies for that state: computed before any host has run it.

Everything comes from the release's reference values. Nothing is read from a host. This module keeps no key; whoever
calls ``sign_policies`` brings a signer that sees only digests computed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from content.fsverity import digest_bytes
from documents.canonical import encode
from documents.event import MeasuredEvent
from documents.release import PolicyKey, ReferenceValue, Release, SignedPolicy
from measure.pcr import VMM_PCR, extend, measure, reset_value
from measure.policy import pcr_policy, policy_ref, verify_signed_policy


class PolicySigner(Protocol):
    """Holds a TPM policy key. It signs nothing else with it."""

    def public(self) -> PolicyKey:
        """The public half."""
        ...

    def sign(self, approved: bytes, ref: bytes) -> bytes:
        """ECDSA P-256 over SHA-256 of approved || ref (32 bytes each); r || s, 64 bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One state that a host can be in with a release: how it came there, and its VMM PCR (SHA-256, hexadecimal)."""

    entry: str
    predecessor: int
    vmm_pcr: str


def events_of(reference: Iterable[ReferenceValue]) -> tuple[MeasuredEvent, ...]:
    """The events that a host in this state extends into its VMM PCR, in their order."""
    return tuple(
        MeasuredEvent(event="component", subject=value.component, fsverity=value.fsverity) for value in reference
    )


def reference_digest(reference: Iterable[ReferenceValue]) -> str:
    """The fs-verity digest of the canonical reference values: what a ``vmm-switch`` event carries.

    A release cannot hold its own digest in its policies, so the switch names what the policies are made from.
    """
    return digest_bytes(encode({"reference": [value.members() for value in reference]}))


def switch_event(channel: str, number: int, reference: Iterable[ReferenceValue]) -> MeasuredEvent:
    """The event that comes before all others when a running host changes to another release."""
    return MeasuredEvent(event="vmm-switch", subject=f"{channel}/{number}", fsverity=reference_digest(reference))


def vmm_pcr_fresh(reference: Iterable[ReferenceValue]) -> str:
    """The VMM PCR of a host that booted into this state."""
    return _extended(reset_value("sha256", VMM_PCR), events_of(reference)).hex()


def vmm_pcr_switch(previous: str, channel: str, number: int, reference: Iterable[ReferenceValue]) -> str:
    """The VMM PCR of a host that switched to this state while its VMM PCR was ``previous`` (hexadecimal)."""
    values = tuple(reference)
    events = (switch_event(channel, number, values), *events_of(values))
    return _extended(bytes.fromhex(previous), events).hex()


def predictions(
    channel: str, number: int, reference: tuple[ReferenceValue, ...], predecessors: Iterable[Release]
) -> tuple[Prediction, ...]:
    """The states of a release: fresh, then switched to from a fresh boot of each predecessor, oldest first.

    Raises:
        ValueError: no reference values, or a predecessor of another channel or not older: a bug of the caller.
    """
    if not reference:
        raise ValueError("a state without reference values cannot be predicted")
    states = [Prediction(entry="fresh", predecessor=0, vmm_pcr=vmm_pcr_fresh(reference))]
    for old in sorted(predecessors, key=lambda release: release.number):
        if old.channel != channel or old.number >= number or not old.reference:
            raise ValueError(f"{old.channel}/{old.number} is no predecessor of {channel}/{number}")
        value = vmm_pcr_switch(vmm_pcr_fresh(old.reference), channel, number, reference)
        states.append(Prediction(entry="switch", predecessor=old.number, vmm_pcr=value))
    return tuple(states)


def sign_policies(
    *,
    channel: str,
    number: int,
    reference: tuple[ReferenceValue, ...],
    predecessors: Iterable[Release],
    signer: PolicySigner,
    epochs: Iterable[int],
) -> tuple[SignedPolicy, ...]:
    """The signed policies of a release: each predicted state, for each epoch that a host may come from.

    Args:
        channel: of the release.
        number: of the release.
        reference: of the release.
        predecessors: releases from which a live switch is supported.
        signer: asked only for digests computed here.
        epochs: the release's own epoch, and the one before where the release raises it.

    Raises:
        PolicyRefused: the signer's signature does not verify with its own key.
        ValueError: see ``predictions``; or no epoch.
    """
    wanted = sorted(set(epochs))
    if not wanted:
        raise ValueError("a policy is signed for an epoch")
    policies = []
    for state in predictions(channel, number, reference, predecessors):
        for epoch in wanted:
            pcrs = ((VMM_PCR, state.vmm_pcr),)
            signature = signer.sign(pcr_policy(dict(pcrs)), policy_ref(channel, epoch))
            policy = SignedPolicy(
                entry=state.entry, predecessor=state.predecessor, epoch=epoch, pcrs=pcrs, signature=signature
            )
            verify_signed_policy(policy, (signer.public(),), channel)
            policies.append(policy)
    return tuple(policies)


def _extended(value: bytes, events: Iterable[MeasuredEvent]) -> bytes:
    for event in events:
        value = extend("sha256", value, measure("sha256", event.encode()))
    return value
