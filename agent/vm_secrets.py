# SPDX-License-Identifier: Apache-2.0
"""The secrets that libvirt holds while a VM starts, and no longer: given after the gate's yes, dropped at the start.

A secret that could not be dropped stays known here and is dropped at the next occasion. This module does not say
which VM may have its secret.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

from agent.bounded import within
from agent.plan import VmPlan
from documents.errors import VmgateError
from hypervisor.libvirt import Hypervisor

log = logging.getLogger(__name__)

SECONDS = 120
"""How long a start may take from the gate's yes until QEMU runs; then the secret is dropped."""

ANSWER_SECONDS = 60.0
"""How long libvirt may take for one secret. While starts wait for the gate, it has only so many workers left."""


class VmSecrets:
    """Gives and drops secrets. The caller holds ``turn`` around each call.

    Args:
        hypervisor: holds the secrets.
        turn: the launcher's; the deadline takes it by itself.
        dropped: told which VM's secret is gone.
    """

    def __init__(
        self, hypervisor: Hypervisor, turn: AbstractContextManager[bool], dropped: Callable[[VmPlan], None]
    ) -> None:
        self._hypervisor = hypervisor
        self._turn = turn
        self._dropped = dropped
        self._open: dict[str, tuple[VmPlan, threading.Timer]] = {}

    def give(self, vm: VmPlan, secret: bytes, disks: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Let libvirt have a VM's secret, and those of its encrypted disks by name, until ``drop`` or the deadline."""
        name = vm.definition.name
        self.drop(name)
        timer = threading.Timer(SECONDS, self._late, (name,))
        timer.daemon = True
        self._open[name] = (vm, timer)
        timer.start()
        placement, hypervisor = vm.placement, self._hypervisor

        def give() -> None:
            hypervisor.set_secret(placement.vtpm_secret, vm.definition.uuid, secret)
            for disk, value in disks.items():
                path = str(placement.own_disks[disk])
                hypervisor.set_secret(placement.disk_secrets[disk], path, value, "volume")

        self._bounded(name, give, lambda: self.forget(vm))

    def drop(self, name: str) -> None:
        """Take a VM's secret back, if it was given."""
        vm, timer = self._open.get(name, (None, None))
        if vm is None or timer is None:
            return
        self._bounded(name, lambda: self.forget(vm))
        timer.cancel()
        del self._open[name]
        self._dropped(vm)

    def drop_all(self) -> None:
        """Take back whatever was given; the agent is about to end."""
        for name in tuple(self._open):
            self.drop(name)

    def forget(self, vm: VmPlan) -> None:
        """Drop a VM's secrets, also those that an agent that was killed may have left."""
        for secret in (vm.placement.vtpm_secret, *vm.placement.disk_secrets.values()):
            self._hypervisor.drop_secret(secret)

    def _bounded(self, name: str, call: Callable[[], None], undo: Callable[[], None] = lambda: None) -> None:
        """Make a call of libvirt's; see ``within``."""
        within(ANSWER_SECONDS, call, f"{name} was not started", "libvirt did not take or drop its key", undo)

    def _late(self, name: str) -> None:
        with self._turn:
            _, timer = self._open.get(name, (None, None))
            # The next start's timer is another one: this one came too late to matter.
            if timer is not threading.current_thread():
                return
            log.warning("the start of %s took too long; its secret is dropped", name)
            try:
                self.drop(name)
            except VmgateError as error:
                log.warning("the secret of %s was not dropped: %s", name, error)
