# SPDX-License-Identifier: Apache-2.0
"""Credentials without a TPM: who can open them, what they are worth to others, and which keys are let through."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import replace
from unittest import mock

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from documents.identity import EndorsementKey, Identity
from lab.paper_tpm import EccAk, RsaAk
from lab.vendor import NOW, Authority, ecc_key, rsa_key
from measure.certificate import parse_certificate
from measure.credential import make_credential, wrap
from measure.ek_roots import Roots
from measure.endorsement import EK_POLICY, KINDS, parse_ek, template
from measure.errors import CertificateUntrusted, IdentityRefused
from measure.proof import answer, verify_identity
from measure.templates import attestation_public, public_name, sized

ROOT = Authority("vendor")
ROOTS = Roots([parse_certificate(ROOT.certificate)])
AK = EccAk(attributes=0x00050472)
NONCE = bytes(range(32))


def ek_public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """TPMT_PUBLIC of an endorsement key whose private half is known here."""
    if isinstance(key, rsa.RSAPrivateKey):
        head = template("rsa").removesuffix(sized(bytes(256)))
        return head + sized(key.public_key().public_numbers().n.to_bytes(256, "big"))
    numbers = key.public_key().public_numbers()
    head = template("ecc").removesuffix(sized(bytes(32)) * 2)
    return head + sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))


KEYS = {"rsa": rsa_key(7), "ecc": ecc_key(7)}


def identity(kind: str = "ecc", **changes: bytes) -> Identity:
    """A host whose endorsement key the vendor knows."""
    key = KEYS[kind]
    ek = EndorsementKey(public=ek_public(key), certificate=ROOT.ek(key.public_key()))
    return replace(Identity(eks=(ek,), chain=b"", ak=AK.public), **changes)  # type: ignore[arg-type]


def opened(kind: str, name: bytes, credential: bytes, seed: bytes) -> bytes:
    """What TPM2_ActivateCredential does, written a second time; None of it shares code with the making."""
    key = KEYS[kind]
    if isinstance(key, rsa.RSAPrivateKey):
        sha = hashes.SHA256()
        oaep = padding.OAEP(mgf=padding.MGF1(sha), algorithm=sha, label=b"IDENTITY\0")
        secret_seed = key.decrypt(seed[2:], oaep)
    else:
        x, y = seed[4:36], seed[38:70]
        point = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        mine = key.public_key().public_numbers().x.to_bytes(32, "big")
        shared = key.exchange(ec.ECDH(), point.public_key())
        secret_seed = hashlib.sha256(b"\0\0\0\1" + shared + b"IDENTITY\0" + x + mine).digest()
    check, encrypted = credential[4:36], credential[36:]
    integrity = hmac.digest(secret_seed, b"\0\0\0\1INTEGRITY\0\0\0\1\0", "sha256")
    if hmac.digest(integrity, encrypted + name, "sha256") != check:
        raise ValueError("check value")
    storage = hmac.digest(secret_seed, b"\0\0\0\1STORAGE\0" + name + b"\0\0\0\x80", "sha256")[:16]
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    plain = Cipher(algorithms.AES(storage), CFB(bytes(16))).decryptor().update(encrypted)
    assert int.from_bytes(plain[:2], "big") == len(plain) - 2
    return plain[2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 13, 14, 15, 31, 32])
def test_a_credential_opens_for_both_keys_together(kind: str, size: int) -> None:
    ek, name, secret = parse_ek(ek_public(KEYS[kind])), public_name(AK.public), os.urandom(size)
    credential, seed = make_credential(ek, name, secret)
    assert opened(kind, name, credential, seed) == secret
    with pytest.raises(ValueError, match="check value"):
        opened(kind, public_name(b"another key"), credential, seed)
    assert make_credential(ek, name, secret) != (credential, seed), "a seed serves once"


@pytest.mark.parametrize("size", [0, 33])
def test_a_credential_holds_one_digest(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 32"):
        make_credential(parse_ek(ek_public(KEYS["ecc"])), public_name(AK.public), bytes(size))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=34, max_size=34), st.binary(min_size=1, max_size=32))
def test_the_wrapping_is_the_tpm_librarys(seed: bytes, name: bytes, secret: bytes) -> None:
    """Differential: the library's own making, with the seed that it would have drawn."""
    from tpm2_pytss import TPMT_PUBLIC, utils

    public, _ = TPMT_PUBLIC.unmarshal(ek_public(KEYS["ecc"]))
    with mock.patch.object(utils, "_generate_seed", return_value=(seed, b"")):
        theirs, _ = utils.make_credential(public, secret, name)
    assert sized(wrap(seed, name, secret)) == theirs.marshal()


def test_the_policy_of_the_template_is_the_profiles() -> None:
    """TCG EK Credential Profile, B.3: PolicyA for SHA-256."""
    assert EK_POLICY.hex() == "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
    assert len(template("rsa")) == 314
    assert len(template("ecc")) == 122


