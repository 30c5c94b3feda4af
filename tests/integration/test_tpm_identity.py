# SPDX-License-Identifier: Apache-2.0
"""Who a TPM is, on a real swtpm with certificates by swtpm's own authority: enrolment and attacks on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import tpm2_pytss as tss
from tpm2_pytss import utils

from agent.identity import identity, open_challenge
from documents.evidence import Evidence
from documents.identity import Challenge, Identity
from fleet.enrolment import make_challenge, verify_enrolled
from fleet.errors import VerifierUnready
from fleet.verifier import Expected, verify_evidence
from lab.measuring import CHANNEL, POLICY, PUBLISHER, booted, platform
from lab.tpm import Manufacturer, SoftwareTpm
from lab.vendor import Authority
from measure import templates
from measure.cel import encode_record, record
from measure.certificate import parse_certificate
from measure.credential import make_credential
from measure.ek_roots import Roots
from measure.endorsement import CERTIFICATE_INDEX, CHAIN_INDEXES, KINDS, parse_ek, template
from measure.errors import (
    CertificateUntrusted,
    ChallengeRefused,
    IdentityRefused,
    NotForThisTpm,
    QuoteRefused,
)
from measure.pcr import VMM_PCR
from measure.policy import PURPOSE_EPOCH, authorize_policy, policy_ref
from measure.proof import answer
from measure.quote import verify_quote
from measure.templates import public_name
from measure.tpm import Tpm

NONCE = os.urandom(32)
ONE = platform(1, epochs=(PURPOSE_EPOCH, 1))


@pytest.fixture(scope="module")
def manufacturer(tmp_path_factory: pytest.TempPathFactory) -> Manufacturer:
    return Manufacturer(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def chip(tmp_path: Path, manufacturer: Manufacturer) -> Iterator[SoftwareTpm]:
    """A TPM with a certificate in its memory."""
    chip = SoftwareTpm(tmp_path / "t")
    manufacturer.make(chip)
    with chip:
        yield chip


@pytest.fixture
def tpm(chip: SoftwareTpm) -> Iterator[Tpm]:
    with Tpm.open(chip.tcti) as found:
        yield found


@pytest.fixture
def other(tmp_path: Path, manufacturer: Manufacturer) -> Iterator[Tpm]:
    """Another TPM by the same manufacturer."""
    chip = SoftwareTpm(tmp_path / "o")
    manufacturer.make(chip)
    with chip, Tpm.open(chip.tcti) as found:
        yield found


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Tpm]:
    """A TPM that nobody gave a certificate."""
    with SoftwareTpm(tmp_path / "b") as chip, Tpm.open(chip.tcti) as found:
        yield found


def now() -> int:
    from time import time

    return int(time())


def evidence(tpm: Tpm, challenge: bytes) -> Evidence:
    """What a host answers."""
    nonce, shown = open_challenge(tpm, challenge)
    attest, signature = tpm.quote(nonce, {"sha256": (12, 13)})
    return Evidence(
        attest=attest, signature=signature, ak=tpm.ak_public(), boot_log=b"", ima=b"", cel=b"", identity=shown.encode()
    )


def verify(found: Evidence, roots: Roots, nonce: bytes = NONCE) -> bool:
    """What ``vmgate attest verify`` does before it appraises; whether it is a chip."""
    known = verify_enrolled(found.encode(), roots, nonce, now())
    assert found.ak == known.ak
    verify_quote(found.attest, found.signature, known.ak, known.nonce)
    return known.chip


def write_nv(tpm: Tpm, index: int, data: bytes) -> None:
    """Put something into the TPM's memory that everybody may read, as a vendor does."""
    attributes = tss.TPMA_NV.OWNERWRITE | tss.TPMA_NV.AUTHREAD | tss.TPMA_NV.OWNERREAD | tss.TPMA_NV.NO_DA
    public = tss.TPM2B_NV_PUBLIC(
        nvPublic=tss.TPMS_NV_PUBLIC(
            nvIndex=index, nameAlg=tss.TPM2_ALG.SHA256, attributes=attributes, dataSize=len(data)
        )
    )
    handle = tpm._esys.nv_define_space(None, public, auth_handle=tss.ESYS_TR.OWNER)
    for at in range(0, len(data), 512):
        tpm._esys.nv_write(handle, data[at : at + 512], at, auth_handle=tss.ESYS_TR.OWNER)
    tpm._esys.tr_close(handle)


