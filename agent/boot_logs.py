# SPDX-License-Identifier: Apache-2.0
"""What the kernel keeps of the time before vmgate: the firmware's boot log and its own IMA list, as bytes.

They belong to the TPM that the kernel drives. With any other TPM, such as a simulator on a socket, there are none.
This module does not parse and does not believe them.
"""

from __future__ import annotations

from pathlib import Path

from content import durable
from content.errors import ContentError
from documents.evidence import BOOT_LOG_LIMIT, IMA_LIMIT

SECURITY = Path("/sys/kernel/security")
BOOT_LOG = "tpm0/binary_bios_measurements"
IMA_LIST = "ima/binary_runtime_measurements"
KERNEL_TPM = "device:"
"""How TCTI configurations start that name the kernel's TPM."""


class BootLogs:
    """The logs of this boot.

    Args:
        tcti: TPM2 TCTI configuration of the host's TPM.
        security: where the kernel shows its security file system.
    """

    def __init__(self, tcti: str, security: Path = SECURITY) -> None:
        self._kernel = tcti.startswith(KERNEL_TPM)
        self._security = security

    def boot(self) -> bytes:
        """The firmware's log; empty where there is none."""
        return self._read(self._security / BOOT_LOG, BOOT_LOG_LIMIT)

    def ima(self) -> bytes:
        """The kernel's list so far; empty where there is none. It grows: read it after the PCRs that it explains."""
        return self._read(self._security / IMA_LIST, IMA_LIMIT)

    def _read(self, path: Path, limit: int) -> bytes:
        if not self._kernel:
            return b""
        try:
            return durable.read_file(path, limit)
        except ContentError:
            # No log explains no PCR: whoever needs it will say so.
            return b""
