# SPDX-License-Identifier: Apache-2.0
"""Deltas give the new artifact from the old one, whatever moved; what is no delta is refused with one error."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from content.fsverity import BLOCK, digest_bytes, hash_blocks
from lab import images
from lab.deltas import PACK, apply, make
from updater.delta import GROUP, LITERAL, ZEROS, Group, Literals, Plan, Run
from updater.errors import PackMalformed
from updater.repository.differ import compare, groups, joined


@pytest.mark.parametrize("change", [images.edited, images.moved, images.patched, lambda image: image])
def test_a_delta_gives_the_new_image(change) -> None:
    base = images.first()
    new = change(base)
    delta, head = make(new, base)
    assert apply(delta, head, base, len(new)) == new
    assert len(delta) < len(new) // 50


def test_a_changed_word_costs_bytes_and_not_blocks() -> None:
    base = images.first()
    delta, _ = make(images.patched(base), base)
    assert len(delta) < 300


@given(
    st.lists(st.integers(0, 9), max_size=300),
    st.lists(st.integers(0, 9), min_size=1, max_size=300),
    st.integers(0, BLOCK),
)
@settings(max_examples=60)
def test_any_image_comes_out_of_any_other(base: list[int], new: list[int], cut: int) -> None:
    alphabet = [bytes(BLOCK), *images.blocks(9, 4)]
    before = b"".join(alphabet[i] for i in base)
    after = b"".join(alphabet[i] for i in new)[: len(new) * BLOCK - min(cut, BLOCK - 1)]
    delta, head = make(after, before)
    assert digest_bytes(apply(delta, head, before, len(after))) == digest_bytes(after)


def test_what_changed_wholly_comes_in_groups_of_bounded_size() -> None:
    dice = random.Random(5)
    base = b"".join(dice.randbytes(16) * (BLOCK // 16) for _ in range(GROUP + 40))
    new = b"".join(dice.randbytes(16) * (BLOCK // 16) for _ in range(GROUP + 50))
    difference = compare(hash_blocks(new), hash_blocks(base))
    made = list(groups(difference))
    assert [len(numbers) for numbers, _ in made] == [GROUP, 50]
    assert all(sum(run.count for run in prefix) <= GROUP for _, prefix in made)
    delta, head = make(new, base)
    assert apply(delta, head, base, len(new)) == new


def test_finished_groups_are_not_read_again() -> None:
    plan = Plan(
        runs=(Run(count=2, source=LITERAL),),
        groups=(Group(blocks=1, length=7, prefix=()), Group(blocks=1, length=len(PACK(b"b" * BLOCK)), prefix=())),
    )
    read = []

    def group(start: int, length: int) -> bytes:
        read.append((start, length))
        return PACK(b"b" * BLOCK)

    literals = Literals(plan, 100, lambda *_: b"", group)
    assert literals.blocks(1, 1) == b"b" * BLOCK
    assert [start for start, _ in read] == [107]


RUNS = st.builds(Run, count=st.integers(1, 2**20), source=st.integers(0, 2**31) | st.sampled_from([LITERAL, ZEROS]))
PREFIX = st.lists(st.builds(Run, count=st.integers(1, 50), source=st.integers(0, 2**31)), max_size=4).map(tuple)
GROUPS = st.builds(Group, blocks=st.integers(1, GROUP), length=st.integers(1, 1000), prefix=PREFIX)


@given(st.lists(RUNS, min_size=1, max_size=20), st.lists(GROUPS, max_size=5))
def test_a_head_says_the_same_when_read(runs: list[Run], made: list[Group]) -> None:
    blocks = sum(group.blocks for group in made)
    runs = [run for run in runs if run.source != LITERAL] + ([Run(count=blocks, source=LITERAL)] if blocks else [])
    plan = Plan(runs=tuple(runs), groups=tuple(made))
    assert Plan.parse(plan.encode(PACK), sum(run.count for run in runs) * BLOCK) == plan


MOVED = (*make(images.moved(images.first()), images.first()), len(images.moved(images.first())))


@given(st.data())
@settings(max_examples=200)
def test_a_mutated_head_is_a_plan_or_one_error(data: st.DataObject) -> None:
    delta, head, length = MOVED
    untrusted = bytearray(delta[:head])
    for _ in range(data.draw(st.integers(1, 4))):
        untrusted[data.draw(st.integers(0, head - 1))] = data.draw(st.integers(0, 255))
    try:
        Plan.parse(bytes(untrusted[: data.draw(st.integers(0, head))]), length)
    except PackMalformed:
        return


@pytest.mark.parametrize(
    ("runs", "made", "why"),
    [
        ((Run(count=1, source=0),), (), "the whole artifact"),
        ((Run(count=0, source=0), Run(count=10, source=0)), (), "impossible run"),
        ((Run(count=10, source=ZEROS - 1),), (), "impossible run"),
        ((Run(count=10, source=LITERAL),), (), "not as many literals"),
        ((Run(count=10, source=LITERAL),), (Group(blocks=10, length=0, prefix=()),), "beyond the bounds"),
        ((Run(count=10, source=0),), (Group(blocks=GROUP + 1, length=9, prefix=()),), "beyond the bounds"),
        (
            (Run(count=10, source=LITERAL),),
            (Group(blocks=10, length=9, prefix=(Run(count=GROUP + 1, source=0),)),),
            "impossible prefix",
        ),
        (
            (Run(count=10, source=LITERAL),),
            (Group(blocks=10, length=9, prefix=(Run(count=1, source=ZEROS),)),),
            "impossible prefix",
        ),
        (
            (Run(count=10, source=LITERAL),),
            (Group(blocks=1, length=9, prefix=(Run(count=200, source=0),)),) * 10,
            "more of its base",
        ),
    ],
)
def test_an_impossible_head_is_refused(runs: tuple[Run, ...], made: tuple[Group, ...], why: str) -> None:
    with pytest.raises(PackMalformed, match=why):
        Plan.parse(Plan(runs=runs, groups=made).encode(PACK), 10 * BLOCK)


def test_numbers_that_follow_each_other_are_one_run() -> None:
    assert joined([3, 4, 5, 9]) == (Run(count=3, source=3), Run(count=1, source=9))
