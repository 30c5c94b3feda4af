# SPDX-License-Identifier: Apache-2.0
"""TPM policies without a TPM. That the digests are a TPM's is shown in the integration tests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.tpm_policy import pcr_policy, policy_ref
from lab.measuring import CHANNEL, PUBLISHER, Signer, platform
from measure.errors import PolicyRefused
from measure.policy import authorize_policy, seal_policy, state_of, verify_signed_policy


def test_a_policy_of_the_publisher_verifies() -> None:
    for policy in platform(1).policies:
        assert verify_signed_policy(policy, (Signer("other").public(), PUBLISHER.public()), CHANNEL) == (
            PUBLISHER.public()
        )


def test_another_signer_channel_epoch_or_state_is_refused() -> None:
    policy = platform(1).policies[0]
    keys = (PUBLISHER.public(),)
    attacks = [
        (policy, (Signer("other").public(),), CHANNEL),
        (policy, (), CHANNEL),
        (policy, keys, "other"),
        (replace(policy, epoch=2), keys, CHANNEL),
        (replace(policy, pcrs=((13, "00" * 32),)), keys, CHANNEL),
        (replace(policy, pcrs=((12, policy.pcrs[0][1]),)), keys, CHANNEL),
        (replace(policy, signature=bytes(64)), keys, CHANNEL),
    ]
    for attack in attacks:
        with pytest.raises(PolicyRefused):
            verify_signed_policy(*attack)


def test_a_key_that_is_no_point_verifies_nothing() -> None:
    bad = replace(PUBLISHER.public(), y="00" * 32)
    with pytest.raises(PolicyRefused):
        verify_signed_policy(platform(1).policies[0], (bad,), CHANNEL)


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_policy_ref_is_for_one_epoch(first: int, second: int) -> None:
    assert (policy_ref(CHANNEL, first) == policy_ref(CHANNEL, second)) == (first == second)


def test_each_term_changes_the_seal_policy() -> None:
    key = PUBLISHER.public()
    base = seal_policy(key, CHANNEL, 1, 5)
    others = {
        seal_policy(Signer("other").public(), CHANNEL, 1, 5),
        seal_policy(key, "other", 1, 5),
        seal_policy(key, CHANNEL, 2, 5),
        seal_policy(key, CHANNEL, 1, 6),
        seal_policy(key, CHANNEL, 1, 5, {7: "11" * 32}),
        authorize_policy(key, policy_ref(CHANNEL, 1)),
    }
    assert len(others) == 6
    assert base not in others
    assert base == seal_policy(key, CHANNEL, 1, 5, {})


def test_nonsense_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no PCR is"):
        pcr_policy({})
    with pytest.raises(ValueError, match="no PCR 24"):
        pcr_policy({24: "00" * 32})
    with pytest.raises(ValueError, match="32 bytes"):
        pcr_policy({13: "00"})


def test_a_state_has_the_policies_of_its_epoch_and_of_all_its_pcrs() -> None:
    base = platform(1).policies[0]
    boot, vmm = (11, "11" * 32), base.pcrs[0]
    both = replace(base, pcrs=(boot, vmm))
    other = replace(base, pcrs=((11, "22" * 32), vmm))
    later = replace(both, epoch=2)
    nothing = replace(base, pcrs=())
    policies = (base, both, other, later, nothing)
    state = {11: bytes.fromhex(boot[1]), 13: bytes.fromhex(vmm[1])}
    assert state_of(policies, 1, state) == (base, both)
    assert state_of(policies, 2, state) == (later,)
    assert state_of(policies, 3, state) == ()
    assert state_of(policies, 1, {13: state[13]}) == (base,)
    assert state_of(policies, 1, {11: state[11]}) == ()
    assert state_of(policies, 1, {**state, 13: bytes(32)}) == ()
    assert state_of(policies, 1, {}) == ()