def test_one_round_trip_proves_keys_tpm_and_freshness(tpm: Tpm, manufacturer: Manufacturer) -> None:
    shown = identity(tpm)
    assert [bool(key.certificate) for key in shown.eks] == [True, False]
    roots = manufacturer.roots()
    challenge, endorsed = make_challenge(shown.encode(), roots, NONCE, now())
    assert endorsed.ek.kind == "rsa"
    assert endorsed.vouched.manufacturer == "id:00001014"
    assert len(endorsed.vouched.path) == 3
    found = evidence(tpm, challenge)
    assert not verify(found, roots), "swtpm is a program, whatever its certificate says"
    assert tpm.handles() == 0
    with pytest.raises(QuoteRefused):
        verify(found, roots, bytes(32))


def test_the_key_is_the_tpms_own(tpm: Tpm, other: Tpm) -> None:
    """Read twice it is the same, and the same as another program makes and its manufacturer certified."""
    for kind in KINDS:
        assert tpm.ek_public(kind) == tpm.ek_public(kind) != other.ek_public(kind)
    certificate = parse_certificate(tpm.ek_certificate("rsa"))
    assert certificate.key == parse_ek(tpm.ek_public("rsa")).key
    assert certificate.key != parse_ek(other.ek_public("rsa")).key
    with tpm._persistent(0x81010001) as theirs:
        assert tpm._esys.read_public(theirs)[0].publicArea.marshal() == tpm.ek_public("rsa")


@pytest.mark.parametrize("kind", KINDS)
def test_ours_and_the_librarys_credentials_open(bare: Tpm, kind: str) -> None:
    """Differential, both ways of making one, on a TPM."""
    public, ak_name = bare.ek_public(kind), public_name(bare.create_ak())
    library_public, _ = tss.TPMT_PUBLIC.unmarshal(public)
    for secret in (b"x", NONCE):
        credential, seed = make_credential(parse_ek(public), ak_name, secret)
        theirs = [made.marshal() for made in utils.make_credential(library_public, secret, ak_name)]
        assert [len(part) for part in theirs] == [len(credential), len(seed)]
        for made in ((credential, seed), theirs):
            challenge = Challenge(ek=public, ak_name=ak_name, credential=made[0], seed=made[1])
            assert bare.activate(challenge) == secret
    assert bare.handles() == 0


def test_an_ecc_certificate_and_a_chain_in_the_tpms_memory(bare: Tpm) -> None:
    """A vendor with three levels, who left the issuers in the TPM, cut into parts; with padding."""
    root = Authority("chip vendor", since=-4000, until=4000)
    middle = Authority("chip line", root, since=-4000, until=4000)
    low = Authority("chip plant", middle, since=-4000, until=4000)
    ek = parse_ek(bare.ek_public("ecc"))
    certificate = low.ek(ek.key, since=-4000, until=4000)
    write_nv(bare, CERTIFICATE_INDEX["ecc"], certificate + b"\xff" * 700)
    chain = low.certificate + middle.certificate
    write_nv(bare, CHAIN_INDEXES.start, chain[:600])
    write_nv(bare, CHAIN_INDEXES.start + 1, chain[600:])
    shown = identity(bare)
    assert shown.chain == chain
    assert shown.eks[0].certificate.startswith(certificate), "the key with a certificate comes first"
    roots = Roots([parse_certificate(root.certificate)])
    challenge, endorsed = make_challenge(shown.encode(), roots, NONCE, now())
    assert endorsed.ek.kind == "ecc"
    assert verify(evidence(bare, challenge), roots), "a chip's root vouches for it"


