# SPDX-License-Identifier: Apache-2.0
"""Signed requests: what is signed is what is believed, and nothing less is signed."""

from __future__ import annotations

import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import RequestUnproven
from keys.http_signature import SKEW, TAG, claimed_host, sign_request, verify_request
from lab.paper_host import PaperKey

KEY = PaperKey.of("a request key", b"")
OTHER = PaperKey.of("another one", b"")
HOST = str(uuid.UUID(int=7))
NONCE = bytes(range(32))
NOW = 1_800_000_000
TARGET = f"/v1/hosts/{HOST}/attestations"
BODY = b'{"evidence":1}'


def public(key: PaperKey) -> ec.EllipticCurvePublicKey:
    return key.key.public_key()


def signed(body: bytes = BODY, *, target: str = TARGET, time: int = NOW, key: PaperKey = KEY) -> dict[str, str]:
    return sign_request("POST", target, body, host=HOST, nonce=NONCE, time=time, sign=key.raw)


@given(
    body=st.binary(max_size=200),
    query=st.text("abc=&%25", max_size=10).map(lambda text: f"?{text}".rstrip("?").replace("%", "%25")),
    shift=st.integers(-SKEW, SKEW),
)
def test_what_was_signed_is_believed(body: bytes, query: str, shift: int) -> None:
    target = TARGET + query
    headers = signed(body, target=target, time=NOW + shift)
    proven = verify_request("POST", target, headers, public(KEY), NOW)
    assert (proven.host, proven.nonce) == (HOST, NONCE)
    proven.verify_body(body)
    with pytest.raises(RequestUnproven):
        proven.verify_body(body + b" ")


@pytest.mark.parametrize(
    ("method", "target", "key", "now"),
    [
        ("PUT", TARGET, KEY, NOW),
        ("POST", TARGET.replace("attestations", "audit"), KEY, NOW),
        ("POST", TARGET + "?x=1", KEY, NOW),
        ("POST", TARGET, OTHER, NOW),
        ("POST", TARGET, KEY, NOW + SKEW + 1),
        ("POST", TARGET, KEY, NOW - SKEW - 1),
    ],
)
def test_anything_else_is_refused(method: str, target: str, key: PaperKey, now: int) -> None:
    with pytest.raises(RequestUnproven):
        verify_request(method, target, signed(), public(key), now)


INPUT = signed()["signature-input"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signature-input", ""),
        ("signature-input", INPUT.replace(TAG, "another")),
        ("signature-input", INPUT.replace('"content-digest"', "")),
        ("signature-input", INPUT.replace('"@path" ', "")),
        ("signature-input", INPUT.replace('"@query" ', "")),
        ("signature-input", INPUT.replace(f'nonce="{NONCE.hex()}"', 'nonce="00"')),
        ("signature-input", INPUT.replace(f';nonce="{NONCE.hex()}"', "")),
        ("signature-input", INPUT.replace(f'keyid="{HOST}"', f'keyid="{uuid.UUID(int=8)}"')),
        ("signature-input", INPUT.replace("ecdsa-p256-sha256", "hmac-sha256")),
        ("signature-input", INPUT.replace(f"created={NOW}", "created=99999999999")),
        ("signature-input", f"{INPUT}, {INPUT.replace('host=', 'two=')}"),
        ("signature-input", INPUT + "x" * 1_000),
        ("signature", ""),
        ("signature", "host=:AAAA:"),
        ("signature", "host=?1"),
        ("content-digest", "sha-256=:AAAA:"),
        ("content-digest", "sha-512=:" + "A" * 86 + "==:"),
    ],
)
def test_each_part_of_the_headers_counts(name: str, value: str) -> None:
    headers = {**signed(), name: value}
    with pytest.raises(RequestUnproven):
        verify_request("POST", TARGET, headers, public(KEY), NOW)


def test_a_signature_that_expires_by_itself_is_not_ours() -> None:
    headers = signed()
    changed = headers["signature-input"].replace(f"created={NOW}", f"created={NOW};expires={NOW + 10}")
    with pytest.raises(RequestUnproven):
        verify_request("POST", TARGET, {**headers, "signature-input": changed}, public(KEY), NOW)


def test_the_host_is_read_before_it_is_believed() -> None:
    assert claimed_host(signed()) == HOST
    with pytest.raises(RequestUnproven):
        claimed_host({})
    with pytest.raises(RequestUnproven):
        claimed_host({**signed(), "signature-input": INPUT + f';keyid="{HOST}"'})


@given(st.dictionaries(st.sampled_from(("signature-input", "signature", "content-digest")), st.text(max_size=120)))
def test_no_headers_do_anything_but_be_refused(headers: dict[str, str]) -> None:
    with pytest.raises(RequestUnproven):
        verify_request("POST", TARGET, headers, public(KEY), NOW)
