# SPDX-License-Identifier: Apache-2.0
"""Copies of VM keys for a recovery key: open with its private half, for their VM, and in no other way."""

from __future__ import annotations

import base64
import hmac
import json
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from documents.host_state import WrappedVmKey
from keys import recovery
from keys.errors import CopyRefused, PublicKeyMalformed, RecoveryKeyOther, RecoveryKeyUnknown

OURS = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
PUBLIC = recovery.recovery_key(OURS, 7)
DESK = "3e2d9c1a-5b7f-4d21-8c3e-0123456789ab"
MAIL = "3e2d9c1a-5b7f-4d21-8c3e-0123456789ac"
KEY = bytes(range(32))
COPY = recovery.wrap(PUBLIC, DESK, KEY, os.urandom)


def test_a_copy_opens_with_the_private_half_also_after_a_way_over_the_disk() -> None:
    assert recovery.unwrap(OURS, WrappedVmKey.parse(COPY.encode()), DESK) == KEY
    assert KEY not in COPY.encode()
    assert recovery.wrap(PUBLIC, DESK, KEY, os.urandom).sender != COPY.sender, "each is made by a fresh key"


def test_a_copy_opens_by_hand_as_the_guide_says() -> None:
    """docs/guide/formats.md, without our own code: whoever has the file is not bound to this program."""
    told = json.loads(COPY.encode())
    sender, check = base64.b64decode(told["sender"]), base64.b64decode(told["check"])
    shared = OURS.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
    info = b"vmgate recovery copy 1\0" + bytes.fromhex(told["key"]) + told["uuid"].encode() + sender + check
    # HKDF (RFC 5869) for one block of SHA-256.
    extracted = hmac.digest(bytes(32), shared, "sha256")
    secret = hmac.digest(extracted, info + b"\1", "sha256")
    nonce, ciphertext = base64.b64decode(told["nonce"]), base64.b64decode(told["ciphertext"])
    assert AESGCM(secret).decrypt(nonce, ciphertext, DESK.encode()) == KEY
    assert check == hmac.digest(KEY, b"vmgate VM key check 1\0" + DESK.encode(), "sha256")


def test_another_recovery_key_opens_nothing_whatever_the_copy_says() -> None:
    with pytest.raises(CopyRefused, match="not for this recovery key"):
        recovery.unwrap(OTHER, COPY, DESK)
    with pytest.raises(CopyRefused, match="was changed"):
        recovery.unwrap(OTHER, replace(COPY, key=recovery.recovery_key(OTHER, 0).id), DESK)


def test_a_copy_is_of_one_vm() -> None:
    for copy in (COPY, replace(COPY, uuid=MAIL)):
        with pytest.raises(CopyRefused, match="another VM's"):
            recovery.unwrap(OURS, copy, MAIL)


def test_a_key_wrapped_by_the_tpm_is_no_copy() -> None:
    with pytest.raises(CopyRefused):
        recovery.unwrap(OURS, replace(COPY, guardian="tpm"), DESK)


@settings(max_examples=60)
@given(name=st.sampled_from(["nonce", "ciphertext", "sender", "check"]), at=st.integers(0, 31), bit=st.integers(0, 7))
def test_a_changed_copy_opens_nothing(name: str, at: int, bit: int) -> None:
    old = getattr(COPY, name)
    at %= len(old)
    new = old[:at] + bytes([old[at] ^ 1 << bit]) + old[at + 1 :]
    with pytest.raises(CopyRefused):
        recovery.unwrap(OURS, replace(COPY, **{name: new}), DESK)


@pytest.mark.parametrize("ciphertext", [b"", b"short", bytes(200)], ids=len)
def test_a_copy_of_another_length_opens_nothing(ciphertext: bytes) -> None:
    with pytest.raises(CopyRefused):
        recovery.unwrap(OURS, replace(COPY, ciphertext=ciphertext), DESK)


def test_the_file_of_another_site_is_told_before_anything_is_opened() -> None:
    recovery.require_same(OURS, PUBLIC.id)
    with pytest.raises(RecoveryKeyOther):
        recovery.require_same(OTHER, PUBLIC.id)


def test_only_what_was_installed_under_the_host_key_is_known() -> None:
    host, thief = os.urandom(32), os.urandom(32)
    installed = recovery.seal(PUBLIC, host)
    recovery.verify_seal(installed, host)
    for found in (
        PUBLIC,
        recovery.seal(PUBLIC, thief),
        replace(recovery.recovery_key(OTHER, 7), seal=installed.seal),
        replace(installed, created=8),
    ):
        with pytest.raises(RecoveryKeyUnknown):
            recovery.verify_seal(found, host)


def test_only_keys_of_the_curve_are_taken() -> None:
    def public(key: ec.EllipticCurve) -> bytes:
        return (
            ec.generate_private_key(key)
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    for bad in (b"", b"no key", public(ec.SECP384R1())):
        with pytest.raises(PublicKeyMalformed):
            recovery.wrap(replace(PUBLIC, public=bad), DESK, KEY, os.urandom)
        with pytest.raises(PublicKeyMalformed):
            recovery.seal(replace(PUBLIC, public=bad), bytes(32))
