# SPDX-License-Identifier: Apache-2.0
"""What happens around the gate's answer: the record before the act, the measurement, the VM's secret, and its end.

libvirt waits in its hook while ``prepare`` runs. Only after a yes does the VM's secret exist in libvirt, and only
until the VM has started or a deadline has passed, so that a later start without the gate opens nothing. This module
makes no trust decision of its own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from agent.disks import Disks
from agent.errors import NotReady, Refused
from agent.findings import make_finding, told
from agent.gate import Gate, Judgement
from agent.generation_ids import GenerationIds
from agent.launched import LaunchedDomains
from agent.outside import Outside
from agent.paths import HostPaths
from agent.plan import LocalSource, VmPlan
from agent.platform import Platform
from agent.running import Running, installed
from agent.starts import Starts
from agent.vm_keys import VmKeys
from agent.vm_secrets import VmSecrets
from agent.vtpm import GuestTpms
from content import durable
from content.errors import Missing
from content.store import ContentStore
from documents.errors import VmgateError
from documents.fields import NAME
from documents.host_state import Generation
from documents.release import Origin
from documents.unattended import RunningVm
from documents.verdict import NotTrusted, Verdict
from measure.launches import Launch, running

log = logging.getLogger(__name__)

OFF = ("off", "undefined", "crashed")
"""States of a domain that no longer runs."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VmKeyring:
    """What a VM that may start gets, and what is told of it.

    Attributes:
        secret: the VM's key.
        endorsement: digest of its TPM's endorsement key (``VmTpm``).
    """

    secret: str
    endorsement: str


