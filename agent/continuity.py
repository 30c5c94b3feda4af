# SPDX-License-Identifier: Apache-2.0
"""Whether this boot was broken off: by a sleep that lost what was measured, by hibernation, or by kexec.

The kernel and TPM that began are noted twice: in ``/run``, which a sleeping kernel keeps, and among the durable state,
for the next kernel. A boot that was broken off stays so until the host is rebooted: nothing is measured in it any more.
This module does not suspend VMs (``agent.wake`` does).
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Protocol

from agent.audit import AuditTrail
from agent.paths import HostPaths
from content import durable
from content.errors import Missing
from documents.boot_state import BootState
from documents.errors import DocumentError, VmgateError
from documents.verdict import Finding
from measure.continuity import Clocks, has_slept, is_kexec, why_broken
from measure.errors import BootBroken, PcrInUse
from measure.findings import finding
from measure.structures import Clock

log = logging.getLogger(__name__)

CHECK = "boot-continuity"
WHOLE = "one boot of kernel and TPM"


class ClockedTpm(Protocol):
    """The part of a TPM that counts its starts; ``measure.tpm.Tpm`` is one."""

    def clock(self) -> Clock:
        """Clock and counts of starts."""
        ...


class SteppedLog(Protocol):
    """The part of a log that can be held against the TPM; ``measure.log.MeasurementLog`` is one."""

    def in_step(self) -> bool:
        """Whether the TPM's PCRs are what the log replays to."""
        ...


class Continuity:
    """Watches over one boot.

    Args:
        paths: of the host.
        tpm: counts its starts.
        audit: where a sleep is recorded.
        boot: the kernel's boot id.

    Attributes:
        broken: why this boot counts for nothing any more; empty while it is whole.
    """

    def __init__(self, paths: HostPaths, tpm: ClockedTpm, audit: AuditTrail, boot: str) -> None:
        self._path = paths.boot
        self._last_path = paths.last_boot
        self._tpm = tpm
        self._audit = audit
        self._boot = boot
        self._last = _read(paths.last_boot)
        self._state = self._now()
        self._clocks = _clocks()
        self._lock = threading.Lock()
        self.broken = ""
        earlier = _read(paths.boot)
        if earlier is not None:
            # Whether the PCRs are right is seen when the log is opened.
            self.broken = why_broken(earlier, self._state, in_step=True)
        if self.broken:
            audit.append("host-resume", "refused", "host", "agent", cause=self.broken)

    def note(self) -> None:
        """Note kernel and TPM of this boot, once the log is this host's: a boot without a log is nobody's to lose.

        Raises:
            ContentError: they could not be written.
        """
        if self.broken:
            return
        for path in (self._path, self._last_path):
            durable.make_directory(path.parent, 0o755 if path == self._path else 0o700)
            durable.write_file(path, self._state.encode())

    def _now(self) -> BootState:
        clock = self._tpm.clock()
        return BootState(boot=self._boot, resets=clock.reset_count, restarts=clock.restart_count)

    def told(self, error: PcrInUse) -> VmgateError:
        """What a PCR in use means here: another kernel's, where the last one had the same start of the TPM."""
        if not is_kexec(self._last, self._state):
            return error
        return BootBroken(
            "the measurement log was not begun",
            cause="another kernel measured since the TPM was reset: this one was started by kexec",
            remedy="reboot the host through its firmware",
        )

    def look(self, measured: SteppedLog) -> bool:
        """See whether the host slept since the last look, and what that did; returns whether the boot is whole.

        Raises:
            ContentError: a sleep could not be recorded. What it did to the boot is known all the same.
        """
        with self._lock:
            clocks = _clocks()
            slept, self._clocks = has_slept(self._clocks, clocks), clocks
            if slept and not self.broken:
                self._wake(measured)
            return not self.broken

    def _wake(self, measured: SteppedLog) -> None:
        try:
            now = self._now()
            why = why_broken(self._state, now, in_step=measured.in_step())
        except VmgateError as error:
            # What cannot be found out is not whole.
            now, why = self._state, f"{error.what}: {error.cause}"
        self.broken = why
        outcome, details = ("refused", {"cause": why}) if why else ("done", {"restarts": str(now.restarts)})
        self._audit.append("host-resume", outcome, "host", "agent", **details)
        if why:
            log.warning("the boot was broken off: %s", why)
            return
        self._state = now
        durable.write_file(self._path, now.encode())

    def require_whole(self) -> None:
        """Refuse to measure in a boot that was broken off: what ran before would seem never to have run.

        Raises:
            BootBroken: it was.
        """
        if self.broken:
            raise BootBroken("nothing was measured", cause=self.broken, remedy="reboot the host")

    def finding(self) -> Finding:
        """The same for a verdict."""
        return finding(CHECK, "host", WHOLE, self.broken or WHOLE, good=not self.broken, authority="local")


def _clocks() -> Clocks:
    return Clocks(
        boottime=time.clock_gettime_ns(time.CLOCK_BOOTTIME), monotonic=time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    )


def _read(path: Path) -> BootState | None:
    try:
        return BootState.parse(durable.read_file(path, BootState.LIMIT))
    except Missing:
        return None
    except DocumentError as error:
        # Nobody loses a host by it: the log and the TPM are still held against each other.
        log.warning("%s was not believed: %s", path, error)
        return None
