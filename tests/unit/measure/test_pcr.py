# SPDX-License-Identifier: Apache-2.0
"""How a PCR is extended."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measure.pcr import ALGORITHMS, digest_size, extend, measure, reset_value


@given(st.sampled_from(sorted(ALGORITHMS)), st.binary(max_size=100), st.binary(max_size=100))
def test_extending_hashes_the_old_value_and_the_digest(alg: str, first: bytes, second: bytes) -> None:
    zero = reset_value(alg, 13)
    once = extend(alg, zero, measure(alg, first))
    twice = extend(alg, once, measure(alg, second))
    inner = hashlib.new(alg, zero + hashlib.new(alg, first).digest()).digest()
    assert twice == hashlib.new(alg, inner + hashlib.new(alg, second).digest()).digest()
    assert len(twice) == digest_size(alg)


def test_a_value_of_another_bank_is_a_bug() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        extend("sha256", bytes(20), bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        extend("sha256", bytes(32), bytes(20))


def test_only_dynamic_pcrs_start_with_ones() -> None:
    ones = [index for index in range(24) if reset_value("sha256", index) != bytes(32)]
    assert ones == [17, 18, 19, 20, 21, 22]
