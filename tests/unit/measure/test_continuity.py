# SPDX-License-Identifier: Apache-2.0
"""What counts of a TPM and a kernel say about a boot. Real starts of a TPM are in ``integration/test_continuity``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from documents.boot_state import BootState
from measure.continuity import LEAST_SLEEP_NS, Clocks, has_slept, is_kexec, why_broken

ONE = BootState(boot="11111111-2222-3333-4444-555555555555", resets=5, restarts=2)
OTHER = replace(ONE, boot="99999999-2222-3333-4444-555555555555")


@pytest.mark.parametrize(
    ("now", "in_step", "word"),
    [
        (ONE, True, ""),
        (replace(ONE, restarts=3), True, ""),
        (replace(ONE, restarts=9), True, ""),
        (replace(ONE, restarts=3), False, "after a sleep"),
        (ONE, False, "not what was measured"),
        (replace(ONE, resets=6, restarts=0), True, "reset under the running kernel"),
        (replace(ONE, resets=4), True, "reset under the running kernel"),
        (replace(ONE, restarts=1), True, "another one than before"),
        (OTHER, True, "another kernel"),
    ],
)
def test_only_a_sleep_that_kept_everything_goes_on(now: BootState, in_step: bool, word: str) -> None:
    why = why_broken(ONE, now, in_step=in_step)
    assert bool(why) == bool(word)
    assert word in why


def test_another_kernel_under_the_same_start_of_the_tpm_came_by_kexec() -> None:
    assert is_kexec(ONE, OTHER)
    assert not is_kexec(ONE, replace(OTHER, resets=6))
    assert not is_kexec(ONE, ONE)
    assert not is_kexec(None, ONE)


def test_only_a_jump_between_the_clocks_is_a_sleep() -> None:
    before = Clocks(boottime=1_000, monotonic=1_000)
    assert not has_slept(before, Clocks(boottime=10**12 + 1_000, monotonic=10**12 + 900))
    assert not has_slept(before, Clocks(boottime=10**9 + LEAST_SLEEP_NS - 1, monotonic=10**9))
    assert has_slept(before, Clocks(boottime=10**9 + LEAST_SLEEP_NS, monotonic=10**9))
