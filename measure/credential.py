# SPDX-License-Identifier: Apache-2.0
"""MakeCredential: a secret that only one TPM can open, and only while it holds a certain other key.

Source: TPM 2.0 Library Part 1, clauses 24 (credential protection), 11.4.10 (KDFa and KDFe), annexes B.10.4 and C.6.1
(encrypted seeds); Part 2, clauses 11.4.33 and 12.4. With ``cryptography`` alone: a verifier has no TPM.

What ``TPM2_ActivateCredential`` demands makes the proof: the TPM must hold the endorsement key, to find the seed, and a
key of the given name, without which neither the wrapping's key nor its check value comes out right. That such a key is
restricted and made inside is for the caller to see, in the public area that gives the name.

This module says nothing about whose endorsement key it is.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from measure.endorsement import EkPublic
from measure.templates import sized

LABEL = b"IDENTITY\0"
SECRET_LIMIT = 32
"""Most bytes of a secret: the digest size of the endorsement key's name (Part 3, TPM2_MakeCredential)."""


def make_credential(ek: EkPublic, name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Wrap a secret.

    Args:
        ek: the endorsement key of the TPM that shall open it.
        name: of the key that this TPM must hold besides, 34 bytes.
        secret: 1 to 32 bytes.

    Returns:
        TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
    """
    if not 1 <= len(secret) <= SECRET_LIMIT:
        raise ValueError("a credential holds 1 to 32 bytes")
    seed, encrypted_seed = rsa_seed(ek.key) if isinstance(ek.key, rsa.RSAPublicKey) else ecc_seed(ek.key)
    return sized(wrap(seed, name, secret)), sized(encrypted_seed)


def wrap(seed: bytes, name: bytes, secret: bytes) -> bytes:
    """The inside of a TPM2B_ID_OBJECT: check value and encrypted secret."""
    encrypted = _aes_cfb(_kdfa(seed, b"STORAGE", name, 128), sized(secret))
    check = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 256), encrypted + name, "sha256")
    return sized(check) + encrypted


def rsa_seed(key: rsa.RSAPublicKey) -> tuple[bytes, bytes]:
    """A new seed, and the same for the owner of the key alone (RSAES-OAEP)."""
    seed = secrets.token_bytes(32)
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=LABEL)
    return seed, key.encrypt(seed, oaep)


def ecc_seed(key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    """A new seed, and the ephemeral point from which the owner of the key derives it (one-pass Diffie-Hellman)."""
    ephemeral = ec.generate_private_key(key.curve)
    numbers = ephemeral.public_key().public_numbers()
    x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
    shared = ephemeral.exchange(ec.ECDH(), key)
    return _kdfe(shared, x, key.public_numbers().x.to_bytes(32, "big")), sized(x) + sized(y)


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """One block of it: at most 256 bits."""
    message = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits)
    return hmac.digest(key, message, "sha256")[: bits // 8]


def _kdfe(shared: bytes, ephemeral_x: bytes, static_x: bytes) -> bytes:
    return hashlib.sha256(struct.pack(">I", 1) + shared + LABEL + ephemeral_x + static_x).digest()


def _aes_cfb(key: bytes, plain: bytes) -> bytes:
    """AES in CFB mode with a feedback of whole blocks and an initial value of zeros; the library retires its own."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block at a time, chained here
    last, encrypted = bytes(16), b""
    for at in range(0, len(plain), 16):
        part, pad = plain[at : at + 16], block.update(last)
        last = bytes(a ^ b for a, b in zip(part, pad, strict=False))
        encrypted += last
    return encrypted