class Launcher:
    """Answers libvirt's hook.

    Args:
        outside, gate, platform, keys, store: of this host.
        generation: gives the active generation.
        turn: held by whoever judges starts or switches generations, so that none sees the other half done. Nobody may
            wait for libvirt's domains while holding it: libvirt waits for the gate.
        names: gives the names of local VMs by the pseudonyms under which they are measured.
    """

    def __init__(
        self,
        outside: Outside,
        gate: Gate,
        platform: Platform,
        keys: VmKeys,
        store: ContentStore,
        generation: Callable[[], Generation | None],
        turn: AbstractContextManager[bool],
        names: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._names = names
        self._generations = GenerationIds(outside.paths)
        self._paths = outside.paths
        self._gate = gate
        self._platform = platform
        self._keys = keys
        self._store = store
        self._hypervisor = outside.hypervisor
        self._audit = outside.audit
        self._stranger = outside.porter.stranger
        self._generation = generation
        self._turn = turn
        self._guest_tpms = GuestTpms()
        self.disks = Disks(outside.paths, outside.audit)
        """What guests write."""
        self._secrets = VmSecrets(outside.hypervisor, turn, self._note_drop)
        self.running = Running(outside.paths.running)
        """What each VM that runs was started from."""
        self.launched = LaunchedDomains(outside.paths.launched)
        """The domain that each was let start as."""
        self.starts = Starts()
        """Which VMs are on their way up."""
        self.asked: Counter[str] = Counter()
        """How often libvirt asked, by VM, since the agent started."""
        self.said_no: dict[str, VmgateError] = {}
        """Why libvirt's last question was answered with no, by VM, since the agent started."""
        self._deferred: set[str] | None = set()
        """VMs that libvirt wanted to start by itself before it answered anybody; None once it answers."""
        self._images: dict[str, tuple[Path | None, str]] = {}
        """Folder of the VMM image, if any, and UUID of each VM that is about to start."""
        self.refused: set[str] = set()
        """Names of VMs whose last start was refused, since the agent started."""

    def libvirt_answers(self) -> frozenset[str]:
        """From now on VMs may start; returns those that had to wait.

        While libvirt starts VMs by itself it answers nobody, so that no secret could be given to it: a yes to it then
        would make both wait for each other.
        """
        with self._turn:
            waiting, self._deferred = self._deferred, None
            return frozenset(waiting or ())

    def begin(self, vms: Iterable[VmPlan]) -> None:
        """Clear up after an agent that ended while VMs started or stopped."""
        with self._turn:
            for vm in vms:
                self._secrets.forget(vm)
                name = vm.definition.name
                if name not in self.running_now():
                    continue
                if self._hypervisor.state(name) in OFF:
                    self.stopped(name, "agent")
                else:
                    self._adopt(vm)

    def _adopt(self, vm: VmPlan) -> None:
        """A VM runs on over the agent's restart: the disks that it keeps are closed when it stops."""
        try:
            self.disks.adopt(vm, self._keys.reopen(vm.definition, vm.platform))
        except VmgateError as error:
            log.warning("the disks of %s will stay open when it stops: %s", vm.definition.name, error)

    def close(self) -> None:
        """Leave no secret behind."""
        with self._turn:
            self._secrets.drop_all()
            self._keys.forget()

    def prepare(self, name: str, untrusted_xml: bytes, actor: str) -> None:
        """Let libvirt go on with a start, or refuse it. One start at a time.

        Raises:
            Refused: the gate said no; the VM stays off and the verdict is kept.
        """
        with self._turn:
            self.starts.begin(name)
            self.asked[name] += 1
            self.said_no.pop(name, None)
            # Whoever starts has ended before: if nobody said so, what it had open stays open.
            self.disks.forget(name)
            try:
                self._defer(name, actor)
                self._prepare(name, untrusted_xml, actor)
            except VmgateError as error:
                self.said_no[name] = error
                raise

    def explain(self, name: str, xml: str, actor: str) -> None:
        """Say why a VM would not start, where libvirt cannot even ask; return if the gate has nothing against it.

        Raises:
            Refused: the gate would say no. It is recorded as a refusal.
        """
        with self._turn:
            verdict = self._gate.judge(name, xml.encode(), self._generation()).verdict
            if verdict.status == "contraindicated":
                self._refuse(name, verdict, actor)

    def _defer(self, name: str, actor: str) -> None:
        if self._deferred is None:
            return
        self._deferred.add(name)
        self._audit.append("vm-start", "refused", name, actor, check="libvirt-answers")
        raise NotReady(
            f"{name} was not started yet",
            cause="libvirt starts it by itself and takes no key meanwhile",
            remedy="vmgate starts it as soon as libvirt answers",
        )

    def _prepare(self, name: str, untrusted_xml: bytes, actor: str) -> None:
        # Read once: an update may switch meanwhile, and judgement and key must be of one generation.
        generation = self._generation()
        judgement, keys = self._with_keys(self._gate.judge(name, untrusted_xml, generation), generation)
        verdict, vm = judgement.verdict, judgement.plan
        if vm is None or keys is None:
            self._refuse(name, verdict, actor)
            return
        self._keep(verdict)
        self._audit.append(
            "vm-start", "started", name, actor, verdict=verdict.status, level=verdict.level,
            definition=vm.artifact.fsverity, release=f"{vm.release.channel}/{vm.release.number}", vtpm=keys.endorsement,
        )  # fmt: skip
        if vm.placement.networks:
            cards = " ".join(f"{network}={place.mac}" for network, place in sorted(vm.placement.networks.items()))
            self._audit.append("network-attach", "started", name, actor, networks=cards)
        if vm.placement.devices:
            given = " ".join(place.device.name for place in vm.placement.devices)
            self._audit.append("device-attach", "started", name, actor, devices=given)
        try:
            self._platform.hold_boot()
            # What was judged is what is measured, and nothing is read twice.
            self._platform.measure_host(judgement.local)
            self._platform.note("vm-start", vm.subject, vm.measured, vm.release.origin, vtpm=keys.endorsement)
            # Fresh variables at every start: what the guest wrote into them is never believed.
            template = self._store.read(vm.vars_template.fsverity, vm.vars_template.length)
            durable.write_file(vm.placement.firmware_vars, template)
            self.disks.prepare(vm, keys.secret, actor)
            # Used up, whatever becomes of this start.
            self._generations.draw(name)
            self.running.note(installed(vm))
            self.launched.note(name, vm.xml, untrusted_xml)
            self._images[name] = (vm.programs.parent if vm.programs else None, vm.definition.uuid)
            self._secrets.give(vm, keys.secret.encode(), self.disks.passphrases(vm, keys.secret))
        except VmgateError as error:
            self.disks.close(name, actor)
            self._audit.append("vm-start", "failed", name, actor, code=error.code, cause=error.cause)
            raise
        self.refused.discard(name)

    def _with_keys(self, judgement: Judgement, generation: Generation | None) -> tuple[Judgement, VmKeyring | None]:
        """Open the VM's key and identify its TPM; what cannot be done turns the verdict into a no."""
        vm = judgement.plan
        if vm is None or generation is None:
            return judgement, None
        name, check = vm.definition.name, "vm-key"
        try:
            folder = make_vm_folder(self._paths, name)
            secret = self._keys.open(vm.definition, generation.platform, judgement.pcrs)
            self._keys.require_not_below(generation)
            opened = make_finding(check, name, "pass", "opens", "opened by the TPM")
            check = "vm-tpm"
            endorsement = self._guest_tpms.settle(vm.definition, folder, secret, vm.programs)
        except VmgateError as error:
            expected = "opens" if check == "vm-key" else "this VM's own TPM"
            return judgement.with_finding(make_finding(check, name, "fail", expected, told(error))), None
        identified = make_finding(check, name, "pass", "this VM's own TPM", f"endorsement key {endorsement}")
        judgement = judgement.with_finding(opened).with_finding(identified)
        for finding in self.disks.findings(vm, secret):
            judgement = judgement.with_finding(finding)
        return judgement, VmKeyring(secret=secret, endorsement=endorsement)

    def _refuse(self, name: str, verdict: Verdict, actor: str) -> None:
        self.refused.add(name)
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
        durable.write_file(make_vm_folder(self._paths, verdict.subject) / "verdict.json", verdict.encode())

    def _note_drop(self, vm: VmPlan) -> None:
        self._platform.note("key-drop", vm.subject, vm.measured, vm.release.origin)

    def drop(self, name: str) -> None:
        """Drop what opens a VM's key, from libvirt and from memory; the next start of any VM asks the TPM again."""
        with self._turn:
            self._secrets.drop(name)
            self._keys.forget()

    def started(self, name: str, actor: str) -> None:
        """QEMU runs: its secret goes.

        Raises:
            Refused: it, or its swtpm, is not of the VMM image that the gate looked at; libvirt ends it.
        """
        with self._turn:
            self._secrets.drop(name)
            self._require_from_image(name, actor)
            self._audit.append("vm-start", "done", name, actor)
            self.starts.end(name)

    def _require_from_image(self, name: str, actor: str) -> None:
        mounted, uuid = self._images.pop(name, (None, ""))
        found = self._stranger(mounted.name, uuid) if mounted is not None else ""
        if not found:
            return
        expected = f"QEMU and swtpm of {mounted}"
        self.refused.add(name)
        self._audit.append(
            "vm-start", "refused", name, actor, check="vmm-processes", component="vmm/image", expected=expected,
            found=found,
        )  # fmt: skip
        self.said_no[name] = error = Refused(
            f"{name} was switched off again",
            cause=f"expected {expected}, found {found}",
            remedy="let the search path of libvirtd begin with the image's programs (docs/guide/host.md), restart it",
        )
        raise error

    def reconnected(self, name: str, actor: str) -> None:
        """Libvirt came back to a running VM. It is not judged anew: a no here would kill it."""
        self._audit.append("vm-reconnect", "done", name, actor)

    def stopped(self, name: str, actor: str) -> None:
        """The VM is off, or its start failed after the gate's yes."""
        with self._turn:
            self._secrets.drop(name)
            launch = self.running_now().get(name)
            if launch is not None:
                self.running.forget(name)
                self.launched.forget(name)
                self._audit.append("vm-stop", "done", name, actor)
                self.disks.close(name, actor)
                self._platform.note("vm-stop", launch.event.subject, launch.event.fsverity, launch.event.origin)
            self.starts.end(name)

    def gone(self, name: str, run: int) -> None:
        """A run that the log has and libvirt has not: nobody told of its end, or the hook was called by hand.

        Args:
            name: of the VM.
            run: libvirt's number of it; a run that came since goes on.
        """
        with self._turn:
            noted = self.launched.of(name)
            if noted is None or noted.run == run:
                self.stopped(name, "agent")

    def running_now(self) -> dict[str, Launch]:
        """The VMs that were let start in this boot and have not stopped since, by name: what evidence says as well."""
        names = self._names()
        return {names.get(subject, subject): launch for subject, launch in running(self._platform.records()).items()}

    def running_as(self, name: str) -> RunningVm | None:
        """What a VM that runs was started from; None where the log says that it does not run, or not from that."""
        launch, noted = self.running_now().get(name), self.running.of(name)
        if launch is None or noted is None:
            return None
        if launch.event.local:
            return noted if noted.channel == LocalSource.channel else None
        same = (noted.definition, Origin.of(noted.channel, noted.number)) == (
            launch.event.fsverity,
            launch.event.origin,
        )
        return noted if same else None

    def last_verdict(self, name: str) -> Verdict | None:
        """The verdict of the last start of a VM that was tried."""
        try:
            return Verdict.parse(durable.read_file(self._paths.vm(name) / "verdict.json", Verdict.LIMIT))
        except Missing:
            return None


def make_vm_folder(paths: HostPaths, name: str) -> Path:
    """The folder of a VM; QEMU's user may pass through it and read nothing."""
    folder = paths.vm(name)
    durable.make_directory(folder.parent, 0o711)
    durable.make_directory(folder, 0o711)
    return folder