def test_a_chain_that_is_too_long_for_a_tpm_is_left_out(bare: Tpm) -> None:
    """Whoever writes the TPM's memory cannot keep the host from showing who it is."""
    for number in range(3):
        write_nv(bare, CHAIN_INDEXES.start + number, b"\x30" * 2_000)
    with mock.patch("measure.tpm.identity.CHAIN_LIMIT", 5_000):
        assert identity(bare).chain == b""
    assert identity(bare).chain == b"\x30" * 6_000


def test_a_host_without_a_certificate_is_told_what_to_do(bare: Tpm, manufacturer: Manufacturer) -> None:
    assert bare.ek_certificate("rsa") == bare.ek_certificate("ecc") == bare.ek_chain() == b""
    with pytest.raises(IdentityRefused) as refused:
        make_challenge(identity(bare).encode(), manufacturer.roots(), NONCE, now())
    assert "--ak" in refused.value.cause


def test_a_key_made_of_air_is_not_believed(tpm: Tpm, other: Tpm, manufacturer: Manufacturer) -> None:
    """The host learns what its TPM opens, and tries to pass another TPM's attestation key off with it."""
    roots = manufacturer.roots()
    challenge, _ = make_challenge(identity(tpm).encode(), roots, NONCE, now())
    secret = tpm.activate(Challenge.parse(challenge))
    attest, signature = other.quote(answer(secret), {"sha256": (12, 13)})
    mixed = replace(identity(tpm), ak=other.ak_public())
    for shown in (identity(other), mixed):
        forged = Evidence(
            attest=attest,
            signature=signature,
            ak=other.ak_public(),
            boot_log=b"",
            ima=b"",
            cel=b"",
            identity=shown.encode(),
        )
        with pytest.raises(QuoteRefused):
            verify(forged, roots)


def test_a_challenge_for_somebody_else_is_refused(tpm: Tpm, other: Tpm, manufacturer: Manufacturer) -> None:
    roots = manufacturer.roots()
    for_other, _ = make_challenge(identity(other).encode(), roots, NONCE, now())
    # Another TPM's endorsement key with this one's attestation key: what a verifier would ask of a mixed identity.
    mixed = replace(identity(tpm), eks=identity(other).eks)
    for_mixed, _ = make_challenge(mixed.encode(), roots, NONCE, now())
    for challenge in (for_other, for_mixed):
        with pytest.raises(ChallengeRefused):
            open_challenge(tpm, challenge)
    # Even past our own checks the TPM does not open it.
    theirs = Challenge.parse(for_mixed)
    with pytest.raises(ChallengeRefused):
        tpm.activate(replace(theirs, ek=tpm.ek_public("rsa")))
    assert tpm.handles() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["credential", "seed"])
