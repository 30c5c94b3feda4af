# SPDX-License-Identifier: Apache-2.0
"""Nonces of a verifier that runs on in one process: given out, answered once, and worth nothing after a while.

Only those that came back are remembered, until they are too old anyway (``fleet.minting``). Several processes share a
database instead (``fleet.attestations``). This module has no clock, and does not look at evidence.
"""

from __future__ import annotations

import secrets
from typing import Final, Protocol

from fleet.minting import LIFETIME, NONCE, Mint, refused

__all__ = ["LIFETIME", "MOST", "NONCE", "NonceBook", "Spends"]

MOST: Final = 200_000
"""How many answered nonces are remembered; with ``LIFETIME`` that is 666 verifications a second."""


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
        self._mint = Mint(secrets.token_bytes(32), lifetime)
        self._most = most
        self._spent: dict[bytes, int] = {}
        self._swept = 0

    def __len__(self) -> int:
        return len(self._spent)

    def issue(self, host: str, now: int) -> bytes:
        """A nonce that only this host may answer, once and soon."""
        return self._mint.issue(host, now)

    def spend(self, host: str, untrusted_nonce: bytes, now: int) -> None:
        """Let a nonce be answered, and never again. Call this before the evidence is looked at.

        Raises:
            NonceRefused: it is none of this book's, another host's, too old, of the future, or was answered before; or
                there is no room to remember that it was.
        """
        answered = self._mint.check(host, untrusted_nonce, now)
        self._forget(now)
        if answered.head in self._spent:
            raise refused("it was answered before")
        if len(self._spent) >= self._most:
            raise refused(f"{self._most} answers came in a short time, and no more are remembered")
        self._spent[answered.head] = answered.expires

    def _forget(self, now: int) -> None:
        """Drop those that are too old to be answered again; at most once a second, since it looks at all."""
        if len(self._spent) >= self._most and now != self._swept:
            self._swept = now
            self._spent = {head: expires for head, expires in self._spent.items() if now < expires}
