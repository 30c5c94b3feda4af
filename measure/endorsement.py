# SPDX-License-Identifier: Apache-2.0
"""The endorsement key, by which a TPM's vendor knows the TPM: its two default templates, and a strict reader.

Source: TCG EK Credential Profile 2.6, annex B.3 (templates L-1, RSA 2048, and L-2, ECC P-256; B.2 has NV indexes).

The key decrypts and signs nothing; whoever has the endorsement hierarchy's authorisation can use it (PolicySecret).
Keys by other templates, a nonce in NV, and the high range are not used. No TPM is needed, and no key is trusted here.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from measure.errors import IdentityRefused, QuoteRefused
from measure.structures import P256, Reader
from measure.templates import SHA256, public_name, sized

KINDS: Final = ("rsa", "ecc")
"""What ``EkPublic.kind`` can be, the likelier first."""

CERTIFICATE_INDEX: Final = MappingProxyType({"rsa": 0x01C00002, "ecc": 0x01C0000A})
"""NV index of the certificate, by kind of key."""

CHAIN_INDEXES: Final = range(0x01C00100, 0x01C00200)
"""NV indexes that hold the issuers' certificates, one after the other in DER, cut anywhere."""

EK_ATTRIBUTES: Final = 0x000300B2
"""fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt."""

_POLICY_SECRET = (0x00000151).to_bytes(4, "big")
_ENDORSEMENT = (0x4000000B).to_bytes(4, "big")
EK_POLICY: Final = hashlib.sha256(hashlib.sha256(bytes(32) + _POLICY_SECRET + _ENDORSEMENT).digest()).digest()
"""PolicySecret of the endorsement hierarchy (Part 3, TPM2_PolicySecret), called PolicyA in the profile."""

_AES128_CFB = struct.pack(">HHH", 0x0006, 128, 0x0043)
_NULL = struct.pack(">H", 0x0010)
_HEADS: Final = MappingProxyType(
    {
        "rsa": struct.pack(">HHI", 0x0001, SHA256, EK_ATTRIBUTES)
        + sized(EK_POLICY)
        + _AES128_CFB
        + _NULL
        + struct.pack(">HI", 2048, 0),
        "ecc": struct.pack(">HHI", 0x0023, SHA256, EK_ATTRIBUTES)
        + sized(EK_POLICY)
        + _AES128_CFB
        + _NULL
        + struct.pack(">H", P256)
        + _NULL,
    }
)
_UNIQUE: Final = MappingProxyType({"rsa": sized(bytes(256)), "ecc": sized(bytes(32)) * 2})


@dataclass(frozen=True, slots=True, kw_only=True)
class EkPublic:
    """An endorsement key's TPMT_PUBLIC.

    Attributes:
        kind: one of ``KINDS``.
        name: the TPM's name for it, 34 bytes.
        key: the public key.
    """

    kind: str
    name: bytes
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def template(kind: str) -> bytes:
    """TPMT_PUBLIC from which the TPM makes its key of a kind, always the same one."""
    return _HEADS[kind] + _UNIQUE[kind]


def refused(cause: str) -> IdentityRefused:
    """The error for an identity that does not hold together."""
    return IdentityRefused(
        "the host's identity was refused", cause=cause, remedy="print it anew on the host: `vmgate attest identity`"
    )


def parse_ek(untrusted_public: bytes) -> EkPublic:
    """Read a TPMT_PUBLIC that differs from one of the templates by its key alone.

    Raises:
        IdentityRefused: any other.
    """
    kind = next((kind for kind, head in _HEADS.items() if untrusted_public.startswith(head)), None)
    if kind is None:
        raise refused("the endorsement key is not of template L-1 (RSA 2048) or L-2 (ECC P-256)")
    try:
        reader = Reader(untrusted_public[len(_HEADS[kind]) :], "endorsement key", 300)
        numbers = [reader.sized(256) for _ in range(1 if kind == "rsa" else 2)]
        reader.finish()
        key = _rsa(*numbers) if kind == "rsa" else _point(*numbers)
    except (QuoteRefused, ValueError) as error:
        raise refused("the endorsement key is malformed") from error
    return EkPublic(kind=kind, name=public_name(untrusted_public), key=key)


def _rsa(modulus: bytes) -> rsa.RSAPublicKey:
    # An even one is no product of two primes, and the library would find out only when it encrypts.
    if len(modulus) != 256 or not modulus[0] & 0x80 or not modulus[-1] & 1:
        raise ValueError("the modulus has not 2048 bits, or is even")
    return rsa.RSAPublicNumbers(65537, int.from_bytes(modulus, "big")).public_key()


def _point(x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    if len(x) != 32 or len(y) != 32:
        raise ValueError("a coordinate has not 32 bytes")
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
    return numbers.public_key()
