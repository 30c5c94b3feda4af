# SPDX-License-Identifier: Apache-2.0
"""Restarts of running VMs after an update, as their definitions allow: a word before, a clean stop, a gated start.

A guest that does not shut down goes on running, and is tried again with the next unattended run: nothing is switched
off. This module does not decide whether a VM may start.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.audit import AuditTrail
from agent.hooks import Hooks
from agent.update_settings import UpdateSettings
from agent.vms import Vms
from documents.canonical import Json
from documents.errors import VmgateError
from documents.unattended import RunningVm


def wants_restart(policy: str, running: RunningVm | None, installed: RunningVm, *, may: bool) -> bool:
    """Whether a VM is restarted now. Pure.

    Args:
        policy: ``restart`` of its installed definition.
        running: what it was started from; None where it is off or nobody knows.
        installed: what it would be started from.
        may: a window is open, there is none, or what is installed is urgent.
    """
    if running is None or running.same(installed):
        return False
    return policy == "now" or (policy == "window" and may)


class Restarts:
    """Restarts VMs of one host.

    Args:
        vms: of the host.
        hooks: told before each restart, see ``agent.hooks``.
        audit: every restart is recorded.
        settings: how long notice and stop may take.
        announce: tells people.
    """

    def __init__(
        self, vms: Vms, hooks: Hooks, audit: AuditTrail, settings: UpdateSettings, announce: Callable[[str], None]
    ) -> None:
        self._vms = vms
        self._hooks = hooks
        self._audit = audit
        self._settings = settings
        self._announce = announce

    def run(self, actor: str, *, window: bool) -> list[Json]:
        """Restart what is to be restarted now; returns what became of each.

        Args:
            actor: for the record.
            window: a maintenance window is open, or there is none.
        """
        due = [
            vm.installed
            for vm, policy, urgent in self._vms.versions()
            if wants_restart(policy, vm.running, vm.installed, may=window or urgent)
        ]
        for vm in due:
            self._tell(vm, actor)
        if due:
            time.sleep(self._settings.notice_seconds)
        return [{"name": vm.name, "failed": self._restart(vm, actor)} for vm in due]

    def _tell(self, vm: RunningVm, actor: str) -> None:
        seconds = self._settings.notice_seconds
        self._audit.append("vm-restart", "started", vm.name, actor, release=_named(vm))
        values = {"VMGATE_VM": vm.name, "VMGATE_RELEASES": _named(vm), "VMGATE_SECONDS": str(seconds)}
        self._hooks.try_run("vm-restart", actor, values)
        self._announce(f"vmgate: {vm.name} restarts in {seconds} seconds to run {_named(vm)}. Save your work in it.")

    def _restart(self, vm: RunningVm, actor: str) -> str:
        """Stop and start; returns what went wrong as one line, or nothing."""
        try:
            if self._vms.is_off(vm.name):
                # Somebody was quicker: what is off runs the new release when it starts, and stays off till then.
                self._audit.append("vm-restart", "done", vm.name, actor, release="off")
                return ""
            self._vms.stop(vm.name, self._settings.stop_seconds)
            self._vms.start(vm.name)
        except VmgateError as error:
            self._audit.append("vm-restart", "failed", vm.name, actor, code=error.code, cause=error.cause)
            return error.line()
        self._audit.append("vm-restart", "done", vm.name, actor, release=_named(vm))
        return ""


def _named(vm: RunningVm) -> str:
    return f"{vm.channel} {vm.number} on platform {vm.platform}"