@pytest.mark.parametrize("kind", KINDS)
def test_a_challenge_is_worth_something_to_its_host_alone(kind: str) -> None:
    endorsed = verify_identity(identity(kind), ROOTS, NOW)
    challenge = endorsed.challenge(NONCE)
    secret = opened(kind, endorsed.ak_name, challenge.credential, challenge.seed)
    assert answer(secret) == endorsed.answer(NONCE)
    # The host learns its secret. With that it can answer for no other attestation key, and for no other TPM.
    other_ak = verify_identity(identity(kind, ak=RsaAk(attributes=0x00050472).public), ROOTS, NOW)
    other_ek = verify_identity(identity("rsa" if kind == "ecc" else "ecc"), ROOTS, NOW)
    answers = {found.answer(NONCE) for found in (endorsed, other_ak, other_ek)}
    assert len(answers) == 3
    assert NONCE not in {secret, answer(secret)}
    # Nor later.
    assert endorsed.answer(bytes(32)) != endorsed.answer(NONCE)


def test_the_bytes_of_the_proof() -> None:
    """As docs/guide/formats.md has them."""
    endorsed = verify_identity(identity(), ROOTS, NOW)
    ek_name, ak_name = public_name(ek_public(KEYS["ecc"])), public_name(AK.public)
    secret = hashlib.sha256(b"vmgate credential\0" + NONCE + ek_name + ak_name).digest()
    assert endorsed.answer(NONCE) == hashlib.sha256(b"vmgate answer\0" + secret).digest()
    assert (len(ek_name), len(ak_name)) == (34, 34)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_nonce_has_its_size(size: int) -> None:
    endorsed = verify_identity(identity(), ROOTS, NOW)
    for use in (endorsed.answer, endorsed.challenge):
        with pytest.raises(IdentityRefused):
            use(bytes(size))


def test_a_certificate_of_another_tpm_is_refused() -> None:
    """Certificates are public: whoever shows one must have its key."""
    borrowed = ROOT.ek(ecc_key(8).public_key())
    ek = EndorsementKey(public=ek_public(KEYS["ecc"]), certificate=borrowed)
    with pytest.raises(CertificateUntrusted) as refused:
        verify_identity(replace(identity(), eks=(ek,)), ROOTS, NOW)
    assert refused.value.reason == "key"


def test_the_second_key_may_be_the_one_that_is_known() -> None:
    (known,) = identity("ecc").eks
    bare = EndorsementKey(public=ek_public(KEYS["rsa"]), certificate=b"")
    assert verify_identity(replace(identity(), eks=(bare, known)), ROOTS, NOW).ek.kind == "ecc"
    unknown = EndorsementKey(public=bare.public, certificate=Authority("stranger").ek(KEYS["rsa"].public_key()))
    with pytest.raises(CertificateUntrusted):
        verify_identity(replace(identity(), eks=(bare, unknown)), ROOTS, NOW)
    for eks in ((), (bare,)):
        with pytest.raises(IdentityRefused):
            verify_identity(replace(identity(), eks=eks), ROOTS, NOW)


@pytest.mark.parametrize(
    "ak",
    [
        b"",
        EccAk(attributes=0x00040472).public,  # not restricted: it would sign what looks like a quote
        EccAk(attributes=0x00050470).public,  # not fixed to its TPM: it can be loaded from outside
        EccAk(attributes=0x00070472).public,  # decrypts as well
        ek_public(KEYS["ecc"]),
        attestation_public() + b"x",
    ],
    ids=["nothing", "unrestricted", "movable", "decrypting", "endorsement", "longer"],
)
def test_only_a_key_that_a_tpm_cannot_take_from_outside_is_asked_about(ak: bytes) -> None:
    with pytest.raises(IdentityRefused):
        verify_identity(identity(ak=ak), ROOTS, NOW)


@pytest.mark.parametrize("kind", KINDS)
def test_an_endorsement_key_differs_from_the_template_by_its_key_alone(kind: str) -> None:
    public = ek_public(KEYS[kind])
    assert parse_ek(public).key == KEYS[kind].public_key()
    head = len(template(kind)) - (258 if kind == "rsa" else 68)
    for at in range(head):
        changed = bytearray(public)
        changed[at] ^= 1
        with pytest.raises(IdentityRefused):
            parse_ek(bytes(changed))
    for end in range(len(public)):
        with pytest.raises(IdentityRefused):
            parse_ek(public[:end])
    even = public[:-1] + bytes([public[-1] & 0xFE])
    for wrong in (public + b"\0", template(kind), b"", *([even] if kind == "rsa" else [])):
        with pytest.raises(IdentityRefused):
            parse_ek(wrong)


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_an_endorsement_key(untrusted: bytes) -> None:
    for head in (b"", template("rsa")[:-258], template("ecc")[:-68]):
        try:
            parse_ek(head + untrusted)
        except IdentityRefused:
            continue
