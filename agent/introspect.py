# SPDX-License-Identifier: Apache-2.0
"""Reading a VM from its memory: whether its signed definition allows it, the audit record before, the answer after.

The memory is parsed by a confined process, never here (``hypervisor.introspection.reader``). The first digests of a
run's kernel are kept in the agent's memory and later ones compared with them: they go with the VM's run and with the
agent. Nothing is decided by what is found; people are told.
"""

from __future__ import annotations

import threading
from typing import cast

from agent.errors import BadRequest, NotReady
from agent.outside import Outside
from agent.plan import VmPlan
from agent.vms import Vms
from documents.canonical import Json
from documents.errors import VmgateError
from hypervisor.errors import IntrospectionForbidden
from hypervisor.introspection.answers import VIEWS
from hypervisor.introspection.drift import Baseline, compare
from hypervisor.introspection.reader import memory_image, read_guest

MIB = 1024 * 1024
VIDEO = 64 * MIB
"""Bytes that an image takes besides the guest's memory: video memory, firmware, notes."""


class Introspection:
    """Answers ``vmgate vm introspect``, one at a time.

    Args:
        outside: libvirt and the audit trail.
        vms: of this host.
    """

    def __init__(self, outside: Outside, vms: Vms) -> None:
        self._outside = outside
        self._vms = vms
        self._turn = threading.Lock()
        self._baselines: dict[str, Baseline] = {}

    def look(self, name: str, view: str, actor: str) -> dict[str, Json]:
        """One view of a VM.

        Raises:
            IntrospectionForbidden: its definition does not allow it, or it runs from another one.
            IntrospectionError: it cannot be read.
            NotReady: it does not run, or somebody else is being answered.
        """
        if view not in VIEWS:
            raise BadRequest("nothing was read", cause="there is no such view", remedy=f"use one of {', '.join(VIEWS)}")
        vm = self._vms.find(name)
        details = {"vm": vm.definition.uuid, "view": view}
        run = self._outside.hypervisor.run_number(name)
        try:
            self._require_allowed(vm)
        except VmgateError as error:
            self._outside.audit.append("vm-introspect", "refused", name, actor, why=error.code, **details)
            raise
        if not self._turn.acquire(blocking=False):
            raise NotReady(f"{name} was not read", cause="another VM is being read", remedy="try again in a minute")
        try:
            # Before the act: nobody reads a guest without a trace (FPT_INT_EXT.1).
            self._outside.audit.append("vm-introspect", "started", name, actor, **details)
            try:
                found = self._read(vm, view, run)
            except VmgateError as error:
                self._outside.audit.append("vm-introspect", "failed", name, actor, why=error.code, **details)
                raise
            self._outside.audit.append("vm-introspect", "done", name, actor, found=_summary(found), **details)
            return found
        finally:
            self._turn.release()

    def _require_allowed(self, vm: VmPlan) -> None:
        name, allowed = vm.definition.name, vm.definition.introspection
        if allowed is None:
            raise _forbidden(name, "its signed definition does not allow it")
        versions = self._vms.versions_of(vm)
        if self._outside.hypervisor.state(name) not in ("running", "paused"):
            raise NotReady(f"{name} was not read", cause="it does not run", remedy=f"vmgate vm start {name}")
        # The definition that counts is the one that the VM was started from.
        if versions.running is None or versions.running.definition != versions.installed.definition:
            raise _forbidden(name, "it was started from another definition than the one that is active")

    def _read(self, vm: VmPlan, view: str, run: int) -> dict[str, Json]:
        name, hypervisor = vm.definition.name, self._outside.hypervisor
        size = vm.definition.memory_mib * MIB + VIDEO
        with memory_image(size, lambda path: hypervisor.dump_memory(name, path)) as image:
            # Another run of the VM may have another definition than the one that was looked at.
            if hypervisor.run_number(name) != run:
                raise NotReady(f"{name} was not read", cause="it was started anew meanwhile", remedy="try again")
            found = read_guest(image, view, vm.definition.introspection or "")
        if view != "integrity":
            return found
        told, self._baselines[vm.definition.uuid] = compare(found, self._baselines.get(vm.definition.uuid), run)
        return told


def _forbidden(name: str, cause: str) -> IntrospectionForbidden:
    return IntrospectionForbidden(f"{name} was not read", cause=cause, remedy="ask the VM's publisher")


def _summary(found: dict[str, Json]) -> str:
    """What the audit trail keeps of an answer: counts, none of the guest's words."""
    if found["view"] != "integrity":
        return f"{len(cast('list[Json]', found[str(found['view'])]))} entries, {found['ended']}"
    counts = [
        f"{part} {len(cast('list[Json]', cast('dict[str, Json]', found[part])[kind]))} {kind}"
        for part, kind in (
            ("text", "changed"), ("rodata", "changed"), ("syscalls", "outside"), ("interrupts", "outside")
        )
    ]  # fmt: skip
    return f"baseline {found['baseline']}; {'; '.join(counts)}"
