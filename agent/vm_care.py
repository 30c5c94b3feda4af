# SPDX-License-Identifier: Apache-2.0
"""What an administrator does with a VM's state while it is off: accept its disks as they are, or give all of it up.

Both change what the host believes, so the caller has proved anew who they are. Neither makes the gate say yes: a disk
that was accepted must still be the VM's alone and stand on what its definition names.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from agent.audit import AuditTrail
from agent.errors import NotReady
from agent.launch import Launcher
from agent.paths import HostPaths
from agent.plan import VmPlan
from agent.vm_errors import VmRuns
from agent.vm_keys import VmKeys
from agent.vms import Vms
from agent.vtpm import GuestTpms
from content import durable
from content.errors import Missing
from documents.canonical import Json
from documents.errors import VmgateError
from hypervisor.errors import DomainMissing
from hypervisor.libvirt import Hypervisor


class VmCare:
    """Accepts and deletes the state of VMs.

    Args:
        paths, vms, launcher, keys, hypervisor, audit: of this host.
        turn: the launcher's.
    """

    def __init__(
        self,
        paths: HostPaths,
        vms: Vms,
        launcher: Launcher,
        keys: VmKeys,
        hypervisor: Hypervisor,
        audit: AuditTrail,
        turn: AbstractContextManager[bool],
    ) -> None:
        self._paths = paths
        self._vms = vms
        self._launcher = launcher
        self._keys = keys
        self._hypervisor = hypervisor
        self._audit = audit
        self._turn = turn

    def accept(self, name: str, actor: str) -> dict[str, Json]:
        """Take each disk that the VM keeps as it is now; tells which were not as their records said, and why.

        Raises:
            VmRuns: it is not off.
            NotReady: nothing of it was ever started here.
            VmgateError: its key does not open, or a disk is none that can be taken; what was accepted before stays so.
        """
        vm = self._vms.find(name)
        self._require_off(name)
        with self._turn:
            self._require_stopped(name)
            try:
                secret = self._keys.reopen(vm.definition, vm.platform)
            except Missing as error:
                raise NotReady(
                    f"nothing of {name} was accepted",
                    cause="it has no key on this host, so that it keeps nothing",
                    remedy=f"`vmgate vm start {name}`",
                ) from error
            accepted = self._launcher.disks.accept(vm, secret, actor)
            disks: list[Json] = [{"disk": disk, "why": why} for disk, why in accepted]
        return {"name": name, "disks": disks}

    def delete(self, name: str, actor: str) -> dict[str, Json]:
        """Give up all that the VM keeps on this host, its key first. It stays defined, and would start as a new one.

        Raises:
            VmRuns: it is not off.
            VmgateError: it failed half way, and may be repeated.
        """
        vm = self._vms.find(name)
        self._require_off(name)
        self._audit.append("vm-delete", "started", name, actor, uuid=vm.definition.uuid)
        try:
            self._delete(vm)
        except VmgateError as error:
            self._audit.append(
                "vm-delete", "failed", name, actor, uuid=vm.definition.uuid, code=error.code, cause=error.cause
            )
            raise
        self._audit.append("vm-delete", "done", name, actor, uuid=vm.definition.uuid)
        self._vms.define_all()
        return {"name": name}

    def _delete(self, vm: VmPlan) -> None:
        name = vm.definition.name
        with self._turn:
            self._require_stopped(name)
            # From here on nobody can read what else is left.
            self._keys.drop(name)
            durable.remove_tree(self._paths.vm(name))
        # Without the turn: libvirt may be waiting for the gate.
        try:
            self._hypervisor.undefine(name)
        except DomainMissing:
            pass
        GuestTpms().remove(vm.definition)

    def _require_off(self, name: str) -> None:
        if not self._vms.is_off(name):
            raise _runs(name)

    def _require_stopped(self, name: str) -> None:
        """By what the TPM was told, which libvirt's answer of a moment ago may be too old for."""
        if name in self._launcher.running_now() and not self._vms.is_off(name):
            raise _runs(name)


def _runs(name: str) -> VmRuns:
    return VmRuns(f"nothing of {name} was changed", cause="it runs", remedy=f"`vmgate vm stop {name}`")
