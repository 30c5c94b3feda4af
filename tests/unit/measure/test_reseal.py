# SPDX-License-Identifier: Apache-2.0
"""When the host's key is sealed anew, and under which terms. What then opens is shown with a TPM, in integration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.host_state import SealedKey
from documents.sealed import SealedAhead, SealedFloor
from lab.measuring import CHANNEL, PUBLISHER, Signer
from measure.reseal import Step, Wanted, due, terms

FLOOR = SealedFloor(root=3, releases=(("platform", 5),))
NOW, THEN = ((7, "11" * 32),), ((7, "22" * 32),)
SEALED = SealedKey(
    public=b"", private=b"", channel=CHANNEL, epoch=2, counter=9, key=PUBLISHER.public(), local_pcrs=(7,), floor=FLOOR
)
AHEAD = replace(SEALED, ahead=(SealedAhead(public=b"", private=b"", pcrs=THEN),))
WANTED = Wanted(channel=CHANNEL, epoch=2, key=PUBLISHER.public(), local_pcrs=(7,), ahead=(), floor=FLOOR)
OTHER = Signer("other").public()


@pytest.mark.parametrize(
    ("sealed", "wanted", "arrived", "step", "why"),
    [
        (SEALED, WANTED, False, Step.NONE, ""),
        (SEALED, replace(WANTED, epoch=1, local_pcrs=(), key=OTHER), False, Step.NONE, ""),
        (SEALED, replace(WANTED, epoch=1, floor=SealedFloor(root=9)), True, Step.NONE, ""),
        (SEALED, replace(WANTED, key=OTHER), False, Step.NONE, ""),
        (SEALED, replace(WANTED, local_pcrs=()), False, Step.NONE, ""),
        (SEALED, replace(WANTED, floor=SealedFloor(root=3, releases=(("platform", 6),))), False, Step.NONE, ""),
        (AHEAD, replace(WANTED, ahead=(THEN,)), False, Step.NONE, ""),
        (SEALED, replace(WANTED, ahead=(THEN,)), False, Step.ADD, "is announced"),
        (AHEAD, replace(WANTED, ahead=(NOW, THEN)), False, Step.ADD, "is announced"),
        (AHEAD, WANTED, False, Step.SHUT, "announced no more"),
        (AHEAD, replace(WANTED, ahead=(THEN,)), True, Step.SHUT, "has come"),
        (SEALED, replace(WANTED, epoch=3), False, Step.SHUT, "epoch rose to 3"),
        (replace(SEALED, local_pcrs=()), WANTED, False, Step.SHUT, "judges PCR 7"),
        (replace(SEALED, floor=None), WANTED, False, Step.SHUT, "root has version 3"),
        (SEALED, replace(WANTED, floor=SealedFloor(root=4)), False, Step.SHUT, "root has version 4"),
    ],
)
def test_what_is_due(sealed: SealedKey, wanted: Wanted, arrived: bool, step: Step, why: str) -> None:
    found, told = due(sealed, wanted, arrived=arrived)
    assert found is step
    assert why in told
    assert (step is Step.NONE) == (told == "")


def test_the_policy_key_and_the_floor_of_releases_change_with_the_epoch_only() -> None:
    newer = SealedFloor(root=4, releases=(("platform", 7),))
    same = terms(SEALED, replace(WANTED, key=OTHER, floor=newer), 9)
    assert (same.key, same.epoch, same.floor) == (PUBLISHER.public(), 2, replace(newer, releases=FLOOR.releases))
    risen = terms(SEALED, replace(WANTED, key=OTHER, floor=newer, epoch=3), 9)
    assert (risen.key, risen.epoch, risen.floor) == (OTHER, 3, newer)


@given(
    st.integers(1, 9),
    st.integers(9, 2**40),
    st.sets(st.integers(0, 23), max_size=3),
    st.integers(1, 9),
)
def test_nothing_of_the_terms_ever_weakens(epoch: int, counter: int, local: set[int], root: int) -> None:
    wanted = replace(WANTED, epoch=epoch, local_pcrs=tuple(sorted(local)), floor=SealedFloor(root=root))
    found = terms(SEALED, wanted, counter)
    assert found.epoch == max(2, epoch)
    assert found.counter == counter + 1 > SEALED.counter
    assert set(found.local_pcrs) == {7, *local}
    assert found.floor is not None
    assert found.floor.root == max(3, root)


def test_a_raise_that_was_not_finished_comes_first() -> None:
    with pytest.raises(ValueError, match="has not followed"):
        terms(SEALED, WANTED, 8)
