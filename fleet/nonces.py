# SPDX-License-Identifier: Apache-2.0
"""Nonces of a verifier that runs on: given out, answered once, and worth nothing after a while.

A nonce tells by itself when it was made and for which host, under a key of the verifier's, so that giving one out keeps
nothing: whoever asks for many fills no memory. Only those that came back are remembered, until they are too old anyway.
This module has no clock, and does not look at evidence.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final, Protocol

from fleet.errors import NonceRefused

LIFETIME: Final = 300
"""Seconds: a chip quotes in half of one, and an IMA list takes a slow line a while."""

MOST: Final = 200_000
"""How many answered nonces are remembered; with ``LIFETIME`` that is 666 verifications a second."""

_TIME, _RANDOM, _TAG = 8, 8, 16
NONCE: Final = _TIME + _RANDOM + _TAG
"""Bytes; the smallest chips take 34."""


class Spends(Protocol):
    """Who gives out nonces and takes each back once. Several verifiers need one that they share."""

    def issue(self, host: str, now: int) -> bytes:
        """A fresh nonce for a host."""

    def spend(self, host: str, untrusted_nonce: bytes, now: int) -> None:
        """Take a nonce back, or raise ``NonceRefused``."""


class NonceBook:
    """The nonces of one process.

    Args:
        lifetime: seconds for which a nonce may be answered.
        most: how many answered ones are remembered; when there are more, answers are refused until some are too old.
    """

    def __init__(self, lifetime: int = LIFETIME, most: int = MOST) -> None:
        self._key = secrets.token_bytes(32)
        self._lifetime = lifetime
        self._most = most
        self._spent: dict[bytes, int] = {}
        self._swept = 0

    def __len__(self) -> int:
        return len(self._spent)

    def issue(self, host: str, now: int) -> bytes:
        """A nonce that only this host may answer, once and soon."""
        head = now.to_bytes(_TIME, "big") + secrets.token_bytes(_RANDOM)
        return head + self._tag(host, head)

    def spend(self, host: str, untrusted_nonce: bytes, now: int) -> None:
        """Let a nonce be answered, and never again. Call this before the evidence is looked at.

        Raises:
            NonceRefused: it is none of this book's, another host's, too old, of the future, or was answered before; or
                there is no room to remember that it was.
        """
        head, tag = untrusted_nonce[: _TIME + _RANDOM], untrusted_nonce[_TIME + _RANDOM :]
        if len(untrusted_nonce) != NONCE or not hmac.compare_digest(tag, self._tag(host, head)):
            raise _refused("this verifier did not give it to this host")
        made = int.from_bytes(head[:_TIME], "big")
        if not made <= now < made + self._lifetime:
            raise _refused(f"it was given out {now - made} seconds ago and counts for {self._lifetime}")
        self._forget(now)
        if head in self._spent:
            raise _refused("it was answered before")
        if len(self._spent) >= self._most:
            raise _refused(f"{self._most} answers came in {self._lifetime} seconds, and no more are remembered")
        self._spent[head] = made + self._lifetime

    def _forget(self, now: int) -> None:
        """Drop those that are too old to be answered again; at most once a second, since it looks at all."""
        if len(self._spent) >= self._most and now != self._swept:
            self._swept = now
            self._spent = {head: expires for head, expires in self._spent.items() if now < expires}

    def _tag(self, host: str, head: bytes) -> bytes:
        return hmac.digest(self._key, head + host.encode(), hashlib.sha256)[:_TAG]


def _refused(cause: str) -> NonceRefused:
    return NonceRefused("the evidence was not looked at", cause=cause, remedy="ask for a new nonce and answer that")
