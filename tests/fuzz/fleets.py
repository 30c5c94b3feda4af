# SPDX-License-Identifier: Apache-2.0
"""What a fleet's service reads before it knows from whom: heads of signed requests, forms, and kept passwords."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from fleet.pages.access import FIELDS, read_form
from fleet.passwords import is_right
from keys.http_signature import HEADERS, verify_request
from lab.paper_host import PaperHost

TIME = 1_800_000_000
TARGET = "/v1/hosts/0/attestations"


@cache
def _host() -> PaperHost:
    host = PaperHost(1)
    host.id = "00000000-0000-4000-8000-000000000001"
    return host


def heads() -> list[bytes]:
    """Headers that prove requests."""
    host = _host()
    made = [host.headers(TARGET, body, bytes(48), time=TIME, sign=_sign) for body in (b"", b"x")]
    return [json.dumps({name: headers[name] for name in HEADERS}).encode() for headers in made]


def _sign(message: bytes) -> bytes:
    """The same at every run."""
    method = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(_host().request.key.sign(message, method))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def check_head(folder: Path, untrusted: bytes) -> None:
    """Whoever is let through says what was signed."""
    try:
        headers = json.loads(untrusted)
    except (ValueError, RecursionError):
        return
    if not isinstance(headers, dict) or not all(isinstance(text, str) for text in headers.values()):
        return
    proven = verify_request("POST", TARGET, headers, _host().request.key.public_key(), TIME)
    assert (proven.host, proven.nonce) == (_host().id, bytes(48))
    assert proven.digest in (hashlib.sha256(b"").digest(), hashlib.sha256(b"x").digest())


def forms() -> list[bytes]:
    """Forms of pages."""
    return [b"form=00ff&host=a&host=b&event=revoke&reason=lost+on+a+train%21", b"name=%C3%A4&text=&=x", b"a=1;b=2"]


def check_form(folder: Path, untrusted: bytes) -> None:
    """What comes out has no more fields than may be."""
    found = read_form(untrusted, "application/x-www-form-urlencoded; charset=utf-8")
    assert sum(len(values) for values in found.values()) <= FIELDS
    assert found or not untrusted


def passwords() -> list[bytes]:
    """What is kept."""
    return [b"pbkdf2-sha512$2$AAECAwQFBgcICQoLDA0ODw==$" + b"A" * 86 + b"=="]


def check_password(folder: Path, untrusted: bytes) -> None:
    """No damage makes a password right."""
    assert not is_right("password", untrusted.decode("latin-1"))
