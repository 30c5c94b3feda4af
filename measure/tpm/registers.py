# SPDX-License-Identifier: Apache-2.0
"""The TPM's registers and clock, and what the TPM says that it is.

Source: TPM 2.0 Library Part 3, clauses 22 (integrity collection), 29 (clocks) and 30 (capabilities).

This module judges no value.
"""

from __future__ import annotations

from collections.abc import Iterable

import tpm2_pytss as tss

from measure.pcr import ALGORITHMS, measure
from measure.responses import bank_names, failed
from measure.structures import Clock, says_software, unmarshal
from measure.tpm.handles import Handles, translated


class Registers(Handles):
    """Reads and extends registers."""

    def software(self) -> bool:
        """Whether the TPM says that it is a program: assurance level L0. It is asked once in a connection."""
        with self.lock, translated("the TPM was not identified"):
            if self._says_software is None:
                # TPM2_PT_MANUFACTURER and VENDOR_STRING_1 to 4 (Part 2, 6.13). The parent stays referenced meanwhile.
                _, capability = self._esys.get_capability(tss.TPM2_CAP.TPM_PROPERTIES, 0x105, 5)
                found = capability.data.tpmProperties
                self._says_software = says_software([int(found[i].value) for i in range(found.count)])
            return self._says_software

    def banks(self) -> tuple[str, ...]:
        """The active PCR banks, sorted by name.

        Raises:
            TpmFailed: one of them has an algorithm that vmgate cannot extend, so that it would stay open to forgery.
        """
        with self.lock, translated("the PCR banks were not read"):
            if not self._banks:
                _, capability = self._esys.get_capability(tss.TPM2_CAP.PCRS, 0, 1)
                found = capability.data.assignedPCR
                active = {int(found[i].hash) for i in range(found.count) if any(bytes(found[i].pcrSelect))}
                self._banks = bank_names(active)
            return self._banks

    def clock(self) -> Clock:
        """The TPM's clock and how often it was started."""
        with self.lock, translated("the TPM's clock was not read"):
            return Clock.of(self._esys.read_clock().clockInfo)

    def read_pcrs(self, alg: str, indexes: Iterable[int]) -> dict[int, bytes]:
        """The values of some PCRs of one bank.

        Raises:
            TpmFailed: the TPM has not all of them.
        """
        wanted = sorted(set(indexes))
        values: dict[int, bytes] = {}
        with self.lock, translated("the PCRs were not read"):
            # One command gives at most eight values.
            for start in range(0, len(wanted), 8):
                part = wanted[start : start + 8]
                _, _, digests = self._esys.pcr_read(f"{alg}:{','.join(map(str, part))}")
                if digests.count != len(part):
                    raise failed("the PCRs were not read", f"the TPM has no such PCR in bank {alg}")
                values |= {index: bytes(digests[i]) for i, index in enumerate(part)}
        return values

    def extend(self, pcr: int, content: bytes) -> None:
        """Extend a PCR with the digest of ``content``, in all active banks at once.

        A bank that was left out could be extended to any value later, and quoted.
        """
        with self.lock:
            digests = b"".join(ALGORITHMS[a].to_bytes(2, "big") + measure(a, content) for a in self.banks())
            values = unmarshal(tss.TPML_DIGEST_VALUES, len(self.banks()).to_bytes(4, "big") + digests)
            with translated(f"PCR {pcr} was not extended"):
                self._esys.pcr_extend(tss.ESYS_TR(pcr), values)
