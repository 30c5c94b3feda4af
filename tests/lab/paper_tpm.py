# SPDX-License-Identifier: Apache-2.0
"""Quotes made with pen and paper: TPM structures written by hand and signed in memory, to be able to get each wrong.

Real quotes come from swtpm in the integration tests.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from measure.pcr import ALGORITHMS

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
AK_ATTRIBUTES = 0x00050072


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


@cache
def _rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


class EccAk:
    """An ECC attestation key; each field can be chosen."""

    def __init__(self, *, attributes: int = AK_ATTRIBUTES, alg: str = "sha256", scheme: int = 0x0018) -> None:
        self._key = ec.derive_private_key(20261123, ec.SECP256R1())
        self._alg = alg
        numbers = self._key.public_key().public_numbers()
        self.public = (
            struct.pack(">HHI", 0x0023, 0x000B, attributes)
            + sized(b"")
            + struct.pack(">HHHHH", 0x0010, scheme, ALGORITHMS[alg], 0x0003, 0x0010)
            + sized(numbers.x.to_bytes(32, "big"))
            + sized(numbers.y.to_bytes(32, "big"))
        )

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(HASHES[self._alg])))
        head = struct.pack(">HH", 0x0018, ALGORITHMS[self._alg])
        return head + sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))


class RsaAk:
    """An RSA attestation key with PKCS #1 v1.5 or PSS."""

    def __init__(self, *, scheme: int = 0x0014, bits: int = 2048, attributes: int = AK_ATTRIBUTES) -> None:
        self._key, self._scheme = _rsa_key(bits), scheme
        modulus = self._key.public_key().public_numbers().n
        self.public = (
            struct.pack(">HHI", 0x0001, 0x000B, attributes)
            + sized(b"")
            + struct.pack(">HHHHI", 0x0010, scheme, 0x000B, bits, 0)
            + sized(modulus.to_bytes(bits // 8, "big"))
        )

    def sign(self, message: bytes) -> bytes:
        sha = hashes.SHA256()
        if self._scheme == 0x0014:
            value = self._key.sign(message, padding.PKCS1v15(), sha)
        else:
            value = self._key.sign(message, padding.PSS(padding.MGF1(sha), padding.PSS.DIGEST_LENGTH), sha)
        return struct.pack(">HH", self._scheme, 0x000B) + sized(value)


def selection(banks: Mapping[str, Collection[int]]) -> bytes:
    """TPML_PCR_SELECTION."""
    out = struct.pack(">I", len(banks))
    for alg, indexes in banks.items():
        bits = sum(1 << index for index in indexes)
        out += struct.pack(">HB", ALGORITHMS[alg], 3) + bits.to_bytes(3, "little")
    return out


def attest(
    nonce: bytes,
    values: Mapping[str, Mapping[int, bytes]],
    *,
    magic: int = 0xFF544347,
    kind: int = 0x8018,
    safe: int = 1,
    alg: str = "sha256",
    chosen: bytes | None = None,
    counters: tuple[int, int, int] = (5000, 3, 1),
) -> bytes:
    """TPMS_ATTEST of a quote over these values, by bank and index. ``counters``: clock, resets, restarts."""
    message = b"".join(pcrs[index] for pcrs in values.values() for index in sorted(pcrs))
    return (
        struct.pack(">IH", magic, kind)
        + sized(b"\x00\x0b" + bytes(32))
        + sized(nonce)
        + struct.pack(">QIIB", *counters, safe)
        + struct.pack(">Q", 0x20191023)
        + (selection(values) if chosen is None else chosen)
        + sized(hashlib.new(alg, message).digest())
    )
