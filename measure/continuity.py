# SPDX-License-Identifier: Apache-2.0
"""Whether kernel, TPM and log still tell of one boot. This module does no I/O.

What a TPM does at its start (TPM 2.0 Library Part 1, 12.2.3 and 36.3):

 ========== ======================= ============ ============== =====
 start      before                  resetCount   restartCount   PCRs
 ========== ======================= ============ ============== =====
 Reset      no Shutdown(STATE)      one more     0              reset
 Restart    Shutdown(STATE)         the same     one more       reset
 Resume     Shutdown(STATE), and    the same     one more       kept
            Startup(STATE)
 ========== ======================= ============ ============== =====

Linux says Shutdown(STATE) before it sleeps (S3) and the firmware Startup(STATE) after it. Hibernation takes the power,
and wakes by a Reset under the same kernel. kexec starts another kernel, and the TPM goes on. So the counts alone do not
tell: whether the PCRs are still what the log replays to decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from documents.boot_state import BootState

LEAST_SLEEP_NS = 100_000_000
"""Nanoseconds. Two readings one after the other differ by less, and no sleep is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Two of the kernel's clocks, read one after the other, in nanoseconds.

    Attributes:
        boottime: CLOCK_BOOTTIME, which goes on while the machine sleeps (clock_gettime(2)).
        monotonic: CLOCK_MONOTONIC, which does not.
    """

    boottime: int
    monotonic: int


def has_slept(before: Clocks, after: Clocks) -> bool:
    """Whether the machine slept or hibernated between two readings."""
    return (after.boottime - before.boottime) - (after.monotonic - before.monotonic) >= LEAST_SLEEP_NS


def why_broken(before: BootState, now: BootState, *, in_step: bool) -> str:
    """What broke a boot off, for people; empty if it is still the same.

    Args:
        before: noted earlier in this boot.
        now: as it is.
        in_step: whether the TPM's PCRs are what the log of this boot replays to.
    """
    if now.boot != before.boot:
        return "another kernel runs than the one that measured"
    if now.resets != before.resets:
        return "the TPM was reset under the running kernel, as by hibernation"
    if now.restarts < before.restarts:
        return "the TPM is another one than before"
    if not in_step:
        return "the TPM's PCRs are not what was measured" + (
            ", after a sleep" if now.restarts > before.restarts else ""
        )
    return ""


def is_kexec(last: BootState | None, now: BootState) -> bool:
    """Whether PCRs that are in use tell of another kernel before this one, under the same start of the TPM."""
    return last is not None and last.boot != now.boot and last.resets == now.resets
