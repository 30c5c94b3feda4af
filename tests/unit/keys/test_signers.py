# SPDX-License-Identifier: Apache-2.0
"""Roles, signers of TUF metadata, and the signer of TPM policies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import KeyFileMalformed, KeysError, NoSuchKey, SigningUnsupported, UnknownSigner
from keys.files import create_key
from keys.policy_signer import KeyPolicySigner, open_policy_signers
from keys.roles import P256, P384, ROLES, key_names, releases_role, role
from keys.signers import open_role, open_signer, require_signing
from keys.tpm_policy import measured

SECRET = b"secret"


def test_the_table_is_what_the_architecture_says() -> None:
    assert {name: (r.threshold, r.keys, r.curve, r.offline) for name, r in ROLES.items()} == {
        "root": (2, 3, P384, True),
        "targets": (2, 3, P384, True),
        "releases": (1, 1, P384, True),
        "assignments": (1, 1, P256, False),
        "snapshot": (1, 1, P256, False),
        "timestamp": (1, 1, P256, False),
        "tpm-policy": (1, 1, P256, True),
    }


def test_a_channel_has_a_role_of_its_own() -> None:
    assert releases_role("platform") == "releases-platform"
    assert role("releases-platform") is ROLES["releases"]
    assert key_names("releases-platform") == ("releases-platform-1",)
    assert key_names("root") == ("root-1", "root-2", "root-3")


@pytest.mark.parametrize("name", ["", "Platform", "a/b", "..", "a" * 64, "a\n"])
def test_what_is_no_channel_has_no_role(name: str) -> None:
    with pytest.raises(ValueError, match="channel"):
        releases_role(name)


@pytest.mark.parametrize("name", ["", "releases", "Root", "mirrors"])
def test_what_is_no_role_is_a_bug(name: str) -> None:
    with pytest.raises(ValueError, match="not a role"):
        role(name)


@pytest.mark.parametrize(("curve", "scheme"), [(P256, "ecdsa-sha2-nistp256"), (P384, "ecdsa-sha2-nistp384")])
def test_a_signer_signs_what_its_public_half_verifies(tmp_path: Path, curve: str, scheme: str) -> None:
    create_key(tmp_path / "key.pem", curve, SECRET)
    signer = open_signer(f"file:{tmp_path}/key.pem", curve, SECRET)
    signer.public_key.verify_signature(signer.sign(b"data"), b"data")
    assert (signer.public_key.keytype, signer.public_key.scheme) == ("ecdsa", scheme)


@pytest.mark.parametrize("uri", ["", "key.pem", "/key.pem", "file:key.pem", "file2:/key.pem", "https://a/key.pem"])
def test_an_unknown_address_is_refused(uri: str) -> None:
    with pytest.raises(UnknownSigner):
        open_signer(uri, P256, SECRET)


def test_a_role_opens_with_as_many_keys_as_its_threshold(tmp_path: Path) -> None:
    for name in ("root-2", "root-3"):
        create_key(tmp_path / f"{name}.pem", P384, SECRET)
    assert len(open_role("root", tmp_path, SECRET)) == 2
    (tmp_path / "root-3.pem").unlink()
    with pytest.raises(NoSuchKey, match="root-1"):
        open_role("root", tmp_path, SECRET)


def test_a_missing_library_is_told_and_not_taken_for_unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    require_signing()
    monkeypatch.setattr("securesystemslib.signer._crypto_signer.CRYPTO_IMPORT_ERROR", "gone")
    with pytest.raises(SigningUnsupported, match="gone"):
        require_signing()


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> KeyPolicySigner:
    folder = tmp_path_factory.mktemp("keys")
    create_key(folder / "tpm-policy-1.pem", P256, SECRET)
    return open_policy_signers(folder, SECRET)[0]


class TestPolicySigner:
    @given(value=st.binary(min_size=32, max_size=32).filter(measured), epoch=st.integers(0, 2**31))
    def test_it_signs_what_its_public_half_verifies(self, signer: KeyPolicySigner, value: bytes, epoch: int) -> None:
        signature = signer.sign({13: value.hex()}, "platform", epoch)
        assert len(signature) == 64
        # Computed here by itself: TPM2_PolicyPCR over PCR 13 of the SHA-256 bank.
        selection = bytes.fromhex("0000017f" + "00000001" + "000b" + "03" + "002000")
        approved = hashlib.sha256(bytes(32) + selection + hashlib.sha256(value).digest()).digest()
        ref = hashlib.sha256(b'{"channel":"platform","epoch":%d,"type":"vmgate.policy-ref"}' % epoch).digest()
        _verify(signer, signature, approved + ref)
        with pytest.raises(InvalidSignature):
            _verify(signer, signature, ref + approved)

    @pytest.mark.parametrize(
        "pcrs",
        [{}, {11: "11" * 32}, {7: "11" * 32, 13: "11" * 32}, {13: "11" * 31}, {13: "11" * 33}, {13: "no"}],
        ids=["none", "only 11", "7", "short", "long", "no digest"],
    )
    def test_it_signs_for_the_named_pcrs_only(self, signer: KeyPolicySigner, pcrs: dict[int, str]) -> None:
        with pytest.raises(ValueError, match=r"PCR|32 bytes|hexadecimal"):
            signer.sign(pcrs, "platform", 1)

    @pytest.mark.parametrize("empty", ["00" * 32, "ff" * 32])
    @pytest.mark.parametrize("index", [11, 13])
    def test_it_never_signs_for_an_empty_pcr(self, signer: KeyPolicySigner, index: int, empty: str) -> None:
        with pytest.raises(ValueError, match="never signed"):
            signer.sign({11: "11" * 32, 13: "11" * 32} | {index: empty}, "platform", 1)

    def test_its_key_is_on_p256(self, tmp_path: Path) -> None:
        create_key(tmp_path / "tpm-policy-1.pem", P384, SECRET)
        with pytest.raises(KeyFileMalformed) as caught:
            open_policy_signers(tmp_path, SECRET)
        assert isinstance(caught.value, KeysError)


def _verify(signer: KeyPolicySigner, signature: bytes, message: bytes) -> None:
    public = signer.public()
    numbers = ec.EllipticCurvePublicNumbers(int(public.x, 16), int(public.y, 16), ec.SECP256R1())
    encoded = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    numbers.public_key().verify(encoded, message, ec.ECDSA(hashes.SHA256()))
