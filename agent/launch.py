# SPDX-License-Identifier: Apache-2.0
"""What happens around the gate's answer: the record before the act, the measurement, the VM's secret, and its end.

libvirt waits in its hook while ``prepare`` runs. Only after a yes does the VM's secret exist in libvirt, and only
until the VM has started or a deadline has passed, so that a later start without the gate opens nothing. This module
makes no trust decision of its own.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from agent.audit import AuditTrail
from agent.errors import Refused
from agent.gate import Gate, Judgement, make_finding
from agent.paths import HostPaths
from agent.plan import VmPlan
from agent.platform import Platform
from agent.vm_keys import VmKeys
from content import durable
from content.errors import Missing
from content.store import ContentStore
from documents.errors import VmgateError
from documents.fields import NAME
from documents.host_state import Generation
from documents.verdict import NotTrusted, Verdict
from hypervisor.libvirt import Hypervisor

log = logging.getLogger(__name__)

SECRET_SECONDS = 120
"""How long a start may take from the gate's yes until QEMU runs; then the secret is dropped."""


class Launcher:
    """Answers libvirt's hook.

    Args:
        paths, gate, platform, keys, store, hypervisor, audit: of this host.
        generation: gives the active generation.
    """

    def __init__(
        self,
        paths: HostPaths,
        gate: Gate,
        platform: Platform,
        keys: VmKeys,
        store: ContentStore,
        hypervisor: Hypervisor,
        audit: AuditTrail,
        generation: Callable[[], Generation | None],
    ) -> None:
        self._paths = paths
        self._gate = gate
        self._platform = platform
        self._keys = keys
        self._store = store
        self._hypervisor = hypervisor
        self._audit = audit
        self._generation = generation
        self._open: dict[str, tuple[VmPlan, threading.Timer]] = {}
        self._lock = threading.RLock()
        self.asked: Counter[str] = Counter()
        """How often libvirt asked, by VM, since the agent started."""
        self.refused: list[str] = []
        """Names of VMs that were refused since the agent started."""

    def prepare(self, name: str, untrusted_xml: bytes, actor: str) -> None:
        """Let libvirt go on with a start, or refuse it. One start at a time.

        Raises:
            Refused: the gate said no; the VM stays off and the verdict is kept.
        """
        with self._lock:
            self.asked[name] += 1
            self._prepare(name, untrusted_xml, actor)

    def _prepare(self, name: str, untrusted_xml: bytes, actor: str) -> None:
        judgement = self._with_key(self._gate.judge(name, untrusted_xml, self._generation()))
        verdict, vm, secret = judgement
        if vm is None or secret is None:
            self._refuse(name, verdict, actor)
            return
        self._keep(verdict)
        self._audit.append(
            "vm-start", "started", name, actor, verdict=verdict.status, level=verdict.level,
            definition=vm.artifact.fsverity, release=f"{vm.release.channel}/{vm.release.number}",
        )  # fmt: skip
        self._platform.note("vm-start", name, vm.artifact.fsverity)
        # Fresh variables at every start: what the guest wrote into them is never believed.
        durable.copy_file(self._store.path(vm.vars_template.fsverity), vm.placement.firmware_vars)
        self._give_secret(vm, secret)

    def _with_key(self, judgement: Judgement) -> tuple[Verdict, VmPlan | None, str | None]:
        """Open the VM's key; one that stays shut turns the verdict into a no."""
        vm = judgement.plan
        generation = self._generation()
        if vm is None or generation is None:
            return judgement.verdict, None, None
        folder = self._paths.vm(vm.definition.name)
        try:
            durable.make_directory(folder.parent, 0o711)
            durable.make_directory(folder, 0o711)
            secret = self._keys.open(vm.definition, generation.platform)
        except VmgateError as error:
            shut = make_finding("vm-key", vm.definition.name, "fail", "opens", str(error))
            return replace(judgement.verdict, findings=(*judgement.verdict.findings, shut)), None, None
        opened = make_finding("vm-key", vm.definition.name, "pass", "opens", "opened by the TPM")
        return replace(judgement.verdict, findings=(*judgement.verdict.findings, opened)), vm, secret

    def _refuse(self, name: str, verdict: Verdict, actor: str) -> None:
        self.refused.append(name)
        first = verdict.failures()[0]
        self._audit.append(
            "vm-start", "refused", name, actor, check=first.check, component=first.subject, expected=first.expected,
            found=first.found, level=verdict.level,
        )  # fmt: skip
        self._keep(verdict)
        try:
            verdict.require_trusted(f"`vmgate vm why {name}` lists all checks and the way out")
        except NotTrusted as error:
            raise Refused(f"{name} was not started", cause=error.cause, remedy=error.remedy) from error

    def _keep(self, verdict: Verdict) -> None:
        """Keep the last verdict of a VM whose name can name a folder; the hook passes on any name."""
        if len(verdict.subject) > 63 or not NAME.fullmatch(verdict.subject):
            return
        folder = self._paths.vm(verdict.subject)
        durable.make_directory(folder.parent, 0o711)
        durable.make_directory(folder, 0o711)
        durable.write_file(folder / "verdict.json", verdict.encode())

    def _give_secret(self, vm: VmPlan, secret: str) -> None:
        name = vm.definition.name
        self._drop(name)
        timer = threading.Timer(SECRET_SECONDS, self._deadline, (name,))
        timer.daemon = True
        self._open[name] = (vm, timer)
        timer.start()
        self._hypervisor.set_secret(vm.placement.vtpm_secret, vm.definition.uuid, secret.encode())

    def started(self, name: str, actor: str) -> None:
        """QEMU runs: its secret goes."""
        with self._lock:
            self._drop(name)
            self._audit.append("vm-start", "done", name, actor)

    def reconnected(self, name: str, actor: str) -> None:
        """Libvirt came back to a running VM. It is not judged anew: a no here would kill it."""
        self._audit.append("vm-reconnect", "done", name, actor)

    def stopped(self, name: str, actor: str) -> None:
        """The VM is off, or its start failed after the gate's yes."""
        with self._lock:
            self._drop(name)
            digest = self._running_definition(name)
            if digest is not None:
                self._audit.append("vm-stop", "done", name, actor)
                self._platform.note("vm-stop", name, digest)

    def _running_definition(self, name: str) -> str | None:
        """The definition of a VM that was let start in this boot and has not stopped since."""
        events = [
            record.content
            for record in self._platform.records()
            if record.content.event in ("vm-start", "vm-stop") and record.content.subject == name
        ]
        return events[-1].fsverity if events and events[-1].event == "vm-start" else None

    def _deadline(self, name: str) -> None:
        log.warning("the start of %s took too long; its secret was dropped", name)
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        vm, timer = self._open.pop(name, (None, None))
        if vm is None or timer is None:
            return
        timer.cancel()
        self._hypervisor.drop_secret(vm.placement.vtpm_secret)
        self._platform.note("key-drop", name, vm.artifact.fsverity)

    def last_verdict(self, name: str) -> Verdict | None:
        """The verdict of the last start of a VM that was tried."""
        try:
            return Verdict.parse(durable.read_file(self._paths.vm(name) / "verdict.json", Verdict.LIMIT))
        except Missing:
            return None
