# SPDX-License-Identifier: Apache-2.0
"""Requests that a host proves to be its own: HTTP message signatures, and a digest of the body.

Source: RFC 9421 (ECDSA P-256 with SHA-256, section 3.3.4) and RFC 9530 (Content-Digest, sha-256). One profile:
exactly one signature with the tag ``TAG``, over method, path, query and content digest, with ``created``, ``keyid``
(the fleet's id of the host) and ``nonce`` (what the fleet gave out for this request). Host name and scheme are not
covered, since TLS may end at a proxy: that the request is for this fleet, the nonce shows.

Left to the caller: whose the key is, that the nonce is one of its own, and that it is spent once. The key's private
half stays where it is: ``prepare`` gives out what it has to sign.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from keys.errors import RequestUnproven

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

TAG: Final = "vmgate-fleet-1"
COVERED: Final = ("@method", "@path", "@query", "content-digest")
SKEW: Final = 300
"""Seconds by which the clocks of host and fleet may differ."""

HEADER_LIMIT: Final = 1_000
"""Characters of each of the headers."""

SIGNATURE_SIZE: Final = 64
HEADERS: Final = ("signature-input", "signature", "content-digest")
_LABEL: Final = "host"
_ORIGIN: Final = "https://fleet.invalid"
"""The library wants a whole address; of it, only path and query are signed."""

_KEYID: Final = re.compile(r';keyid="([0-9a-f-]{36})"')
_NONCE: Final = re.compile(r"([0-9a-f]{2}){16,64}")
_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request as the library reads it. ``url`` holds path and query; headers have lower-case names."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """An address with the request's path and query."""
        return _ORIGIN + self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a verified signature says, before the body was looked at.

    Attributes:
        host: the fleet's id of the host.
        nonce: that it answers.
        digest: SHA-256 of the body that belongs to it.
    """

    host: str
    nonce: bytes
    digest: bytes

    def verify_body(self, untrusted_body: bytes) -> None:
        """Verify that a body is the one that was signed.

        Raises:
            RequestUnproven: it is another.
        """
        if not hmac.compare_digest(hashlib.sha256(untrusted_body).digest(), self.digest):
            raise refused("its body is not the one that was signed")


def sign_request(
    method: str,
    target: str,
    body: bytes,
    *,
    host: str,
    nonce: bytes,
    time: int,
    sign: Callable[[bytes], bytes],
) -> dict[str, str]:
    """The headers that prove a request.

    Args:
        method: such as ``POST``.
        target: path, and query where there is one.
        body: of the request; may be empty.
        host: the fleet's id of this host.
        nonce: that the fleet gave out.
        time: seconds since 1970 UTC.
        sign: signs a message with the request key: r and s of 32 bytes each.
    """
    # Loaded here, by hosts and fleets alone: it costs some 30 ms.
    from http_message_signatures import HTTPMessageSigner, algorithms

    message = Message(method=method, target=target)
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ECDSA_P256_SHA256)
    prepared = signer.prepare(
        message,
        key_id=host,
        created=datetime.fromtimestamp(time, UTC),
        nonce=nonce.hex(),
        label=_LABEL,
        tag=TAG,
        covered_component_ids=COVERED[:3],
        body=body,
    )
    signer.apply(message, prepared, sign(prepared.signature_base))
    return {name.lower(): value for name, value in message.headers.items()}


def claimed_host(untrusted_headers: Mapping[str, str]) -> str:
    """The host that a request says it is from, to find its key by. Believe it only after ``verify_request``.

    Raises:
        RequestUnproven: it names none, or a header is missing or too long.
    """
    for name in HEADERS:
        value = untrusted_headers.get(name, "")
        if not value or len(value) > HEADER_LIMIT:
            raise refused(f"its header {name} is missing or has more than {HEADER_LIMIT} characters")
    found = _KEYID.findall(untrusted_headers["signature-input"])
    if len(found) != 1:
        raise refused("it does not name one host")
    return str(found[0])


def verify_request(
    method: str,
    target: str,
    untrusted_headers: Mapping[str, str],
    key: ec.EllipticCurvePublicKey,
    time: int,
) -> Proven:
    """Verify that the head of a request was signed by a host's key: so nobody reads the bodies of strangers.

    Args:
        method: of the request.
        target: path and query, as they stood in the request.
        untrusted_headers: by lower-case name.
        key: of the host that ``claimed_host`` named.
        time: seconds since 1970 UTC.

    Raises:
        RequestUnproven: it was not, or covers less than it must, or is of another time.
    """
    from http_message_signatures.exceptions import HTTPMessageSignaturesException

    host = claimed_host(untrusted_headers)
    headers = {name: untrusted_headers[name] for name in HEADERS}
    message = Message(method=method, target=target, headers=headers)
    try:
        (result,) = _verifier(host, key, time).verify(message, max_age=None, expect_tag=TAG, require_components=COVERED)
    # Of several signatures with the tag none counts; the others are the library's words for what is malformed.
    except (HTTPMessageSignaturesException, ValueError, KeyError, TypeError) as error:
        raise refused(str(error)[:200] or "its signature does not verify") from error
    parameters, nonce = result.parameters, result.nonce or ""
    if parameters.get("keyid") != host or parameters.get("tag") != TAG:
        raise refused("it names two hosts")
    if not _NONCE.fullmatch(nonce):
        raise refused("it answers no nonce")
    digest = _DIGEST.fullmatch(untrusted_headers["content-digest"])
    if digest is None:
        raise refused("its content digest is not one SHA-256")
    return Proven(host=host, nonce=bytes.fromhex(nonce), digest=base64.b64decode(digest[1]))


@cache
def _verifier_class() -> Any:
    """The library's verifier, with a time that is given and not looked up. Made once: the library is loaded for it."""
    from http_message_signatures import HTTPMessageVerifier

    class GivenTimeVerifier(HTTPMessageVerifier):
        given_time = 0

        def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
            created, now = sig_input.params.get("created"), self.given_time
            if type(created) is not int or "expires" in sig_input.params:
                raise refused("it says no time, or says it in another way")
            if not now - SKEW <= created <= now + SKEW:
                raise refused(f"it was signed at {created}, and now is {now} (seconds since 1970 UTC)")

    return GivenTimeVerifier


def _verifier(host: str, key: ec.EllipticCurvePublicKey, time: int) -> Any:
    from http_message_signatures import MappingKeyResolver, algorithms

    resolver = MappingKeyResolver(public_keys={host: key}, private_keys={})
    verifier = _verifier_class()(signature_algorithm=algorithms.ECDSA_P256_SHA256, key_resolver=resolver)
    verifier.given_time = time
    return verifier


def refused(cause: str) -> RequestUnproven:
    """The error for a request that nobody proved."""
    printable = "".join(c if c.isprintable() else "?" for c in cause)
    return RequestUnproven("the request was refused", cause=printable, remedy="look at the host's clock and enrolment")
