# SPDX-License-Identifier: Apache-2.0
"""Attestation results as a relying party gets them: whatever a verifier signs is refused, or is a result."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from documents.canonical import encode
from documents.verdict import Finding, Verdict
from measure.ear import ear_claims, verify_ear

STATUS = ("none", "affirming", "warning", "contraindicated")
NOW = 1_800_000_000
KEY = ec.derive_private_key(7, ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
FOUND = Finding(check="log", subject="vmgate", outcome="pass", expected="a", found="a")
CLAIMS = ear_claims(
    Verdict(subject="platform", level="L1", time=NOW, findings=(FOUND,)),
    build="0.1.0",
    nonce=b"a nonce of at least sixteen bytes",
)


def claims() -> list[bytes]:
    """The claims of one result."""
    return [encode(CLAIMS)]


def check_claims(folder: Path, untrusted: bytes) -> None:
    """A token of these claims, signed as it should be: what is let through is a result of this time."""
    head = _encoded(b'{"alg":"ES256","typ":"JWT"}')
    message = head + b"." + _encoded(untrusted)
    r, s = decode_dss_signature(KEY.sign(message, ec.ECDSA(hashes.SHA256())))
    found = verify_ear(message + b"." + _encoded(r.to_bytes(32, "big") + s.to_bytes(32, "big")), PUBLIC, NOW)
    assert found["iat"] <= NOW < found["exp"]
    assert all(part["ear.status"] in STATUS for part in found["submods"].values())


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