def test_a_changed_challenge_does_not_open(bare: Tpm, kind: str, part: str) -> None:
    public, ak_name = bare.ek_public(kind), public_name(bare.create_ak())
    credential, seed = make_credential(parse_ek(public), ak_name, NONCE)
    challenge = Challenge(ek=public, ak_name=ak_name, credential=credential, seed=seed)
    good: bytes = getattr(challenge, part)
    for at in (0, 1, 2, 3, 4, len(good) // 2, len(good) - 1):
        changed = bytearray(good)
        changed[at] ^= 1
        with pytest.raises(ChallengeRefused):
            bare.activate(replace(challenge, **{part: bytes(changed)}))
    for wrong in (b"", good[:-1], good + b"\0"):
        with pytest.raises(ChallengeRefused):
            bare.activate(replace(challenge, **{part: wrong}))
    assert bare.activate(challenge) == NONCE
    assert bare.handles() == 0


def test_evidence_without_an_identity_is_no_answer(tpm: Tpm, manufacturer: Manufacturer) -> None:
    challenge, _ = make_challenge(identity(tpm).encode(), manufacturer.roots(), NONCE, now())
    found = replace(evidence(tpm, challenge), identity=b"")
    with pytest.raises(VerifierUnready):
        verify(found, manufacturer.roots())


def test_another_makers_root_vouches_for_nobody_here(tpm: Tpm) -> None:
    stranger = Roots([parse_certificate(Authority("stranger").certificate)])
    with pytest.raises(CertificateUntrusted) as refused:
        make_challenge(identity(tpm).encode(), stranger, NONCE, now())
    assert refused.value.reason == "issuer"


def test_swtpms_root_among_chips_is_still_no_chip(tpm: Tpm, manufacturer: Manufacturer) -> None:
    with pytest.raises(CertificateUntrusted) as refused:
        make_challenge(identity(tpm).encode(), manufacturer.roots(chips=True), NONCE, now())
    assert refused.value.reason == "manufacturer"


def test_a_cleared_tpm_keeps_its_identity_and_loses_its_keys(tpm: Tpm, manufacturer: Manufacturer) -> None:
    """Endorsement and attestation key come from the endorsement seed, which a clear leaves as it is."""
    before, roots = identity(tpm), manufacturer.roots()
    policy = authorize_policy(PUBLISHER.public(), policy_ref(CHANNEL, PURPOSE_EPOCH))
    public, private = tpm.create_purpose_key(policy)
    tpm.check_key(public, private)
    storage = tpm._storage_key()
    challenge, _ = make_challenge(before.encode(), roots, NONCE, now())

    tpm._esys.clear(tss.ESYS_TR.LOCKOUT)

    assert identity(tpm) == before
    assert tpm._storage_key() != storage
    with pytest.raises(NotForThisTpm) as lost:
        tpm.check_key(public, private)
    assert "cleared" in lost.value.cause
    # The old challenge still opens, and so the host enrols anew like any other.
    assert not verify(evidence(tpm, challenge), roots)


def test_new_seeds_are_a_new_tpm(tpm: Tpm, manufacturer: Manufacturer) -> None:
    """TPM2_ChangeEPS, as a repair shop does: the certificate no longer fits, and the host says so."""
    before, roots = identity(tpm), manufacturer.roots()
    challenge, _ = make_challenge(before.encode(), roots, NONCE, now())
    tpm._esys.change_eps(tss.ESYS_TR.PLATFORM)
    after = identity(tpm)
    assert (after.ak != before.ak, after.eks[0].public != before.eks[0].public) == (True, True)
    with pytest.raises(ChallengeRefused) as refused:
        open_challenge(tpm, challenge)
    assert "attest identity" in refused.value.remedy
    assert after.eks[0].certificate == before.eks[0].certificate
    with pytest.raises(CertificateUntrusted) as unknown:
        make_challenge(after.encode(), roots, NONCE, now())
    assert unknown.value.reason == "key"


@pytest.mark.parametrize("chip_vendor", [True, False], ids=["chip", "program"])
def test_the_vendors_word_decides_the_assurance_level(bare: Tpm, chip_vendor: bool) -> None:
    """The same TPM, state and evidence: one vendor's root lies among chips, the other's among programs."""
    vendor = Authority("vendor", since=-4000, until=4000)
    certificate = vendor.ek(parse_ek(bare.ek_public("rsa")).key, since=-4000, until=4000)
    write_nv(bare, CERTIFICATE_INDEX["rsa"], certificate)
    known = [parse_certificate(vendor.certificate)]
    roots = Roots(chips=known) if chip_vendor else Roots(software=known)
    challenge, _ = make_challenge(identity(bare).encode(), roots, NONCE, now())
    records = []
    for number, (pcr, event) in enumerate(booted(ONE)):
        records.append(record(number, pcr, event, bare.banks()))
        bare.extend(pcr, event.encode())
    found = replace(evidence(bare, challenge), cel=b"".join(map(encode_record, records))).encode()
    known_as = verify_enrolled(found, roots, NONCE, now())
    expected = Expected(releases=(ONE.encode(),), anchor=None, policy=POLICY.encode())
    verdict = verify_evidence(found, expected, ak=known_as.ak, chip=known_as.chip, nonce=known_as.nonce, time=now())
    assert verdict.level == ("L1" if chip_vendor else "L0")
    # The policy allows software TPMs by name, and self-measured chips it does not.
    assert {failure.check for failure in verdict.failures()} == ({"assurance-level"} if chip_vendor else set())


def test_a_hierarchy_that_is_not_ours_to_use_is_told(bare: Tpm) -> None:
    """Somebody gave the endorsement hierarchy a password; it is neither guessed nor taken away."""
    settings = properties(bare)
    bare._esys.hierarchy_change_auth(tss.ESYS_TR.ENDORSEMENT, b"theirs")
    bare._esys.tr_set_auth(tss.ESYS_TR.ENDORSEMENT, b"")
    changed = properties(bare)
    with pytest.raises(IdentityRefused) as refused:
        identity(bare)
    assert "makes no endorsement key" in refused.value.cause
    assert properties(bare) == changed != settings
    assert bare.handles() == 0


# What is not ours is left alone.


def persistent(tpm: Tpm, first: int) -> dict[int, bytes]:
    """The name of each key or index that outlives a boot."""
    _, capability = tpm._esys.get_capability(tss.TPM2_CAP.HANDLES, first, 254)
    handles = capability.data.handles
    found = {}
    for handle in [int(handles.handle[at]) for at in range(handles.count)]:
        with tpm._persistent(handle) as resource:
            found[handle] = bytes(tpm._esys.tr_get_name(resource))
    return found


def properties(tpm: Tpm) -> dict[int, int]:
    """TPM2_PT_PERMANENT (which authorisations are set, lockout), and the lockout counters and times."""
    found = {}
    for first, count in ((0x200, 1), (0x20E, 4)):
        _, capability = tpm._esys.get_capability(tss.TPM2_CAP.TPM_PROPERTIES, first, count)
        listed = capability.data.tpmProperties
        found |= {int(listed[at].property): int(listed[at].value) for at in range(listed.count)}
    return found


def use_all(tpm: Tpm, key: object = None) -> None:
    """Everything that vmgate does with a TPM."""
    tpm.extend(VMM_PCR, b"")
    tpm.quote(NONCE, {"sha256": (12, 13)})
    policy = authorize_policy(PUBLISHER.public(), policy_ref(CHANNEL, PURPOSE_EPOCH))
    public, private = tpm.create_purpose_key(policy)
    tpm.certify(public, private, NONCE)
    tpm.seal(b"secret", policy)
    tpm.counter()
    signing = tpm.create(templates.signing_public(), pin=b"1234")
    tpm.sign_digest(*signing, b"1234", bytes(32))
    for kind in KINDS:
        ek, ak_name = tpm.ek_public(kind), public_name(tpm.ak_public())
        credential, seed = make_credential(parse_ek(ek), ak_name, NONCE)
        assert tpm.activate(Challenge(ek=ek, ak_name=ak_name, credential=credential, seed=seed)) == NONCE
    Identity.parse(identity(tpm).encode())


def test_only_our_own_handles_are_added_and_nothing_else_changes(tpm: Tpm) -> None:
    write_nv(tpm, 0x01500020, b"somebody else's")
    theirs = tpm._esys.create_primary(
        tss.TPM2B_SENSITIVE_CREATE(), tss.TPM2B_PUBLIC(publicArea=tss.TPMT_PUBLIC.unmarshal(template("ecc"))[0]),
        tss.ESYS_TR.ENDORSEMENT,
    )[0]  # fmt: skip
    tpm._esys.evict_control(tss.ESYS_TR.OWNER, theirs, 0x81010002)
    tpm._esys.flush_context(theirs)
    keys, indexes, settings = persistent(tpm, 0x81000000), persistent(tpm, 0x01000000), properties(tpm)
    assert 0x81010002 in keys
    assert {0x01500020, CERTIFICATE_INDEX["rsa"]} <= indexes.keys()
    use_all(tpm)
    with pytest.raises(ChallengeRefused):
        tpm.activate(Challenge(ek=tpm.ek_public("rsa"), ak_name=public_name(tpm.ak_public()), credential=b"", seed=b""))
    after_keys, after_indexes = persistent(tpm, 0x81000000), persistent(tpm, 0x01000000)
    assert after_keys.items() >= keys.items()
    assert after_indexes.items() >= indexes.items()
    assert after_keys.keys() - keys.keys() == {templates.SRK_HANDLE, templates.AK_HANDLE}
    assert after_indexes.keys() - indexes.keys() == {templates.COUNTER_INDEX}
    assert properties(tpm) == settings
    assert tpm.handles() == 0


def test_a_wrong_challenge_counts_towards_no_lockout(tpm: Tpm) -> None:
    settings = properties(tpm)
    public, ak_name = tpm.ek_public("rsa"), public_name(tpm.create_ak())
    credential, seed = make_credential(parse_ek(public), ak_name, NONCE)
    for _ in range(40):
        wrong = credential[:-1] + bytes([credential[-1] ^ 1])
        with pytest.raises(ChallengeRefused):
            tpm.activate(Challenge(ek=public, ak_name=ak_name, credential=wrong, seed=seed))
    assert properties(tpm) == settings


def test_three_slots_are_enough_with_one_taken(tpm: Tpm) -> None:
    """No resource manager between us, and somebody else's object in one of the three slots."""
    held = tpm._esys.create_primary(
        tss.TPM2B_SENSITIVE_CREATE(), tss.TPM2B_PUBLIC(publicArea=tss.TPMT_PUBLIC.unmarshal(template("ecc"))[0]),
        tss.ESYS_TR.ENDORSEMENT,
    )[0]  # fmt: skip
    _, capability = tpm._esys.get_capability(tss.TPM2_CAP.TPM_PROPERTIES, 0x106 + 8, 1)  # TPM2_PT_HR_TRANSIENT_MIN
    assert int(capability.data.tpmProperties[0].value) == 3
    for pcr, event in booted(ONE):
        tpm.extend(pcr, event.encode())
    sealed_open(tpm)
    use_all(tpm)
    assert tpm.handles() == 1
    tpm._esys.flush_context(held)


def sealed_open(tpm: Tpm) -> None:
    """Seal under the release's policy, and open again."""
    from documents.host_state import SealedKey
    from measure.policy import seal_policy

    counter = tpm.counter()
    key = PUBLISHER.public()
    auth_policy = seal_policy(key, CHANNEL, epoch=1, counter=counter, local_pcrs={})
    public, private = tpm.seal(b"host key", auth_policy)
    sealed = SealedKey(
        public=public, private=private, channel=CHANNEL, epoch=1, counter=counter, key=key, local_pcrs=()
    )
    policy = next(found for found in ONE.policies if found.epoch == 1)
    assert tpm.unseal(sealed, policy) == b"host key"


def many_quotes(tpm: Tpm, count: int) -> None:
    tpm.create_ak()
    before = handles(tpm)
    for _ in range(count):
        tpm.quote(NONCE, {"sha256": (12, 13)})
    assert handles(tpm) == before
    assert before["loaded"] == before["saved"] == before["transient"] == []


def handles(tpm: Tpm) -> dict[str, list[int]]:
    """Every handle that the TPM knows, by kind."""
    kinds = {"nv": 1, "loaded": 2, "saved": 3, "transient": 0x80, "persistent": 0x81}
    found = {}
    for kind, number in kinds.items():
        _, capability = tpm._esys.get_capability(tss.TPM2_CAP.HANDLES, number << 24, 254)
        listed = capability.data.handles
        found[kind] = [int(listed.handle[at]) for at in range(listed.count)]
    return found


def test_quotes_leave_no_handle(tpm: Tpm) -> None:
    many_quotes(tpm, 300)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_ten_thousand_quotes_leave_no_handle(tpm: Tpm) -> None:
    many_quotes(tpm, 10_000)
