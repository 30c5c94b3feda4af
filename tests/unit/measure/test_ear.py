# SPDX-License-Identifier: Apache-2.0
"""Attestation results: what a relying party gets to see, and what it refuses."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey
from joserfc.jwt import JWTClaimsRegistry

from documents.verdict import VERDICT_SECONDS, Verdict
from lab.boot_logs import IMAGE, MACHINE
from lab.measuring import booted, claims, digest, launch, local, platform, reference
from measure.appraise import appraise
from measure.ear import ear_claims, sign_ear, verify_ear
from measure.errors import ResultRefused

NOW = 1_800_000_000
NONCE = b"a nonce of at least sixteen bytes"


def pem(seed: int) -> tuple[bytes, bytes]:
    key = ec.derive_private_key(seed, ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


PRIVATE, PUBLIC = pem(7)


RELEASE = platform(1, image=IMAGE)


def verdict(level: str = "L0", *, good: bool = True) -> Verdict:
    events = booted(RELEASE) if good else booted(platform(2))
    if level == "L2":
        found = claims([*events, *local(MACHINE)], chip=True, machine=MACHINE)
        return appraise(found, reference(RELEASE, image=IMAGE), NOW)
    return appraise(claims(events, chip=level == "L1"), reference(platform(1)), NOW)


def result(found: Verdict, nonce: bytes = NONCE) -> dict[str, object]:
    return ear_claims(found, build="0.1.0", lifetime=300, nonce=nonce, policy="platform/1")


def test_a_result_is_signed_and_read() -> None:
    token = sign_ear(result(verdict()), PRIVATE)
    found = verify_ear(token, PUBLIC, NOW + 1, NONCE)
    assert found == result(verdict())
    assert found["eat_profile"] == "tag:github.com,2023:veraison/ear"
    assert found["ear.verifier-id"]["build"] == "vmgate 0.1.0"
    appraisal = found["submods"]["platform"]
    assert appraisal["ear.status"] == "warning"
    assert appraisal["ear.appraisal-policy-id"] == "platform/1"
    assert appraisal["vmgate.appraisal"]["level"] == "L0"
    assert json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "==")) == {"alg": "ES256", "typ": "JWT"}


def test_another_library_reads_a_result_without_us() -> None:
    """As a relying party does that knows RFC 7519 and the EAR draft."""
    token = sign_ear(result(verdict("L2")), PRIVATE)
    found = jwt.decode(token, ECKey.import_key(PUBLIC), algorithms=["ES256"])
    rules = JWTClaimsRegistry(
        now=NOW + 299,
        iat={"essential": True},
        exp={"essential": True},
        eat_profile={"essential": True, "value": "tag:github.com,2023:veraison/ear"},
        eat_nonce={"essential": True, "value": base64.urlsafe_b64encode(NONCE).rstrip(b"=").decode()},
        submods={"essential": True},
        **{"ear.verifier-id": {"essential": True}},
    )
    rules.validate(found.claims)
    assert set(found.claims["ear.verifier-id"]) == {"developer", "build"}
    assert found.claims["submods"]["platform"]["ear.status"] == "affirming"
    for now in (NOW - 1, NOW + 301):
        with pytest.raises(JoseError):
            JWTClaimsRegistry(now=now).validate(found.claims)


@pytest.mark.parametrize("level", ["L0", "L1", "L2"])
@pytest.mark.parametrize("good", [True, False])
def test_the_status_is_never_better_than_the_vector(level: str, good: bool) -> None:
    appraisal = result(verdict(level, good=good))["submods"]["platform"]  # type: ignore[index]
    worst = max(appraisal["ear.trustworthiness-vector"].values())
    assert all(value >= 2 for value in appraisal["ear.trustworthiness-vector"].values())
    tiers = ["affirming", "warning", "contraindicated"]
    tier = tiers[(worst >= 32) + (worst >= 96)]
    assert tiers.index(appraisal["ear.status"]) >= tiers.index(tier)
    assert (appraisal["ear.status"] == "affirming") == (level == "L2" and good)


def test_what_is_wrong_shows_in_its_place() -> None:
    executables = result(verdict(good=False))["submods"]["platform"]["ear.trustworthiness-vector"]  # type: ignore[index]
    assert executables["executables"] == 96
    events = [*booted(RELEASE), *local(MACHINE), launch("host", "host/settings", digest("settings"))]
    found = appraise(claims(events, chip=True, machine=MACHINE), reference(RELEASE, image=IMAGE), NOW)
    vector = result(found)["submods"]["platform"]["ear.trustworthiness-vector"]  # type: ignore[index]
    assert vector == {
        "configuration": 32,
        "executables": 2,
        "file-system": 2,
        "hardware": 2,
        "instance-identity": 2,
        "sourced-data": 2,
    }


def test_a_verdict_without_findings_is_contraindicated() -> None:
    empty = Verdict(subject="platform", level="L2", time=NOW, findings=())
    appraisal = result(empty)["submods"]["platform"]  # type: ignore[index]
    assert appraisal["ear.status"] == "contraindicated"
    assert appraisal["ear.trustworthiness-vector"]["executables"] == 96


def test_a_host_that_judged_itself_proves_no_identity() -> None:
    found = result(verdict(), nonce=b"")
    assert "eat_nonce" not in found
    assert "instance-identity" not in found["submods"]["platform"]["ear.trustworthiness-vector"]  # type: ignore[index]
    with pytest.raises(ResultRefused):
        verify_ear(sign_ear(found, PRIVATE), PUBLIC, NOW, NONCE)


def test_a_nonce_of_another_length_is_a_bug() -> None:
    with pytest.raises(ValueError, match="8 to 64"):
        result(verdict(), nonce=b"x" * 65)


@pytest.mark.parametrize("now", [NOW - 1, NOW + 300, 0])
def test_a_result_of_another_time_is_refused(now: int) -> None:
    with pytest.raises(ResultRefused, match="not of this time"):
        verify_ear(sign_ear(result(verdict()), PRIVATE), PUBLIC, now)


def test_another_verifier_or_nonce_is_refused() -> None:
    token = sign_ear(result(verdict()), PRIVATE)
    with pytest.raises(ResultRefused):
        verify_ear(token, pem(8)[1], NOW)
    with pytest.raises(ResultRefused):
        verify_ear(token, PUBLIC, NOW, b"another nonce of some length")


def test_another_algorithm_is_refused() -> None:
    """The two classics: no signature, and the public key used as a shared secret."""
    body = result(verdict())
    token = sign_ear(body, PRIVATE)
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    payload = token.split(".")[1]
    shared = jwt.encode({"alg": "HS256"}, body, OctKey.import_key(PUBLIC.hex()))
    for forged in (f"{none}.{payload}.", f"{none}.{payload}.{token.split('.')[2]}", shared):
        with pytest.raises(ResultRefused):
            verify_ear(forged, PUBLIC, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"eat_profile": "tag:other"},
        {"submods": {}},
        {"submods": []},
        {"submods": {"platform": {}}},
        {"submods": {"platform": {"ear.status": "trusted"}}},
        {"submods": {"platform": "affirming"}},
        {"iat": "1"},
        {"exp": None},
        {"exp": True},
    ],
)
def test_a_signed_token_that_is_no_result_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ResultRefused):
        verify_ear(sign_ear(result(verdict()) | change, PRIVATE), PUBLIC, NOW)


def test_damaged_tokens_are_refused() -> None:
    token = sign_ear(ear_claims(verdict(), build="0", lifetime=1), PRIVATE)
    for where in range(0, len(token), 17):
        for forged in (token[:where], token[:where] + "!" + token[where + 1 :], token[:where] + token[where + 1 :]):
            with pytest.raises(ResultRefused):
                verify_ear(forged, PUBLIC, NOW)
    for junk in ("", ".", "..", "a.b.c", "x" * 5_000_000, b"\xff\xfe"):
        with pytest.raises(ResultRefused):
            verify_ear(junk, PUBLIC, NOW)


def test_a_result_counts_no_longer_than_its_verdict() -> None:
    short = replace(verdict(), expires=NOW + 60)
    for lifetime, expires in ((None, NOW + 60), (10, NOW + 10), (10_000, NOW + 60)):
        assert ear_claims(short, build="0", lifetime=lifetime)["exp"] == expires
    assert ear_claims(replace(short, expires=0), build="0")["exp"] == NOW + VERDICT_SECONDS
    token = sign_ear(ear_claims(short, build="0"), PRIVATE)
    assert verify_ear(token, PUBLIC, NOW + 59)
    with pytest.raises(ResultRefused, match="not of this time"):
        verify_ear(token, PUBLIC, NOW + 60)


def test_what_did_not_pass_is_told_by_its_claim() -> None:
    told = result(verdict(good=False))["submods"]["platform"]["vmgate.appraisal"]["not-passed"]  # type: ignore[index]
    assert told == {"configuration": ["assurance-level"], "executables": ["component-digest", "component-origin"]}


def test_a_long_verdict_still_fits() -> None:
    many = [launch("host", f"host/thing-{number}", digest(str(number))) for number in range(2_000)]
    found = appraise(claims([*booted(platform(1)), *many]), reference(platform(1)), NOW)
    assert verify_ear(sign_ear(result(found), PRIVATE), PUBLIC, NOW)["submods"]
