# SPDX-License-Identifier: Apache-2.0
"""Lets a VM have its name on this host, where a local VM had it before, or a release's: nothing of either is lost.

What a VM keeps here (its key, its TPM's identity) lies in a folder of its name. Where another VM takes the name, the
folder is set aside under a name that no VM can have, and comes back with its VM. libvirt forgets the domain and keeps
its variables and TPM. Whose name it is, others decide. This module removes nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path

from agent.errors import NotReady
from agent.paths import HostPaths
from agent.plan import VmPlan
from content import durable
from content.errors import Missing
from documents.host_state import WrappedVmKey
from documents.local_set import LocalSet
from hypervisor.libvirt import Hypervisor

log = logging.getLogger(__name__)

OFF = ("off", "crashed")


class VmPlaces:
    """The names of one host.

    Args:
        paths, hypervisor: of this host.
    """

    def __init__(self, paths: HostPaths, hypervisor: Hypervisor) -> None:
        self._paths = paths
        self._hypervisor = hypervisor

    def make_way(self, vm: VmPlan, content: LocalSet | None) -> None:
        """Let a VM have its name and UUID, where a local VM is the other one; any other is left as it is.

        Args:
            vm: that is about to be defined.
            content: what the local authority vouches for.

        Raises:
            NotReady: the other one runs.
            ContentError: its folder cannot be set aside.
        """
        local = {other.uuid: other.name for other in content.vms} if content else {}
        name, uuid = vm.definition.name, vm.definition.uuid
        if vm.local is None and (uuid in local or name in local.values()):
            self._forget_domains(name, uuid, local)
        if vm.local is not None or name in local.values():
            self._change_folders(name, uuid)

    def _forget_domains(self, name: str, uuid: str, local: dict[str, str]) -> None:
        for domain in self._hypervisor.domains():
            other = (domain.name, domain.uuid)
            if other == (name, uuid) or local.get(domain.uuid) != domain.name or not {name, uuid} & set(other):
                continue
            if domain.state not in OFF:
                raise NotReady(
                    f"{name} has no place yet",
                    cause=f"the local VM {domain.name}, whose name or UUID it has, still runs",
                    remedy=f"stop that: `virsh shutdown {domain.name}`",
                )
            self._hypervisor.forget(domain.name)

    def leave(self, name: str, uuid: str) -> None:
        """A local VM is one no more.

        Raises:
            NotReady: it runs.
        """
        for domain in self._hypervisor.domains():
            if (domain.name, domain.uuid) == (name, uuid):
                if domain.state not in OFF:
                    raise NotReady("nothing was signed", cause=f"{name} runs", remedy=f"`vmgate vm stop {name}`")
                self._hypervisor.forget(name)
        self._set_aside(name, but_of="")

    def _change_folders(self, name: str, uuid: str) -> None:
        self._set_aside(name, but_of=uuid)
        kept, folder = self._aside(name, uuid), self._paths.vm(name)
        if kept.is_dir() and self._owner(name) == "":
            # A folder without a key holds nothing but a verdict and what each start makes anew.
            durable.remove_tree(folder)
            durable.rename(kept, folder)

    def _set_aside(self, name: str, but_of: str) -> None:
        owner = self._owner(name)
        if owner in ("", but_of):
            return
        log.warning("the folder of %s holds the key of %s; it is set aside", name, owner)
        durable.rename(self._paths.vm(name), self._aside(name, owner))

    def _aside(self, name: str, uuid: str) -> Path:
        # No name of a VM has this sign.
        return self._paths.vms / f"{name}@{uuid}"

    def _owner(self, name: str) -> str:
        """UUID of the VM whose key lies in the folder of a name; empty where none does.

        Raises:
            DocumentError: that cannot be told.
        """
        try:
            stored = durable.read_file(self._paths.wrapped_key(name), WrappedVmKey.LIMIT)
        except Missing:
            return ""
        return WrappedVmKey.parse(stored).uuid
