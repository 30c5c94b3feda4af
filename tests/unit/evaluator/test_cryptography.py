# SPDX-License-Identifier: Apache-2.0
"""Known answers for the algorithms that vmgate uses, from the libraries by which it does (FCS_COP.1, FCS_CKM.1).

The libraries are not ours; these tests show that the ones in the environment compute what the standards say, and that
an error in key, message or signature is a no. They are no validation.
"""

from __future__ import annotations

import ast
import hashlib
import hmac
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    "vmgate", "publisher", "agent", "fleet", "updater", "measure", "hypervisor", "keys", "content", "documents"
)  # fmt: skip

# FIPS 180-4 examples: "abc", and a million times "a".
HASHES = [
    ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("sha256", b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    (
        "sha384", b"abc",
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    ),
    (
        "sha512", b"a" * 1_000_000,
        "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb"  # noqa: ISC004
        "de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b",
    ),
]  # fmt: skip
# RFC 4231, test case 2.
HMACS = [
    ("sha256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ("sha384", "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"),
]
# RFC 6979, A.2.5 and A.2.6, message "sample".
SIGNATURES = [
    (
        ec.SECP256R1(), hashes.SHA256(),
        "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6",
        "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299",
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    ),
    (
        ec.SECP384R1(), hashes.SHA384(),
        "EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13",
        "8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720",
        "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46",
        "99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8",
    ),
]  # fmt: skip
# McGrew and Viega, GCM test case 16 (AES-256).
KEY = bytes.fromhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
NONCE = bytes.fromhex("cafebabefacedbaddecaf888")
PLAIN = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
BESIDE = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
SEALED = bytes.fromhex(
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    "76fc6ece0f4e1768cddf8853bb2d551b"
)


@pytest.mark.parametrize(("name", "message", "digest"), HASHES)
def test_hashes_give_the_known_answers(name: str, message: bytes, digest: str) -> None:
    assert hashlib.new(name, message).hexdigest() == digest


@pytest.mark.parametrize(("name", "tag"), HMACS)
def test_keyed_hashes_give_the_known_answers(name: str, tag: str) -> None:
    assert hmac.new(b"Jefe", b"what do ya want for nothing?", name).hexdigest() == tag


@pytest.mark.parametrize(("curve", "digest", "x", "y", "r", "s"), SIGNATURES, ids=["P-256", "P-384"])
def test_signatures_verify_and_any_error_in_them_is_refused(
    curve: ec.EllipticCurve, digest: hashes.HashAlgorithm, x: str, y: str, r: str, s: str
) -> None:
    key = ec.EllipticCurvePublicNumbers(int(x, 16), int(y, 16), curve).public_key()
    signature = utils.encode_dss_signature(int(r, 16), int(s, 16))
    key.verify(signature, b"sample", ec.ECDSA(digest))
    other = ec.generate_private_key(curve).public_key()
    damaged = [
        utils.encode_dss_signature(int(r, 16) ^ 1, int(s, 16)),
        utils.encode_dss_signature(int(r, 16), int(s, 16) ^ 1),
    ]
    attempts = [(other, signature, b"sample"), (key, signature, b"Sample"), *((key, one, b"sample") for one in damaged)]
    for verifier, given, message in attempts:
        with pytest.raises(InvalidSignature):
            verifier.verify(given, message, ec.ECDSA(digest))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["P-256", "P-384"])
def test_a_public_key_that_is_no_point_of_its_curve_is_refused(curve: ec.EllipticCurve) -> None:
    """The evaluator's ten keys, five of them corrupted (FCS_CKM.1)."""
    for number in range(10):
        point = ec.generate_private_key(curve).public_key()
        encoded = bytearray(
            point.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        )
        if number % 2:
            encoded[-1 - number] ^= 1
            with pytest.raises(ValueError, match=r"."):
                ec.EllipticCurvePublicKey.from_encoded_point(curve, bytes(encoded))
        else:
            assert ec.EllipticCurvePublicKey.from_encoded_point(curve, bytes(encoded)) == point


def test_encryption_gives_the_known_answer_and_a_changed_byte_opens_nothing() -> None:
    cipher = AESGCM(KEY)
    assert cipher.encrypt(NONCE, PLAIN, BESIDE) == SEALED
    assert cipher.decrypt(NONCE, SEALED, BESIDE) == PLAIN
    for at in (0, len(SEALED) - 1):
        damaged = bytearray(SEALED)
        damaged[at] ^= 1
        with pytest.raises(InvalidTag):
            cipher.decrypt(NONCE, bytes(damaged), BESIDE)
    with pytest.raises(InvalidTag):
        cipher.decrypt(NONCE, SEALED, BESIDE + b"x")


def generators(source: str) -> set[str]:
    """Modules and functions in a source that draw what others can foresee."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "random"}
        elif isinstance(node, ast.ImportFrom) and node.module == "random":
            found |= {alias.name for alias in node.names if alias.name != "SystemRandom"} or set()
    return found


def test_nothing_is_drawn_from_a_generator_that_others_can_foresee() -> None:
    """FCS_RBG_EXT.1: what is drawn comes from the kernel, OpenSSL or the TPM. Python's Mersenne twister is none."""
    assert generators("import random") == {"random"}
    assert generators("from random import randbytes") == {"randbytes"}
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if drawn := generators(path.read_text()):
                found[str(path.relative_to(ROOT))] = drawn
    assert not found
