# SPDX-License-Identifier: Apache-2.0
"""Attestation results for relying parties: a verdict as an EAR, signed as a JWT.

Source: draft-ietf-rats-ear-04 (EAT Attestation Results), JSON serialisation; AR4SI for the trustworthiness vector;
RFC 9711 for ``eat_nonce``. All our findings travel along under ``vmgate.appraisal``. This module does not appraise, and
a result that verifies says what a verifier found, not that it is good: look at ``ear.status``.
"""

from __future__ import annotations

import base64
import hmac
from typing import Any, TypeGuard

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from documents.canonical import Json
from documents.verdict import Verdict
from keys.errors import KeyFileMalformed
from measure.errors import ResultRefused

PROFILE = "tag:github.com,2023:veraison/ear"
DEVELOPER = "vmgate project"
LIMIT = 4_000_000
"""Bytes of a token."""

NONCE_BYTES = range(8, 65)
"""Lengths of a nonce (RFC 9711 section 4.1)."""

AFFIRMING, WARNING, CONTRAINDICATED = 2, 32, 96
"""The trustworthiness claims that we make (AR4SI section 2.3.2): the mildest of each tier."""

_VALUES = {"pass": AFFIRMING, "warn": WARNING, "fail": CONTRAINDICATED}
_CONFIGURATION = frozenset(
    {
        "assurance-level", "baseline", "event", "host-local", "kernel-argument", "local-policy", "not-approved",
        "reference", "release-accepts", "secure-boot", "secure-boot-variable", "start-order",
    }
)  # fmt: skip
"""Checks about how the host is set up; all others are about what runs on it."""

_STATUS = ("affirming", "warning", "contraindicated")


def ear_claims(verdict: Verdict, *, build: str, lifetime: int, nonce: bytes = b"", policy: str = "") -> dict[str, Any]:
    """The claims of an EAR with one submodule, named like the verdict's subject.

    Args:
        verdict: the appraisal.
        build: the verifier's version.
        lifetime: seconds for which it may be relied on, from the verdict's time.
        nonce: what the evidence answered; empty where the host judged itself.
        policy: what was appraised against, such as ``platform/3``.
    """
    appraisal: dict[str, Any] = {
        "ear.status": verdict.status,
        "ear.trustworthiness-vector": _vector(verdict, proven=bool(nonce)),
        "vmgate.appraisal": {
            "level": verdict.level,
            "findings": [finding.members() for finding in verdict.findings],
        },
    }
    if policy:
        appraisal["ear.appraisal-policy-id"] = policy
    claims: dict[str, Any] = {
        "eat_profile": PROFILE,
        "iat": verdict.time,
        "exp": verdict.time + lifetime,
        "ear.verifier-id": {"developer": DEVELOPER, "build": f"vmgate {build}"},
        "submods": {verdict.subject: appraisal},
    }
    if nonce:
        if len(nonce) not in NONCE_BYTES:
            raise ValueError("a nonce has 8 to 64 bytes")
        claims["eat_nonce"] = _nonce_text(nonce)
    return claims


def sign_ear(claims: dict[str, Any], private_pem: bytes) -> str:
    """The claims as a JWT, signed with an ECDSA P-256 key (ES256).

    Raises:
        KeyFileMalformed: it is no such private key in PEM, or it is encrypted.
    """
    try:
        return jwt.encode({"alg": "ES256", "typ": "JWT"}, claims, _key(private_pem), registry=_registry())
    except (JoseError, ValueError, TypeError) as error:
        raise KeyFileMalformed(
            "the result was not signed", cause="the key is no P-256 private key in PEM", remedy="name the right file"
        ) from error


def verify_ear(untrusted_token: str | bytes, public_pem: bytes, now: int, nonce: bytes = b"") -> dict[str, Any]:
    """Verify signature, profile and times of an EAR, and return its claims.

    Args:
        untrusted_token: the JWT.
        public_pem: the verifier's public key.
        now: seconds since 1970 UTC.
        nonce: if given, the result must be about evidence that answered it.

    Raises:
        ResultRefused: any of it does not hold.
    """
    if len(untrusted_token) > LIMIT:
        raise _refused(f"it has more than {LIMIT} bytes")
    try:
        claims: dict[str, Any] = jwt.decode(untrusted_token, _key(public_pem), registry=_registry()).claims
    except (JoseError, ValueError, RecursionError) as error:
        raise _refused(str(error) or "it is not signed by the expected verifier") from error
    issued, expires, submods = claims.get("iat"), claims.get("exp"), claims.get("submods")
    if claims.get("eat_profile") != PROFILE or not isinstance(submods, dict) or not submods:
        raise _refused("it is no EAR")
    if not _is_time(issued) or not _is_time(expires) or not issued <= now < expires:
        raise _refused("it is not of this time")
    for name, appraisal in submods.items():
        if not isinstance(appraisal, dict) or appraisal.get("ear.status") not in _STATUS:
            raise _refused(f"its part {name!r} has no status")
    found = claims.get("eat_nonce")
    if nonce and (not isinstance(found, str) or not hmac.compare_digest(found.encode(), _nonce_text(nonce).encode())):
        raise _refused("it does not answer the nonce")
    return claims


def _vector(verdict: Verdict, *, proven: bool) -> dict[str, Json]:
    """What is not known is left out, which AR4SI reads as no claim."""
    setup = [_VALUES[f.outcome] for f in verdict.findings if f.check in _CONFIGURATION]
    running = [_VALUES[f.outcome] for f in verdict.findings if f.check not in _CONFIGURATION]
    vector: dict[str, Json] = {
        "configuration": max(setup, default=CONTRAINDICATED),
        "executables": max(running, default=CONTRAINDICATED),
    }
    if proven:
        vector["instance-identity"] = AFFIRMING
    if verdict.level != "L1":
        vector["hardware"] = AFFIRMING if verdict.level == "L2" else WARNING
    return vector


def _is_time(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _nonce_text(nonce: bytes) -> str:
    return base64.urlsafe_b64encode(nonce).rstrip(b"=").decode()


def _key(pem: bytes) -> ECKey:
    return ECKey.import_key(pem)


def _registry() -> JWSRegistry:
    registry = JWSRegistry(algorithms=["ES256"])
    registry.max_payload_length = LIMIT
    return registry


def _refused(cause: str) -> ResultRefused:
    return ResultRefused("the attestation result was refused", cause=cause, remedy="ask the verifier for a new one")
