# SPDX-License-Identifier: Apache-2.0
"""After a sleep that broke the boot off: every VM that runs is suspended, and stays so.

What the gate said yes to was said about a host that nobody can speak for any more. The VM's memory is kept, so that its
owner may save work after a look; the gate starts nothing until the host is rebooted. This module does not find out
whether the boot is whole (``agent.continuity`` does).
"""

from __future__ import annotations

import logging

from agent.audit import AuditTrail
from agent.continuity import Continuity, SteppedLog
from documents.errors import VmgateError
from hypervisor.libvirt import Hypervisor

log = logging.getLogger(__name__)


class Wake:
    """Looks now and then.

    Args:
        continuity: of this host.
        measured: the log of this boot.
        hypervisor: whose VMs are suspended.
        audit: where each is recorded before.
    """

    def __init__(self, continuity: Continuity, measured: SteppedLog, hypervisor: Hypervisor, audit: AuditTrail) -> None:
        self._continuity = continuity
        self._measured = measured
        self._hypervisor = hypervisor
        self._audit = audit
        self._failed: set[str] = set()

    def look(self) -> None:
        """Suspend what runs in a boot that was broken off. What somebody resumes meanwhile is suspended again."""
        try:
            if self._continuity.look(self._measured):
                return
            running = [domain.name for domain in self._hypervisor.domains() if domain.state == "running"]
        except VmgateError as error:
            log.warning("the VMs of a broken boot were not looked at: %s", error)
            return
        for name in running:
            self._suspend(name)

    def _suspend(self, name: str) -> None:
        # Told once: where it fails, the next look comes in seconds.
        told = name in self._failed
        if not told:
            self._tell("started", name, self._continuity.broken)
        try:
            self._hypervisor.suspend(name)
        except VmgateError as error:
            self._failed.add(name)
            if not told:
                self._tell("failed", name, error.cause)
            return
        self._failed.discard(name)
        self._tell("done", name, self._continuity.broken)

    def _tell(self, outcome: str, name: str, cause: str) -> None:
        """Record it. Without room for the record the VM is suspended all the same: to let it run would be worse."""
        try:
            self._audit.append("vm-suspend", outcome, name, "agent", cause=cause)
        except VmgateError as error:
            log.warning("that %s is to be suspended was not recorded: %s", name, error)
