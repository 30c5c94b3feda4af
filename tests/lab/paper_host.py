# SPDX-License-Identifier: Apache-2.0
"""Hosts that were never there: keys in memory that a TPM would hold, and all that a fleet asks of a host.

Each has an endorsement key with a certificate of a vendor of the tests, an attestation key and a request key, and opens
challenges by itself. Signatures are real, so that thousands of them stand for thousands of hosts.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from content.fsverity import digest_bytes
from documents.enrolment import EnrolmentOffer, EnrolmentProof
from documents.evidence import Evidence
from documents.identity import Challenge, EndorsementKey, Identity
from documents.release import ReferenceValue, Release
from keys.anchor import TrustAnchor
from keys.http_signature import sign_request
from lab.attested import vector
from lab.measuring import BANKS, POLICY, booted, logged, platform
from lab.paper_tpm import attest, sized
from lab.vendor import SWTPM, Authority
from measure import templates
from measure.cel import encode_record, replay
from measure.credential import LABEL, _kdfa, _kdfe
from measure.endorsement import _HEADS
from measure.proof import answer, joined
from measure.quote import ATTEST_CERTIFY, MAGIC

ANCHOR = vector("root.json")
YEARS = 20_000
"""Days that certificates of the tests are valid for."""

VENDOR = Authority("maker of programs", until=YEARS)


def release(number: int = 1) -> Release:
    """A platform release of the repository whose root is ``ANCHOR``."""
    made, identity = platform(number), TrustAnchor(ANCHOR).identity
    values = (replace(v, fsverity=identity) if v.component == "repository" else v for v in made.reference)
    return replace(made, reference=tuple[ReferenceValue, ...](values))


def policy() -> bytes:
    """The security policy that it names."""
    encoded = POLICY.encode()
    assert release().artifact("vmgate/security-policy").fsverity == digest_bytes(encoded)  # type: ignore[union-attr]
    return encoded


@dataclass(frozen=True, slots=True)
class PaperKey:
    """A P-256 key with its TPMT_PUBLIC."""

    key: ec.EllipticCurvePrivateKey
    public: bytes

    @classmethod
    def of(cls, seed: str, head: bytes) -> PaperKey:
        """The key of a seed; ``head`` is its public area without the point."""
        key = ec.derive_private_key(int(hashlib.sha256(seed.encode()).hexdigest(), 16) >> 1, ec.SECP256R1())
        numbers = key.public_key().public_numbers()
        return cls(key, head + sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big")))

    def raw(self, message: bytes) -> bytes:
        """r and s."""
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def sign(self, message: bytes) -> bytes:
        """TPMT_SIGNATURE."""
        return templates.ecdsa_signature(self.raw(message))


class PaperHost:
    """One host.

    Args:
        number: tells it from the others.
        vendor: of its TPM.
        chip: what its certificate says that it is.
    """

    def __init__(self, number: int, vendor: Authority = VENDOR, manufacturer: str = SWTPM) -> None:
        self.number = number
        self.name = f"paper-{number}"
        self.ek = PaperKey.of(f"ek {number}", _HEADS["ecc"])
        self.ak = PaperKey.of(f"ak {number}", templates._ecc(
            templates.AK_ATTRIBUTES, b"", templates._NULL, templates._ECDSA_SHA256, b"", b""
        ).removesuffix(bytes(4)))  # fmt: skip
        self.request = PaperKey.of(f"request {number}", templates.request_public().removesuffix(bytes(4)))
        self._certificate = vendor.ek(self.ek.key.public_key(), manufacturer=manufacturer, until=YEARS)
        self.id = ""
        self.clock = 5_000
        self.log = logged(booted(release()))

    def identity(self) -> Identity:
        """Who it says that it is."""
        key = EndorsementKey(public=self.ek.public, certificate=self._certificate)
        return Identity(eks=(key,), chain=b"", ak=self.ak.public)

    def open(self, challenge: Challenge) -> bytes:
        """What its TPM finds in a challenge: the secret (TPM 2.0 Part 1, clause 24)."""
        seed_x, seed_y = challenge.seed[4:36], challenge.seed[38:70]
        point = ec.EllipticCurvePublicNumbers(
            int.from_bytes(seed_x, "big"), int.from_bytes(seed_y, "big"), ec.SECP256R1()
        ).public_key()
        own = self.ek.key.public_key().public_numbers().x.to_bytes(32, "big")
        seed = _kdfe(self.ek.key.exchange(ec.ECDH(), point), seed_x, own)
        inside = challenge.credential[2:]
        check, encrypted = inside[2:34], inside[34:]
        expected = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 256), encrypted + challenge.ak_name, "sha256")
        assert hmac.compare_digest(check, expected), "the challenge is not for this TPM"
        assert LABEL == b"IDENTITY\0"
        key = _kdfa(seed, b"STORAGE", challenge.ak_name, 128)
        opener = Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor()
        return opener.update(encrypted)[2:]

    def proof(self, token: str, offer: EnrolmentOffer, name: str | None = None) -> EnrolmentProof:
        """What it answers to the fleet's offer."""
        found = answer(self.open(Challenge.parse(offer.challenge)))
        statement = self.certified(self.request, joined(found))
        return EnrolmentProof(
            token=token,
            ticket=offer.ticket,
            identity=self.identity().encode(),
            key=self.request.public,
            attest=statement,
            signature=self.ak.sign(statement),
            name=self.name if name is None else name,
        )

    def certified(self, key: PaperKey, nonce: bytes) -> bytes:
        """TPMS_ATTEST of TPM2_Certify."""
        head = struct.pack(">IH", MAGIC, ATTEST_CERTIFY) + sized(b"\x00\x0b" + bytes(32)) + sized(nonce)
        counters = struct.pack(">QIIB", self.clock, 3, 1, 1) + struct.pack(">Q", 0x20191023)
        return head + counters + sized(templates.public_name(key.public)) + sized(b"\x00\x0b" + bytes(32))

    def evidence(self, nonce: bytes, **changes: bytes) -> Evidence:
        """A quote over a nonce, and the log of what it booted."""
        self.clock += 1_000
        quoted = attest(nonce, {"sha256": replay(self.log, "sha256")}, counters=(self.clock, 3, 1))
        base = Evidence(
            attest=quoted,
            signature=self.ak.sign(quoted),
            ak=self.ak.public,
            boot_log=b"",
            ima=b"",
            cel=b"".join(encode_record(entry) for entry in self.log),
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def headers(
        self,
        target: str,
        body: bytes,
        nonce: bytes,
        *,
        time: int | None = None,
        host: str = "",
        sign: Callable[[bytes], bytes] | None = None,
    ) -> dict[str, str]:
        """What proves a request of this host."""
        now = int(clock.time()) if time is None else time
        signer = sign or self.request.raw
        return sign_request("POST", target, body, host=host or self.id, nonce=nonce, time=now, sign=signer)


__all__ = ["ANCHOR", "BANKS", "VENDOR", "PaperHost", "PaperKey", "policy", "release"]
