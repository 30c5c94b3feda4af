# SPDX-License-Identifier: Apache-2.0
"""The TPM adapter on a real swtpm: PCRs, quotes, counter, keys that sign, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tpm2_pytss as tss
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from documents.evidence import Evidence
from documents.release import Release
from keys.tpm_policy import policy_ref
from lab.measuring import CHANNEL, PUBLISHER, booted, platform, reference, switched
from lab.tpm import SoftwareTpm
from measure import templates
from measure.appraise import appraise, claims_from_evidence
from measure.cel import encode_record, record
from measure.errors import NotForThisTpm, QuoteRefused, SealShut, TpmFailed, TpmMissing
from measure.pcr import VMM_PCR, digest_size, extend, reset_value
from measure.pcr import measure as digest_of
from measure.policy import PURPOSE_EPOCH, authorize_policy
from measure.predict import vmm_pcr_fresh
from measure.quote import verify_certified_key, verify_quote
from measure.structures import parse_signature, verify_signature
from measure.tpm import Tpm

NONCE = os.urandom(32)
EPOCHS = (PURPOSE_EPOCH, 1)
ONE = platform(1, epochs=EPOCHS)
TWO = platform(2, predecessors=(ONE,), epochs=EPOCHS)


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with SoftwareTpm(tmp_path) as found:
        yield found


@pytest.fixture
def tpm(chip: SoftwareTpm) -> Iterator[Tpm]:
    with Tpm.open(chip.tcti) as found:
        yield found


def boot(tpm: Tpm, release: Release, *, live: bool = False) -> None:
    for pcr, event in switched(release) if live else booted(release):
        tpm.extend(pcr, event.encode())


def test_a_software_tpm_says_so(tpm: Tpm) -> None:
    assert tpm.software()
    assert tpm.banks() == ("sha1", "sha256", "sha384", "sha512")


def test_an_extend_reaches_every_bank(tpm: Tpm) -> None:
    tpm.extend(VMM_PCR, b"event")
    for alg in tpm.banks():
        expected = extend(alg, reset_value(alg, VMM_PCR), digest_of(alg, b"event"))
        assert tpm.read_pcrs(alg, [VMM_PCR]) == {VMM_PCR: expected}
    values = tpm.read_pcrs("sha256", range(24))
    assert list(values) == list(range(24))
    assert all(len(value) == digest_size("sha256") for value in values.values())
    assert {index for index in values if values[index] != reset_value("sha256", index)} == {VMM_PCR}


def test_a_pcr_that_does_not_exist_is_an_error(tpm: Tpm) -> None:
    with pytest.raises(TpmFailed):
        tpm.read_pcrs("sha256", [24])


@pytest.mark.parametrize("tcti", ["swtpm:path=/nowhere/tpm", "device:/nowhere/tpmrm0", "no-such-kind:x"])
def test_a_missing_tpm_is_told_at_once(tcti: str) -> None:
    with pytest.raises(TpmMissing) as missing:
        Tpm.open(tcti)
    assert tcti in missing.value.what
    assert missing.value.exit == 7


def test_a_tpm_that_goes_away_is_an_error_not_a_crash(chip: SoftwareTpm) -> None:
    with Tpm.open(chip.tcti) as tpm:
        chip.stop()
        for call in (tpm.clock, tpm.counter, tpm.create_ak, lambda: tpm.extend(13, b"x")):
            with pytest.raises(TpmFailed):
                call()


def test_reset_count_tells_boots_apart(chip: SoftwareTpm) -> None:
    counts = []
    for _ in range(3):
        with Tpm.open(chip.tcti) as tpm:
            counts.append(tpm.clock().reset_count)
        chip.power_cycle()
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]


def test_the_attestation_key_is_the_same_after_a_power_cut(chip: SoftwareTpm) -> None:
    found = []
    for _ in range(2):
        with Tpm.open(chip.tcti) as tpm:
            found.append(tpm.create_ak())
            assert tpm.ak_public() == found[0]
        chip.power_cycle()
    assert found[0] == found[1]


def test_a_real_quote_is_verified_and_its_evidence_appraised(tpm: Tpm) -> None:
    records = []
    for number, (pcr, event) in enumerate(booted(ONE)):
        records.append(record(number, pcr, event, tpm.banks()))
        tpm.extend(pcr, event.encode())
    attest, signature = tpm.quote(NONCE, {"sha256": (12, 13), "sha384": [13]})
    evidence = Evidence(
        attest=attest,
        signature=signature,
        ak=tpm.ak_public(),
        boot_log=b"",
        ima=b"",
        cel=b"".join(encode_record(entry) for entry in records),
    )
    # Through its document, as another process gets it.
    claims = claims_from_evidence(Evidence.parse(evidence.encode()), tpm.ak_public(), NONCE)
    appraise(claims, reference(ONE), 1).require_trusted("nothing")
    assert claims.pcrs[VMM_PCR].hex() == vmm_pcr_fresh(ONE.reference)
    quote = verify_quote(attest, signature, tpm.ak_public(), NONCE)
    assert quote.selection == (("sha256", (12, 13)), ("sha384", (13,)))
    assert quote.reset_count == tpm.clock().reset_count

    with pytest.raises(QuoteRefused):
        claims_from_evidence(evidence, tpm.ak_public(), os.urandom(32))
    with pytest.raises(QuoteRefused):
        claims_from_evidence(
            replace(evidence, cel=evidence.cel[: -len(encode_record(records[-1]))]), evidence.ak, NONCE
        )


def test_another_tpms_quote_is_refused(tpm: Tpm, tmp_path: Path) -> None:
    with SoftwareTpm(tmp_path / "b") as second, Tpm.open(second.tcti) as other:
        attest, signature = other.quote(NONCE, {"sha256": (12, 13)})
        with pytest.raises(QuoteRefused):
            verify_quote(attest, signature, tpm.ak_public(), NONCE)


def test_the_attestation_key_signs_nothing_from_outside(tpm: Tpm) -> None:
    """It is restricted; the TPM refuses a digest that it did not make."""
    tpm.create_ak()
    with tpm._persistent(templates.AK_HANDLE) as ak, pytest.raises(tss.TSS2_Exception):
        tpm._esys.sign(ak, bytes(32), tss.TPMT_SIG_SCHEME(scheme=tss.TPM2_ALG.NULL))


def test_a_foreign_key_at_our_handle_is_not_used(tpm: Tpm) -> None:
    """Somebody put an unrestricted key where the attestation key belongs."""
    loose = templates.attestation_public().replace(bytes.fromhex("00050472"), bytes.fromhex("00040472"))
    public = tss.TPM2B_PUBLIC(publicArea=tss.TPMT_PUBLIC.unmarshal(loose)[0])
    made = tpm._esys.create_primary(tss.TPM2B_SENSITIVE_CREATE(), public, tss.ESYS_TR.ENDORSEMENT)[0]
    tpm._esys.evict_control(tss.ESYS_TR.OWNER, made, templates.AK_HANDLE)
    for use in (tpm.create_ak, lambda: tpm.quote(NONCE, {"sha256": (13,)})):
        with pytest.raises(TpmFailed) as failed:
            use()
        assert "another kind of key" in failed.value.cause


def test_the_counter_only_rises_and_never_twice(chip: SoftwareTpm) -> None:
    with Tpm.open(chip.tcti) as tpm:
        first = tpm.counter()
        assert tpm.counter() == first
        assert tpm.raise_counter(first) == first
        assert tpm.raise_counter(first + 2) == first + 2
    chip.power_cycle()
    with Tpm.open(chip.tcti) as tpm:
        # The same call after a crash does nothing more.
        assert tpm.raise_counter(first + 2) == first + 2
        assert tpm.counter() == first + 2


def test_an_index_with_another_use_is_not_taken_for_the_counter(tpm: Tpm) -> None:
    public = tss.TPM2B_NV_PUBLIC(
        nvPublic=tss.TPMS_NV_PUBLIC(
            nvIndex=templates.COUNTER_INDEX,
            nameAlg=tss.TPM2_ALG.SHA256,
            attributes=tss.TPMA_NV.OWNERWRITE | tss.TPMA_NV.OWNERREAD | tss.TPMA_NV.AUTHREAD,
            dataSize=8,
        )
    )
    index = tpm._esys.nv_define_space(None, public, auth_handle=tss.ESYS_TR.OWNER)
    tpm._esys.nv_write(index, bytes(8), auth_handle=tss.ESYS_TR.OWNER)
    with pytest.raises(TpmFailed):
        tpm.counter()


def test_a_purpose_key_signs_in_approved_states_only(chip: SoftwareTpm) -> None:
    with Tpm.open(chip.tcti) as tpm:
        key = PUBLISHER.public()
        auth_policy = authorize_policy(key, policy_ref(CHANNEL, PURPOSE_EPOCH))
        public, private = tpm.create_purpose_key(auth_policy)
        attest, signature = tpm.certify(public, private, NONCE)
        certified = verify_certified_key(attest, signature, tpm.ak_public(), NONCE, public[2:])
        assert (certified.attributes, certified.auth_policy) == (templates.PURPOSE_ATTRIBUTES, auth_policy)
        with pytest.raises(QuoteRefused):
            verify_certified_key(attest, signature, tpm.ak_public(), NONCE, tpm.create_purpose_key(auth_policy)[0][2:])
        with pytest.raises(QuoteRefused):
            verify_quote(attest, signature, tpm.ak_public(), NONCE)

        policy = ONE.policies[0]
        assert policy.epoch == PURPOSE_EPOCH
        with pytest.raises(SealShut) as shut:
            tpm.sign(public, private, b"audit head", key=key, channel=CHANNEL, policy=policy)
        assert shut.value.term == "state"
        boot(tpm, ONE)
        made = tpm.sign(public, private, b"audit head", key=key, channel=CHANNEL, policy=policy)
        verify_signature(certified, parse_signature(made), b"audit head")
        with pytest.raises(QuoteRefused):
            verify_signature(certified, parse_signature(made), b"audit haed")
        # A policy of the sealed key's epoch is signed, but not for this key.
        with pytest.raises(SealShut) as shut:
            tpm.sign(public, private, b"audit head", key=key, channel=CHANNEL, policy=ONE.policies[1])
        assert shut.value.term == "policy"
        tpm.extend(VMM_PCR, b"foreign")
        with pytest.raises(SealShut):
            tpm.sign(public, private, b"audit head", key=key, channel=CHANNEL, policy=policy)
    chip.power_cycle()
    with Tpm.open(chip.tcti) as tpm:
        boot(tpm, TWO)
        made = tpm.sign(public, private, b"next", key=key, channel=CHANNEL, policy=TWO.policies[0])
        verify_signature(certified, parse_signature(made), b"next")


def test_a_key_of_another_tpm_is_told_apart(tpm: Tpm, tmp_path: Path) -> None:
    policy = authorize_policy(PUBLISHER.public(), policy_ref(CHANNEL, PURPOSE_EPOCH))
    with SoftwareTpm(tmp_path / "b") as second, Tpm.open(second.tcti) as other:
        public, private = other.create_purpose_key(policy)
    boot(tpm, ONE)
    for blob in (private, b"", private[:-3], b"\x00\x04junk"):
        with pytest.raises(NotForThisTpm):
            tpm.sign(public, blob, b"x", key=PUBLISHER.public(), channel=CHANNEL, policy=ONE.policies[0])


def test_nothing_stays_in_the_tpm(tpm: Tpm) -> None:
    """100 of each, good and bad; TPMs have three slots, so a single one left behind would soon show."""
    key = PUBLISHER.public()
    auth_policy = authorize_policy(key, policy_ref(CHANNEL, PURPOSE_EPOCH))
    boot(tpm, ONE)
    good, bad = ONE.policies[0], TWO.policies[0]
    before = tpm.handles()
    for _ in range(100):
        tpm.quote(NONCE, {"sha256": (12, 13)})
        public, private = tpm.create_purpose_key(auth_policy)
        tpm.sign(public, private, b"x", key=key, channel=CHANNEL, policy=good)
        with pytest.raises(SealShut):
            tpm.sign(public, private, b"x", key=key, channel=CHANNEL, policy=bad)
        with pytest.raises(SealShut):
            tpm.sign(public, private, b"x", key=key, channel=CHANNEL, policy=replace(good, signature=bytes(64)))
    assert tpm.handles() == before == 0


def test_certificates_of_the_key_verify_with_plain_cryptography(tpm: Tpm) -> None:
    """The verifier's side shares no code with the TPM's: checked once against the library's own parser."""
    attest, signature = tpm.quote(NONCE, {"sha256": (13,)})
    public = load_pem_public_key(tss.TPMT_PUBLIC.unmarshal(tpm.ak_public())[0].to_pem())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(parse_signature(signature).value, attest, ec.ECDSA(hashes.SHA256()))
