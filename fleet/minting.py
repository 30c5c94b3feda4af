# SPDX-License-Identifier: Apache-2.0
"""Nonces that say by themselves when they were made and for which host, under a key of the verifier's.

Giving one out keeps nothing: whoever asks for many fills no memory and no database. That one is answered once only is
the business of who remembers the answers (``fleet.nonces``, ``fleet.attestations``). Pure; no clock.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from fleet.errors import NonceRefused

LIFETIME: Final = 300
"""Seconds: a chip quotes in half of one, and an IMA list takes a slow line a while."""

_TIME, _RANDOM, _TAG = 8, 8, 16
NONCE: Final = _TIME + _RANDOM + _TAG
"""Bytes; the smallest chips take 34."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A nonce that came back in time.

    Attributes:
        head: what to remember it by, 16 bytes.
        expires: when it need not be remembered any longer, in seconds since 1970 UTC.
    """

    head: bytes
    expires: int


class Mint:
    """Makes and knows nonces.

    Args:
        key: 32 secret bytes; who shares it shares the nonces.
        lifetime: seconds for which a nonce may be answered.
    """

    def __init__(self, key: bytes, lifetime: int = LIFETIME) -> None:
        self._key = key
        self._lifetime = lifetime

    def issue(self, host: str, now: int) -> bytes:
        """A nonce that only this host may answer, once and soon."""
        head = now.to_bytes(_TIME, "big") + secrets.token_bytes(_RANDOM)
        return head + self._tag(host, head)

    def check(self, host: str, untrusted_nonce: bytes, now: int) -> Answered:
        """Know a nonce again.

        Raises:
            NonceRefused: it is none of these, another host's, too old, or of the future.
        """
        head, tag = untrusted_nonce[: _TIME + _RANDOM], untrusted_nonce[_TIME + _RANDOM :]
        if len(untrusted_nonce) != NONCE or not hmac.compare_digest(tag, self._tag(host, head)):
            raise refused("this verifier did not give it to this host")
        made = int.from_bytes(head[:_TIME], "big")
        if not made <= now < made + self._lifetime:
            raise refused(f"it was given out {now - made} seconds ago and counts for {self._lifetime}")
        return Answered(head=head, expires=made + self._lifetime)

    def _tag(self, host: str, head: bytes) -> bytes:
        return hmac.digest(self._key, head + host.encode(), hashlib.sha256)[:_TAG]


def refused(cause: str) -> NonceRefused:
    """The error for a nonce that does not count."""
    return NonceRefused("the evidence was not looked at", cause=cause, remedy="ask for a new nonce and answer that")
