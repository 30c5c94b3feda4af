# SPDX-License-Identifier: Apache-2.0
"""The policy digests that we compute are those that a TPM computes, term by term."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tpm2_pytss as tss

from keys.tpm_policy import pcr_policy, policy_ref
from lab.measuring import CHANNEL, PUBLISHER, booted, platform
from lab.tpm import SoftwareTpm
from measure import templates
from measure.policy import (
    UNSEAL,
    approved_policy,
    authorize_policy,
    command_code_policy,
    counter_operand,
    counter_policy,
    key_name,
    nv_name,
    seal_policy,
)
from measure.tpm import Tpm

ONE = platform(1)


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Tpm]:
    with SoftwareTpm(tmp_path) as chip, Tpm.open(chip.tcti) as found:
        yield found


@pytest.fixture
def trial(tpm: Tpm) -> tss.ESYS_TR:
    return tpm._esys.start_auth_session(
        tss.ESYS_TR.NONE, tss.ESYS_TR.NONE, tss.TPM2_SE.TRIAL, tss.TPMT_SYM_DEF.parse("null"), tss.TPM2_ALG.SHA256
    )


def digest(tpm: Tpm, session: tss.ESYS_TR) -> bytes:
    return bytes(tpm._esys.policy_get_digest(session))


def test_a_pcr_term(tpm: Tpm, trial: tss.ESYS_TR) -> None:
    for pcr, event in booted(ONE):
        tpm.extend(pcr, event.encode())
    tpm._esys.policy_pcr(trial, b"", "sha256:13")
    assert digest(tpm, trial) == approved_policy(ONE.policies[0])
    values = {index: value.hex() for index, value in tpm.read_pcrs("sha256", (0, 7, 13, 23)).items()}
    tpm._esys.policy_pcr(trial, b"", "sha256:0,7,13,23")
    assert digest(tpm, trial) == pcr_policy(values, approved_policy(ONE.policies[0]))


def test_all_terms_of_the_sealed_key(tpm: Tpm, trial: tss.ESYS_TR) -> None:
    esys, key, ref = tpm._esys, PUBLISHER.public(), policy_ref(CHANNEL, 1)
    verifier = esys.load_external(
        tss.TPM2B_PUBLIC(publicArea=tss.TPMT_PUBLIC.unmarshal(templates.policy_key_public(key))[0]),
        hierarchy=tss.ESYS_TR.OWNER,
    )
    name = esys.tr_get_name(verifier)
    assert bytes(name) == key_name(key)
    approved = approved_policy(ONE.policies[0])
    signature = tss.TPMT_SIGNATURE.unmarshal(templates.ecdsa_signature(ONE.policies[0].signature))[0]
    ticket = esys.verify_signature(verifier, hashlib.sha256(approved + ref).digest(), signature)
    # A trial session must stand at the approved digest too.
    for pcr, event in booted(ONE):
        tpm.extend(pcr, event.encode())
    esys.policy_pcr(trial, b"", "sha256:13")
    esys.policy_authorize(trial, approved, name, ticket, ref)
    expected = authorize_policy(key, ref)
    assert digest(tpm, trial) == expected

    esys.policy_command_code(trial, UNSEAL)
    expected = command_code_policy(expected, UNSEAL)
    assert digest(tpm, trial) == expected

    local = {7: tpm.read_pcrs("sha256", [7])[7].hex()}
    esys.policy_pcr(trial, b"", "sha256:7")
    expected = pcr_policy(local, expected)
    assert digest(tpm, trial) == expected

    counter = tpm.counter()
    with tpm._persistent(templates.COUNTER_INDEX) as index:
        assert bytes(esys.nv_read_public(index)[1]) == nv_name()
        esys.policy_nv(index, index, trial, counter_operand(counter), tss.TPM2_EO.UNSIGNED_LE)
    expected = counter_policy(expected, counter)
    assert digest(tpm, trial) == expected == seal_policy(key, CHANNEL, 1, counter, local)
    esys.flush_context(verifier)
    esys.flush_context(trial)


@pytest.mark.parametrize(
    "public",
    [
        templates.storage_public(),
        templates.attestation_public(),
        templates.sealed_public(bytes(32)),
        templates.purpose_public(bytes(32)),
        templates.policy_key_public(PUBLISHER.public()),
    ],
)
def test_templates_are_structures(public: bytes) -> None:
    parsed, used = tss.TPMT_PUBLIC.unmarshal(public)
    assert used == len(public)
    assert parsed.marshal() == public
    assert bytes(parsed.get_name()) == templates.public_name(public)
