# SPDX-License-Identifier: Apache-2.0
"""Nonces that are answered once, soon, and by the host that they were given to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.errors import Exit
from fleet.errors import NonceRefused
from fleet.nonces import NONCE, NonceBook
from lab.documents import damaged

NOW = 1_800_000_000


def refused(book: NonceBook, host: str, nonce: bytes, now: int = NOW) -> str:
    """Why a nonce is not taken back."""
    with pytest.raises(NonceRefused) as caught:
        book.spend(host, nonce, now)
    assert caught.value.exit == Exit.REFUSED
    return caught.value.cause


def test_a_nonce_is_answered_once() -> None:
    book = NonceBook()
    nonce = book.issue("host-1", NOW)
    assert len(nonce) == NONCE
    book.spend("host-1", nonce, NOW + 1)
    assert refused(book, "host-1", nonce, NOW + 1) == "it was answered before"
    assert refused(book, "host-1", nonce, NOW + 299) == "it was answered before"


def test_a_nonce_is_for_one_host_and_of_one_verifier() -> None:
    book = NonceBook()
    nonce = book.issue("host-1", NOW)
    assert "did not give it" in refused(book, "host-2", nonce)
    assert "did not give it" in refused(NonceBook(), "host-1", nonce)
    book.spend("host-1", nonce, NOW)


@pytest.mark.parametrize(("later", "good"), [(-1, False), (0, True), (299, True), (300, False), (10**9, False)])
def test_a_nonce_counts_for_a_while(later: int, good: bool) -> None:
    book = NonceBook()
    nonce = book.issue("host", NOW)
    if good:
        book.spend("host", nonce, NOW + later)
    else:
        assert "seconds ago" in refused(book, "host", nonce, NOW + later)


def test_giving_out_keeps_nothing_and_answers_are_bounded() -> None:
    book = NonceBook(lifetime=10, most=3)
    nonces = [book.issue("host", NOW) for _ in range(1_000)]
    assert len(book) == 0
    assert len(set(nonces)) == 1_000
    for nonce in nonces[:3]:
        book.spend("host", nonce, NOW + 5)
    assert "no more are remembered" in refused(book, "host", nonces[3], NOW + 9)
    # Those that are too old to be answered again make room, and are refused for their age.
    fresh = book.issue("host", NOW + 10)
    book.spend("host", fresh, NOW + 10)
    assert len(book) == 1
    assert "seconds ago" in refused(book, "host", nonces[0], NOW + 10)


def test_damaged_nonces_are_nobodys() -> None:
    book = NonceBook()
    nonce = book.issue("host", NOW)
    for other in damaged(nonce):
        if other != nonce:
            refused(book, "host", other)
    book.spend("host", nonce, NOW)


@given(st.binary(max_size=80))
def test_made_up_nonces_are_refused(untrusted: bytes) -> None:
    refused(NonceBook(), "host", untrusted)
