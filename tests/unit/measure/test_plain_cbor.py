# SPDX-License-Identifier: Apache-2.0
"""Plain CBOR is let through as a decoder reads it; all else is found before a decoder could do what it asks for."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.corims import cbor, head, tag
from measure.formats.plain_cbor import MAX_DEPTH, flaw

LEAVES = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=60)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 100), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_plain_is_let_through(value: Any) -> None:
    assert not flaw(cbor(value), ())
    assert not flaw(tag(501, cbor(value)), {501})
    assert cbor2.loads(cbor(value)) == value


@given(VALUES)
def test_it_may_not_be_cut_off_nor_go_on(value: Any) -> None:
    data = cbor(value)
    assert all(flaw(data[:length], ()) for length in range(len(data)))
    assert flaw(data + b"\0", ())


@given(st.binary(max_size=60))
def test_whatever_passes_can_be_decoded_or_is_refused_by_the_decoder(data: bytes) -> None:
    if not flaw(data, ()):
        # A text that is no UTF-8, or a list as a key; nothing else, and nothing that takes long.
        with suppress(cbor2.CBORError, ValueError, TypeError):
            cbor2.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1f",
        b"\x5f\x41a\xff",
        b"\x9f\xff",
        b"\xbf\xff",
        b"\x1c",
        b"\xf4",
        b"\xf6",
        b"\xf9\0\0",
        b"\xff",
        tag(501, cbor(1)),
        tag(28, cbor([])),
        head(4, 2**63),
        head(5, 2**63),
        head(2, 2**64 - 1),
        head(4, 2) + b"\0",
        b"\x81" * (MAX_DEPTH + 1) + b"\0",
        b"\x81" * 1_000_000,
    ],
)
def test_what_is_not_plain_is_found(data: bytes) -> None:
    assert flaw(data, {506})
