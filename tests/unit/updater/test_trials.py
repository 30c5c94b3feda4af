# SPDX-License-Identifier: Apache-2.0
"""A trial is of one generation, counted before it runs, and nobody's once it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from documents.errors import DocumentError, DocumentNewer
from updater.client.trials import Trials


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path / "update-trial")


def test_each_beginning_is_counted_and_what_worked_is_kept(trials: Trials) -> None:
    trials.announce(3, ["vm/hello", "libvirt", "vm/hello"])
    assert trials.of(3).worked == ("libvirt", "vm/hello")
    assert [trials.begin(3).begun for _ in range(4)] == [1, 2, 3, 4]
    assert trials.of(3).worked == ("libvirt", "vm/hello")


def test_a_trial_of_another_generation_says_nothing(trials: Trials) -> None:
    trials.announce(3, ["libvirt"])
    trials.begin(3)
    assert (trials.of(4).begun, trials.of(4).worked) == (0, ())


def test_without_one_nothing_is_to_be_shown(trials: Trials) -> None:
    assert (trials.of(1).begun, trials.of(1).worked) == (0, ())
    trials.announce(1, ["libvirt"])
    trials.end()
    trials.end()
    assert trials.of(1).worked == ()


def test_a_damaged_one_is_no_trial_that_was_passed(trials: Trials, tmp_path: Path) -> None:
    trials.announce(3, ["libvirt"])
    path = tmp_path / "update-trial"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    with pytest.raises(DocumentError):
        trials.of(3)
    path.write_bytes(good.replace(b'"version":1', b'"version":2'))
    with pytest.raises(DocumentNewer):
        trials.begin(3)
