# SPDX-License-Identifier: Apache-2.0
"""Predictions: what hosts will measure, and the policies signed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from lab.boot_logs import IMAGE, MACHINE
from lab.measuring import CHANNEL, PUBLISHER, Signer, booted, logged, platform, switched
from measure.cel import replay
from measure.errors import PolicyRefused
from measure.pcr import KERNEL_IMAGE_PCR, VMM_PCR
from measure.predict import Prediction, predictions, reference_digest, sign_policies, vmm_pcr_fresh, vmm_pcr_switch


def test_a_fresh_boot_and_a_switch_are_what_hosts_replay() -> None:
    one, two = platform(1), platform(2)
    fresh = replay(logged(booted(one)), "sha256")[VMM_PCR].hex()
    live = replay(logged([*booted(one), *switched(two)]), "sha256")[VMM_PCR].hex()
    assert fresh == vmm_pcr_fresh(one.reference)
    assert live == vmm_pcr_switch(fresh, CHANNEL, 2, two.reference)


def test_policies_cover_each_way_in_and_each_epoch() -> None:
    one, two = platform(1), platform(2)
    three = platform(3, predecessors=(two, one), epoch=2, epochs=(1, 2))
    ways = [(policy.entry, policy.predecessor, policy.epoch) for policy in three.policies]
    assert ways == [
        ("fresh", 0, 1),
        ("fresh", 0, 2),
        ("switch", 1, 1),
        ("switch", 1, 2),
        ("switch", 2, 1),
        ("switch", 2, 2),
    ]
    assert len({policy.pcrs for policy in three.policies}) == 3


def test_a_release_with_a_host_image_has_a_policy_for_each_phase() -> None:
    one = platform(1, image=IMAGE)
    two = platform(2, predecessors=(one,), image=IMAGE, epoch=2, epochs=(1, 2))
    fresh = vmm_pcr_fresh(two.reference)
    live = vmm_pcr_switch(vmm_pcr_fresh(one.reference), CHANNEL, 2, two.reference)
    boots = {phase: replace(MACHINE, phase=phase).pcrs()[11].hex() for phase in IMAGE.phases}
    assert predictions(CHANNEL, 2, two.reference, (one,), IMAGE) == tuple(
        Prediction(entry=entry, predecessor=predecessor, vmm_pcr=value, phase=phase, boot_pcr=boots[phase])
        for entry, predecessor, value in (("fresh", 0, fresh), ("switch", 1, live))
        for phase in ("sysinit", "sysinit:ready")
    )
    expected = [
        (epoch, ((KERNEL_IMAGE_PCR, boots[phase]), (VMM_PCR, value)))
        for value in (fresh, live)
        for phase in IMAGE.phases
        for epoch in (1, 2)
    ]
    assert [(policy.epoch, policy.pcrs) for policy in two.policies] == expected


def test_a_release_without_a_host_image_asks_for_the_vmm_alone() -> None:
    (fresh,) = predictions(CHANNEL, 1, platform(1).reference, ())
    assert (fresh.phase, fresh.boot_pcr) == ("", "")
    assert fresh.pcrs == ((VMM_PCR, fresh.vmm_pcr),)


def test_a_host_switches_only_between_releases_of_one_image() -> None:
    other = replace(IMAGE, command_line=IMAGE.command_line + " debug")
    without, same, another = platform(1), platform(2, image=IMAGE), platform(3, image=other)
    twice = replace(same, number=4, artifacts=(*same.artifacts, replace(same.artifacts[-1], name="host/second")))
    old = (without, same, another, twice)
    values = platform(5).reference
    for image, expected in ((IMAGE, {0, 2}), (other, {0, 3}), (None, {0, 1})):
        found = predictions(CHANNEL, 5, values, old, image)
        assert {state.predecessor for state in found} == expected


def test_the_order_of_components_matters() -> None:
    values = platform(1).reference
    assert vmm_pcr_fresh(values) != vmm_pcr_fresh(values[::-1])
    assert reference_digest(values) != reference_digest(values[::-1])


def test_only_older_releases_of_the_channel_are_predecessors() -> None:
    one = platform(1)
    for wrong in (one, platform(2), replace(platform(1), channel="other", number=1)):
        number = 1 if wrong.channel == CHANNEL else 5
        with pytest.raises(ValueError, match="no predecessor"):
            predictions(CHANNEL, number, one.reference, (wrong,))


def test_nothing_is_signed_for_no_state_or_no_epoch() -> None:
    values = platform(1).reference
    for reference, epochs in (((), (1,)), (values, ())):
        with pytest.raises(ValueError, match=r"predicted|epoch"):
            sign_policies(
                channel=CHANNEL, number=1, reference=reference, predecessors=(), signer=PUBLISHER, epochs=epochs
            )


class Recording(Signer):
    """Remembers what it was asked to sign."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Mapping[int, str], str, int]] = []

    def sign(self, pcrs: Mapping[int, str], channel: str, epoch: int) -> bytes:
        self.asked.append((pcrs, channel, epoch))
        return super().sign(pcrs, channel, epoch)


def test_the_signer_sees_predicted_policies_only() -> None:
    signer = Recording()
    release = platform(2, predecessors=(platform(1),), signer=signer)
    assert len(signer.asked) == len(release.policies) == 2
    assert signer.asked == [(dict(policy.pcrs), CHANNEL, 1) for policy in release.policies]


class Broken(Signer):
    """Signs something else than it was asked to."""

    def sign(self, pcrs: Mapping[int, str], channel: str, epoch: int) -> bytes:
        return super().sign(pcrs, channel, epoch + 1)


def test_a_signature_that_does_not_verify_never_leaves() -> None:
    with pytest.raises(PolicyRefused):
        platform(1, signer=Broken())
