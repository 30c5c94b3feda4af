# SPDX-License-Identifier: Apache-2.0
"""Over any time no more bytes pass than the limit allows, and hardly fewer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.client.bandwidth import BURST, LEAST_PIECE, Bandwidth


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


rates = st.integers(min_value=1, max_value=10**9)
transfers = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**6)), max_size=40)


@given(rates, transfers)
def test_no_more_than_the_rate_and_a_burst(rate: int, transfers: list[tuple[float, int]]) -> None:
    clock = Clock()
    bandwidth = Bandwidth(rate, clock.read, clock.sleep)
    began, total = clock.now, 0
    for pause, count in transfers:
        clock.now += pause
        bandwidth.take(count)
        total += count
        assert total <= rate * (clock.now - began + BURST) * 1.000001 + 1


@given(rates, st.lists(st.integers(1, 10**6), min_size=1, max_size=40))
def test_who_is_always_ready_gets_the_whole_rate(rate: int, counts: list[int]) -> None:
    clock = Clock()
    bandwidth = Bandwidth(rate, clock.read, clock.sleep)
    for count in counts:
        bandwidth.take(count)
    assert clock.slept == pytest.approx(sum(counts) / rate, rel=1e-6, abs=1e-6)


def test_two_share_one_limit() -> None:
    """The one waits for what the other took, as two threads do that sleep at the same time."""
    clock = Clock()
    waits: list[float] = []
    bandwidth = Bandwidth(1000, clock.read, waits.append)
    bandwidth.take(1000)
    bandwidth.take(1000)
    assert waits == [pytest.approx(1.0), pytest.approx(2.0)]


def test_pieces_are_small_enough_to_flow_evenly() -> None:
    assert Bandwidth(1).piece == LEAST_PIECE
    assert Bandwidth(1_000_000).piece == 250_000


@pytest.mark.parametrize("rate", [0, -1])
def test_no_rate_is_not_a_limit(rate: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Bandwidth(rate)
