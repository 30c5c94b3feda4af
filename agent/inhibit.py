# SPDX-License-Identifier: Apache-2.0
"""kexec while gated VMs run: another kernel would go on with this one's measurements.

The kernel has a switch that goes one way and lasts until the next boot (kernel.kexec_load_disabled, since Linux 3.14).
It is turned when a VM is about to start, on hosts whose TPM is a chip: a software TPM proves nothing that kexec could
spoil, and tests and demonstrations leave the machine as it was. A kernel that was loaded before stands in the way of a
start. Hibernation and soft-reboot are shut by files that ``init`` installs (``agent.unit_files``); this module does not
know of them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.errors import KexecOpen
from content.durable import read_file
from content.errors import ContentError, Missing
from documents.verdict import Finding
from measure.findings import finding

SWITCH = Path("proc/sys/kernel/kexec_load_disabled")
LOADED = Path("sys/kernel/kexec_loaded")
SYSCTL = ("sysctl", "-q", "-w", "kernel.kexec_load_disabled=1")
SECONDS = 20
"""A hang guard."""

NONE = "no kernel loaded for kexec"


class Kexec:
    """What kexec is on one host.

    Args:
        chip: whether the host's TPM is a chip.
        root: where the kernel's files start.
    """

    def __init__(self, *, chip: bool, root: Path = Path("/")) -> None:
        self._chip = chip
        self._root = root

    def finding(self) -> Finding:
        """Whether another kernel waits to be started; a kernel that does not know kexec has none."""
        found = self._value(LOADED, "0")
        told = NONE if found == "0" else "a kernel is loaded for kexec" if found == "1" else "not known"
        return finding("boot-continuity", "kexec", NONE, told, good=found == "0", authority="local")

    def forbid(self) -> None:
        """Let nobody load another kernel until the next boot.

        Raises:
            KexecOpen: the kernel could not be kept from it.
        """
        if not self._chip or self._value(SWITCH, "1") == "1":
            return
        try:
            done = subprocess.run(SYSCTL, capture_output=True, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL)
            cause = done.stderr.decode(errors="replace").strip()[:200]
        except (OSError, subprocess.TimeoutExpired) as error:
            cause = str(error)
        if self._value(SWITCH, "1") != "1":
            raise KexecOpen(
                "kexec was not switched off",
                cause=cause or "the kernel did not take it",
                remedy="set kernel.kexec_load_disabled=1 in /etc/sysctl.d and reboot",
            )

    def _value(self, name: Path, absent: str) -> str:
        try:
            return read_file(self._root / name, 100).decode("ascii", "replace").strip()
        except Missing:
            return absent
        except ContentError:
            return ""
