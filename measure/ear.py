# SPDX-License-Identifier: Apache-2.0
"""Attestation results for relying parties: a verdict as an EAR, signed as a JWT.

Source: draft-ietf-rats-ear-04 (EAT Attestation Results), JSON serialisation; RFC 9711 for ``eat_nonce``; AR4SI for the
vector (``measure.trust_vector``). All our findings travel along under ``vmgate.appraisal``. This module does not
appraise, and a result that verifies says what a verifier found, not that it is good: look at ``ear.status``.
"""

from __future__ import annotations

import base64
import hmac
from typing import Any, TypeGuard

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from documents.verdict import VERDICT_SECONDS, Verdict
from keys.errors import KeyFileMalformed
from measure.errors import ResultRefused
from measure.trust_vector import VERIFIER, told_by_claim, trust_vector

PROFILE = "tag:github.com,2023:veraison/ear"
DEVELOPER = "vmgate project"
LIMIT = 4_000_000
"""Bytes of a token."""

NONCE_BYTES = range(8, 65)
"""Lengths of a nonce (RFC 9711 section 4.1)."""

_STATUS = ("none", "affirming", "warning", "contraindicated")
"""The tiers of AR4SI; "none" is a verifier that could not do its work. Only two of them let anybody go on."""


def ear_claims(
    verdict: Verdict, *, build: str, lifetime: int | None = None, nonce: bytes = b"", policy: str = ""
) -> dict[str, Any]:
    """The claims of an EAR with one submodule, named like the verdict's subject.

    Args:
        verdict: the appraisal.
        build: the verifier's version.
        lifetime: seconds for which it may be relied on, from the verdict's time; None takes what the verdict says. It
            never counts longer than the verdict.
        nonce: what the evidence answered; empty where the host judged itself.
        policy: what was appraised against, such as ``platform/3``.
    """
    appraisal: dict[str, Any] = {
        "ear.status": _status(verdict),
        "ear.trustworthiness-vector": trust_vector(verdict, proven=bool(nonce)),
        "vmgate.appraisal": {
            "level": verdict.level,
            "not-passed": {claim: list(checks) for claim, checks in told_by_claim(verdict).items()},
            "findings": [finding.members() for finding in verdict.findings],
        },
    }
    if policy:
        appraisal["ear.appraisal-policy-id"] = policy
    expires = verdict.expires or verdict.time + VERDICT_SECONDS
    claims: dict[str, Any] = {
        "eat_profile": PROFILE,
        "iat": verdict.time,
        "exp": expires if lifetime is None else min(expires, verdict.time + lifetime),
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


def _status(verdict: Verdict) -> str:
    """The verdict's, but for a verifier that failed and so asserts nothing."""
    return "none" if any(finding.check == VERIFIER for finding in verdict.failures()) else verdict.status


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
