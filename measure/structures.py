# SPDX-License-Identifier: Apache-2.0
"""TPM structures in their wire form: a strict reader, public areas of keys, and signatures.

Source: TPM 2.0 Library Part 2, clauses 11 (algorithm parameters), 12 (key and object complex). Integers are
big-endian. Nothing here says that a key or a signature is good; ``measure.quote`` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from measure.errors import QuoteRefused
from measure.pcr import ALGORITHMS

RSA, ECC, NULL = 0x0001, 0x0023, 0x0010
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
P256 = 0x0003

FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
RESTRICTED, DECRYPT, SIGN = 1 << 16, 1 << 17, 1 << 18

_SOFTWARE = frozenset({"IBM", "MSFT"})
"""Manufacturers of TPM simulators: libtpms (swtpm) and the reference code. What a TPM says of itself is a hint only."""

HASHES: dict[int, tuple[str, Callable[[], hashes.HashAlgorithm]]] = {
    ALGORITHMS["sha256"]: ("sha256", hashes.SHA256),
    ALGORITHMS["sha384"]: ("sha384", hashes.SHA384),
    ALGORITHMS["sha512"]: ("sha512", hashes.SHA512),
}
"""Hash algorithms that a signature may use. SHA-1 is not among them."""


def refused(cause: str) -> QuoteRefused:
    """The error for a quote that proves nothing."""
    return QuoteRefused("the quote was refused", cause=cause, remedy="ask the host for new evidence with a new nonce")


class Reader:
    """Takes fields off the front of untrusted bytes; too few or too many bytes are a ``QuoteRefused``."""

    def __init__(self, untrusted_bytes: bytes, what: str, limit: int) -> None:
        if len(untrusted_bytes) > limit:
            raise refused(f"the {what} has more than {limit} bytes")
        self._left = memoryview(untrusted_bytes)
        self._what = what

    def take(self, size: int) -> bytes:
        """Take so many bytes."""
        if size > len(self._left):
            raise refused(f"the {self._what} is too short")
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data

    def number(self, size: int) -> int:
        """Take an unsigned integer of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def sized(self, limit: int) -> bytes:
        """Take a TPM2B of at most ``limit`` bytes."""
        size = self.number(2)
        if size > limit:
            raise refused(f"the {self._what} has a field of {size} bytes where {limit} is the most")
        return self.take(size)

    def finish(self) -> None:
        """Refuse what is left over."""
        if self._left:
            raise refused(f"the {self._what} has {len(self._left)} bytes too many")


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A signing key's TPMT_PUBLIC.

    Attributes:
        attributes: TPMA_OBJECT.
        auth_policy: its policy digest, empty for none.
        scheme: RSASSA, RSAPSS or ECDSA; NULL where the signer chooses.
        hash: TPM_ALG_ID of the scheme; 0 for a NULL scheme.
        key: the public key.
    """

    attributes: int
    auth_policy: bytes
    scheme: int
    hash: int
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """TPMS_CLOCK_INFO (Part 2, 10.11.1).

    Attributes:
        clock: milliseconds of powered-on time.
        reset_count: starts of the TPM that lost its state (boots).
        restart_count: other starts since then.
        safe: no value of the clock above this one was told before.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool

    @classmethod
    def of(cls, info: Any) -> Self:
        """Out of the TPM library's structure."""
        return cls(
            clock=int(info.clock),
            reset_count=int(info.resetCount),
            restart_count=int(info.restartCount),
            safe=bool(info.safe),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """TPMT_SIGNATURE: scheme, TPM_ALG_ID of the hash, and the signature as ``cryptography`` takes it."""

    scheme: int
    hash: int
    value: bytes


def says_software(properties: Sequence[int]) -> bool:
    """Whether TPM2_PT_MANUFACTURER and VENDOR_STRING_1 to 4 (Part 2, 6.13) are those of a program."""
    texts = [value.to_bytes(4, "big").decode("ascii", "replace") for value in properties]
    return texts[0].strip("\0 ") in _SOFTWARE or "".join(texts[1:]).startswith("SW")


def unmarshal(kind: Any, data: bytes) -> Any:
    """Read one structure of the TPM library, and nothing more."""
    value, used = kind.unmarshal(data)
    if used != len(data):
        raise ValueError(f"{len(data) - used} bytes are left over")
    return value


def parse_public(untrusted_public: bytes) -> Public:
    """Read a TPMT_PUBLIC of an ECC P-256 or RSA signing key with nameAlg SHA-256 (Part 2, 12.2.4).

    Raises:
        QuoteRefused: malformed, or any other kind of key.
    """
    reader = Reader(untrusted_public, "attestation key", 1_000)
    kind, name_alg = reader.number(2), reader.number(2)
    attributes, auth_policy = reader.number(4), reader.sized(64)
    if kind not in (RSA, ECC) or name_alg != ALGORITHMS["sha256"]:
        raise refused("the attestation key is no RSA or ECC key with a SHA-256 name")
    if reader.number(2) != NULL:
        raise refused("the attestation key has a symmetric algorithm")
    scheme = reader.number(2)
    if scheme not in ((NULL, ECDSA) if kind == ECC else (NULL, RSASSA, RSAPSS)):
        raise refused(f"the attestation key has scheme {scheme:#06x}")
    algorithm = 0 if scheme == NULL else reader.number(2)
    key = _read_point(reader) if kind == ECC else _read_modulus(reader)
    reader.finish()
    return Public(attributes=attributes, auth_policy=auth_policy, scheme=scheme, hash=algorithm, key=key)


def parse_signature(untrusted_signature: bytes) -> Signature:
    """Read a TPMT_SIGNATURE (Part 2, 11.3.4).

    Raises:
        QuoteRefused: malformed, or of another scheme than RSASSA, RSAPSS and ECDSA.
    """
    reader = Reader(untrusted_signature, "signature", 1_000)
    scheme, algorithm = reader.number(2), reader.number(2)
    if scheme == ECDSA:
        r, s = reader.sized(66), reader.sized(66)
        value = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    elif scheme in (RSASSA, RSAPSS):
        value = reader.sized(512)
    else:
        raise refused(f"the signature has scheme {scheme:#06x}")
    reader.finish()
    return Signature(scheme=scheme, hash=algorithm, value=value)


def verify_signature(public: Public, signature: Signature, message: bytes) -> None:
    """Require that the key signed the message, with the key's own scheme and no hash below SHA-256.

    Raises:
        QuoteRefused: it did not.
    """
    if signature.hash not in HASHES:
        raise refused(f"the signature uses hash {signature.hash:#06x}, which is not accepted")
    if public.scheme != NULL and (public.scheme, public.hash) != (signature.scheme, signature.hash):
        raise refused("the signature has another scheme than the attestation key")
    algorithm = HASHES[signature.hash][1]()
    try:
        if isinstance(public.key, ec.EllipticCurvePublicKey):
            if signature.scheme != ECDSA:
                raise refused("the signature's scheme does not fit the attestation key")
            public.key.verify(signature.value, message, ec.ECDSA(algorithm))
        elif signature.scheme == RSASSA:
            public.key.verify(signature.value, message, padding.PKCS1v15(), algorithm)
        elif signature.scheme == RSAPSS:
            # TPMs differ in the length of the salt (Part 1, annex B.7); the length adds no trust.
            pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
            public.key.verify(signature.value, message, pss, algorithm)
        else:
            raise refused("the signature's scheme does not fit the attestation key")
    except (InvalidSignature, ValueError) as error:
        raise refused("it is not signed by the expected attestation key") from error


def _read_point(reader: Reader) -> ec.EllipticCurvePublicKey:
    curve, kdf = reader.number(2), reader.number(2)
    x, y = reader.sized(32), reader.sized(32)
    if curve != P256 or kdf != NULL:
        raise refused("the attestation key is on another curve than P-256")
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        return numbers.public_key()
    except ValueError as error:
        raise refused("the attestation key is no point of its curve") from error


def _read_modulus(reader: Reader) -> rsa.RSAPublicKey:
    bits, exponent, modulus = reader.number(2), reader.number(4), reader.sized(512)
    number = int.from_bytes(modulus, "big")
    # Zeros in front would make a small key look like a large one.
    strong = bits in (2048, 3072, 4096) and len(modulus) * 8 == bits == number.bit_length()
    if not strong or exponent not in (0, 65537):
        raise refused("the attestation key is no RSA key of 2048 to 4096 bits with exponent 65537")
    try:
        return rsa.RSAPublicNumbers(65537, number).public_key()
    except ValueError as error:
        raise refused("the attestation key has a modulus that is none") from error
