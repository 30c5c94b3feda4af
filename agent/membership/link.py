# SPDX-License-Identifier: Apache-2.0
"""The way to a fleet: questions, which the TPM's request key signs, and answers, which are bounded and read strictly.

Believes nobody but whom the certificates of the enrolment vouch for. This module decides nothing and keeps nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from agent.membership.errors import FleetRefused, FleetStrange
from documents.document import Document
from documents.enrolment import Enrolled, Membership
from documents.errors import DocumentError
from documents.fleet_answers import NonceGrant, Refusal
from keys.http_signature import sign_request
from measure.structures import parse_signature
from measure.tpm import Tpm

D = TypeVar("D", bound=Document)
OK: Final = 200


class Asks(Protocol):
    """What carries a question to the fleet (``updater.client.exchange``)."""

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None, *, limit: int
    ) -> tuple[int, bytes]:
        """The answer's status and body."""


class Link:
    """The way of an enrolled host.

    Args:
        exchange: carries.
        membership: of this host.
        tpm: holds the request key.
        clock: gives seconds since 1970 UTC.
    """

    def __init__(self, exchange: Asks, membership: Membership, tpm: Tpm, clock: Callable[[], int]) -> None:
        self._exchange = exchange
        self._membership = membership
        self._tpm = tpm
        self._clock = clock
        self._host = Enrolled.parse(membership.enrolled).host

    def signed(self, name: str, make: Callable[[bytes], bytes], kind: type[D]) -> D:
        """Ask something as this host.

        Args:
            name: the last part of the path.
            make: makes the body, given the nonce that it may have to answer.
            kind: of the answer.

        Raises:
            FleetRefused: the fleet said no.
            FleetStrange: the answer is none.
            UpdaterError: there was none.
        """
        place = f"/v1/hosts/{self._host}"
        nonce = ask(self._exchange, "GET", f"{place}/nonce", b"", NonceGrant).nonce
        body, target = make(nonce), f"{place}/{name}"
        headers = sign_request("POST", target, body, host=self._host, nonce=nonce, time=self._clock(), sign=self._sign)
        return ask(self._exchange, "POST", target, body, kind, headers)

    def _sign(self, message: bytes) -> bytes:
        key, digest = self._membership, hashlib.sha256(message).digest()
        signature = parse_signature(self._tpm.sign_digest(key.public, key.private, b"", digest))
        r, s = decode_dss_signature(signature.value)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def ask(
    exchange: Asks, method: str, target: str, body: bytes, kind: type[D], headers: dict[str, str] | None = None
) -> D:
    """Ask a fleet, and read its answer.

    Raises:
        FleetRefused: it said no.
        FleetStrange: the answer is none.
        UpdaterError: there was none.
    """
    status, untrusted = exchange.ask(method, target, body, headers, limit=max(kind.LIMIT, Refusal.LIMIT))
    try:
        if status == OK:
            return kind.parse(untrusted)
        refusal = Refusal.parse(untrusted)
    except DocumentError as error:
        raise FleetStrange(
            "the fleet's answer was not used", cause=f"HTTP {status}: {error.cause}", remedy="check the address"
        ) from error
    raise FleetRefused(
        "the fleet said no", cause=f"{refusal.code}: {refusal.error}", remedy=f"see `vmgate explain {refusal.code}`"
    )
