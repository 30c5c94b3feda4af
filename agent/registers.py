# SPDX-License-Identifier: Apache-2.0
"""The TPM's registers as an appraisal needs them, read with as few commands as a real chip's pace asks for.

One command gives eight registers, and an appraisal of what ran before vmgate needs fourteen. Six of them are the
firmware's and its set-up's: they tell of the past, and an extend cannot take from a register what it told. Those are
remembered from the last whole reading of this agent; all others are read each time. This module judges nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from measure.pcr import BOOT_PCRS, LAUNCH_PCR, VMM_PCR

BANK = "sha256"
OWN = (LAUNCH_PCR, VMM_PCR)
WATCHED = (0, 4, 7, 9, 10, 11, *OWN)
"""Read each time: firmware, what was booted, Secure Boot and the initrd, which together tell one boot from another;
IMA's list and the boot's phase, which grow; and vmgate's own. As many as one TPM2_PCR_Read gives."""

ONE_BOOT = (0, 4, 7, 9)
"""Those of them that have no reason to change in a boot: if one does, all are read again."""

REST = tuple(index for index in BOOT_PCRS if index not in WATCHED)


class ReadableTpm(Protocol):
    """The part of a TPM that this needs; ``measure.tpm.Tpm`` is one."""

    def read_pcrs(self, alg: str, indexes: Collection[int]) -> dict[int, bytes]:
        """Values of PCRs of one bank."""
        ...


class Registers:
    """The registers of one TPM in one boot. The caller holds the TPM's lock."""

    def __init__(self, tpm: ReadableTpm) -> None:
        self._tpm = tpm
        self._whole: dict[int, bytes] = {}

    def read(self, *, boot: bool, anew: bool) -> dict[int, bytes]:
        """The values of PCR 12 and 13 (SHA-256 bank) and, with ``boot``, of PCR 0 to 11.

        Args:
            boot: whether what ran before vmgate is asked for.
            anew: whether all of it is read, and not only what may have changed.
        """
        if not boot:
            return self._tpm.read_pcrs(BANK, OWN)
        values = self._tpm.read_pcrs(BANK, WATCHED)
        if anew or any(self._whole.get(index) != values[index] for index in ONE_BOOT):
            self._whole = values | self._tpm.read_pcrs(BANK, REST)
        return {index: self._whole[index] for index in REST} | values
