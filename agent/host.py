# SPDX-License-Identifier: Apache-2.0
"""One host, put together: every part made once and handed to those that need it.

What ``vmgate.wiring`` brings from outside (clock, TPM, libvirt) comes as arguments. This module answers no requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from agent import hardware
from agent.alarm_rules import Refusals
from agent.approval import Approval
from agent.attachments import Attachments
from agent.audit_key import AuditKey
from agent.baselines import Baselines
from agent.boot_logs import BootLogs
from agent.checkpoints import Checkpoints
from agent.components import Components
from agent.contact import Contact
from agent.continuity import Continuity
from agent.deferred import Deferred
from agent.desktop import announce
from agent.devices import Devices
from agent.gate import Gate
from agent.generation_ids import GenerationIds
from agent.hooks import Hooks
from agent.host_own import HostOwn
from agent.inhibit import Kexec
from agent.introspect import Introspection
from agent.launch import OFF, Launcher
from agent.leases import Leases, Moment
from agent.leftovers import remove_leftovers
from agent.local_authority import LocalAuthority
from agent.local_measure import LocalMeasure
from agent.local_vms import LocalVms
from agent.membership.fleet import Fleet
from agent.networks import Networks
from agent.offload.start import offload
from agent.outside import Outside
from agent.plan import Plan
from agent.platform import Platform
from agent.prover import Prover
from agent.proving import LOOK_SECONDS
from agent.recovery import HostKeys, Recovery
from agent.recovery_copies import RecoveryCopies
from agent.resealing import Resealing
from agent.restarts import Restarts
from agent.revoke import Hands, Revoker
from agent.set_ledger import SetLedger
from agent.set_verbs import VmSets
from agent.settling import Settling
from agent.state_forms import StateForms
from agent.taken_back import Source, TakenBack, said
from agent.trial import HealthCheck
from agent.unattended import Unattended
from agent.updates import Updates
from agent.vm_care import VmCare
from agent.vm_export import SetHost, VmExport
from agent.vm_import import Definers, VmImport
from agent.vm_keys import VmKeys
from agent.vmm_images import VmmImages
from agent.vms import Vms
from agent.wake import Wake
from agent.watch import Watch
from content import durable
from content.store import ContentStore
from documents.definition import VmDefinition
from documents.errors import DocumentNewer, VmgateError
from documents.host_state import Generation
from documents.release import Release
from documents.security_policy import DRIFT, SecurityPolicy
from documents.verdict import Verdict
from measure.errors import PcrInUse
from measure.guard import Pcrs
from measure.log import MeasurementLog
from measure.pcr import SECURE_BOOT_PCR
from measure.secure_boot import foreseen
from updater.client.floor import load_floor
from updater.client.places import Places

log = logging.getLogger(__name__)

SIGNING_SECONDS = 30.0
"""From a start's first record until the head of the audit trail is signed for it and for all that came meanwhile."""

DEFINING_SECONDS = 0.2
"""From the start of a VM until libvirt knows with which generation id it starts next; its hook must have returned."""


class Host:
    """The parts of one host."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        paths, settings = outside.paths, outside.settings
        self.store = ContentStore(paths.store)
        self.images = images = VmmImages(outside.porter, paths.vmm)
        components = Components(self.store, paths.anchor, Path("/"), outside.site, Path(settings.hook), images)
        self.own = own = self._open_own()
        self.forms = StateForms(paths)
        self.forms.enter()
        # Before anything below it is made: QEMU and swtpm run as others, from there.
        durable.make_directory(paths.run, 0o755)
        self.log = self._open_log()
        self.before = BootLogs(settings.tpm)
        self.platform = Platform(outside, self.log, self.before, components, self.store, self._earlier, own)
        copies = RecoveryCopies(paths, outside.audit)
        self.keys = VmKeys(paths, outside.tpm, copies)
        self.audit_key = AuditKey(paths, outside.tpm, outside.audit)
        self.authority = LocalAuthority(paths, outside.tpm, outside.audit, outside.clock)
        self.store.keepers.append(self.authority.kept)
        self.attachments = self._open_attachments()
        plan = Plan(paths, self.store, settings.accelerator, images, self.attachments, self.authority)
        self.leases = Leases(paths, outside.audit, self._moment)
        self.sources: list[Source] = [self.leases.cause]  # who may take a VM back besides its releases
        gate = Gate(self.platform, self.store, plan, outside.clock, self.attachments, partial(said, self.sources))
        turn = threading.RLock()
        update = settings.update
        self._contact = contact = Contact(
            paths.update_contact, outside.audit, outside.clock, update.stale_days if settings.repository else 0
        )
        resealing = self._new_resealing()
        hooks = Hooks(paths.hooks, paths.root, outside.audit, update.hook_seconds)
        health = HealthCheck(outside, gate, plan, self.platform, hooks, turn, update.health_seconds)
        settling = Settling(outside, self.platform, self.keys, self.audit_key, resealing, images)
        self.updates = Updates(outside, self.store, settling, turn, contact, resealing, health, self.forms)
        self.approval = Approval(self.platform, own, self.updates.require_active, turn)
        self.launcher = Launcher(
            outside, gate, self.platform, self.keys, self.store, self.generation, turn, self.authority.names
        )
        self.wake = Wake(own.continuity, self.log, outside.hypervisor, outside.audit)
        self.watch = self._new_watch()
        self.revoker = self._new_revoker()
        self.vms = Vms(paths, plan, self.launcher, outside.hypervisor, self.generation, self.attachments)
        self.introspection = Introspection(outside, self.vms)
        host_keys = HostKeys(vms=self.keys, copies=copies, audit=self.audit_key, resealing=resealing)
        self.local = LocalVms(
            outside, self.store, plan, self.authority, self.updates.require_active, self._policy, turn
        )
        self.sets = self._new_sets(plan, turn)
        self.recovery = Recovery(paths, host_keys, outside.audit, self._definitions, self.updates.require_active, turn)
        self.prover = Prover(outside.tpm, self.log, self.before, own, self._asked_by, self._measure_again)
        self.offload = offload(outside)
        self.refusals = Refusals(outside.audit)
        outside.audit.observers.append(self.refusals.see)
        self.unattended = Unattended(
            outside, self.updates, contact, hooks, Restarts(self.vms, hooks, outside.audit, update, announce)
        )
        self.signing = Deferred(self.sign_audit, SIGNING_SECONDS)
        self.defining = Deferred(self._define_anew, DEFINING_SECONDS)
        self.fleet = Fleet(outside, self.prover.evidence, self.sign_audit)

    def _open_own(self) -> HostOwn:
        outside, paths = self.outside, self.outside.paths
        hook = Path(outside.settings.hook)
        return HostOwn(
            local=LocalMeasure(paths.settings, hook),
            baselines=Baselines(paths, outside.tpm, outside.audit, outside.clock),
            continuity=Continuity(paths, outside.tpm, outside.audit, outside.boot),
            kexec=Kexec(chip=not outside.tpm.software()),
        )

    def _open_attachments(self) -> Attachments:
        outside, paths = self.outside, self.outside.paths
        return Attachments(
            networks=Networks(paths, outside.audit, outside.hypervisor.networks),
            devices=Devices(paths, outside.audit, hardware, self._runs),
            generations=GenerationIds(paths),
        )

    def _new_resealing(self) -> Resealing:
        outside, paths = self.outside, self.outside.paths
        floor = partial(load_floor, Places.below(paths.state).floor, outside.anchor)
        return Resealing(paths, outside.tpm, outside.audit, self._foresee, floor)

    def _new_sets(self, plan: Plan, turn: AbstractContextManager[bool]) -> VmSets:
        """What works on all that a VM keeps."""
        outside = self.outside
        care = VmCare(outside.paths, self.vms, self.launcher, self.keys, outside.hypervisor, outside.audit, turn)
        ledger = SetLedger(outside.paths, outside.audit)
        sets = SetHost(
            outside=outside, store=self.store, vms=self.vms, launcher=self.launcher, keys=self.keys, turn=turn,
            ledger=ledger,
        )  # fmt: skip
        definers = Definers(
            require_active=self.updates.require_active, programs=plan.programs, require_free=self.local.require_free,
            adopt=self.local.adopt, add_image=self.local.adopt_image,
        )  # fmt: skip
        return VmSets(
            care=care, checkpoints=Checkpoints(sets), exports=VmExport(sets), imports=VmImport(sets, definers)
        )

    def _new_watch(self) -> Watch:
        outside = self.outside
        return Watch(
            outside.hypervisor,
            self.launcher.running_now,
            self.launcher.launched.of,
            outside.porter.machines,
            self._drift_answer,
            outside.audit,
            self.launcher.gone,
        )

    def _new_revoker(self) -> Revoker:
        outside = self.outside
        taken = TakenBack(self.launcher, self.platform, self.generation, self.sources, self.keys.names)
        hands = Hands(announce=announce, drop=self.launcher.drop, shred=self.keys.shred)
        return Revoker(outside.paths.revoked, outside.hypervisor, taken.orders, hands, outside.audit)

    def _open_log(self) -> MeasurementLog:
        """The log of this boot.

        Raises:
            BootBroken: another kernel measured into these PCRs.
            PcrInUse: another program did.
        """
        try:
            return MeasurementLog.open(self.outside.paths.measurements, self.outside.tpm)
        except PcrInUse as error:
            told = self.own.continuity.told(error)
            raise told from error

    def _earlier(self) -> tuple[Release, ...]:
        return self.updates.earlier()

    def _foresee(self, release: Release, now: Release | None) -> tuple[Pcrs, ...]:
        """The values of PCR 7 with which this host may boot into a release, besides the present one."""
        image = self.platform.image(release)
        if image is None:
            return ()
        present = self.outside.tpm.read_pcrs("sha256", [SECURE_BOOT_PCR])[SECURE_BOOT_PCR]
        return foreseen(self.before.boot(), present, image, self.platform.image(now) if now else None)

    def _moment(self) -> Moment:
        """What leases are judged by."""
        outside = self.outside
        clock = outside.tpm.clock()
        floor = load_floor(Places.below(outside.paths.state).floor, outside.anchor)
        return Moment(clock=clock.clock, resets=clock.reset_count, time=max(outside.clock(), floor.time))

    def _policy(self, generation: Generation) -> SecurityPolicy:
        return self.platform.policy(generation.platform)

    def _asked_by(self) -> frozenset[str]:
        """What the active platform's signed policy asks to be told; nothing where there is none."""
        generation = self.generation()
        if generation is None:
            return frozenset()
        return self._policy(generation).collects(host_image=bool(generation.platform.of_kind("host-image")))

    def _measure_again(self) -> None:
        if self.generation() is not None and not self.updates.pending():
            self._try("what is local to this host was not measured", self.platform.measure_host)

    def _definitions(self) -> tuple[VmDefinition, ...]:
        return tuple(vm.definition for vm in self.vms.all())

    def look(self) -> None:
        """Look at what runs: whether it is what was let start, and whether it may still run."""
        self.watch.look()
        self.revoker.look()

    def _drift_answer(self) -> str:
        """What the signed policy does about what runs and was not let start; where it cannot be read, what is safe."""
        generation = self.generation()
        try:
            return self.platform.policy(generation.platform).drift if generation else DRIFT[0]
        except VmgateError:
            return DRIFT[0]

    def generation(self) -> Generation | None:
        """The active generation."""
        return self.updates.active()

    def start(self) -> None:
        """Finish or undo a cut update, and measure and judge the VMM. libvirt need not run yet, and better does not.

        Whatever fails here is recorded and leaves the gate closed; the agent still answers why.
        """
        self.outside.audit.append("agent", "started", "host", "agent", version=self.outside.version)
        hook = Path(self.outside.settings.hook)
        self._try("what a cut left was not removed", lambda: remove_leftovers(self.outside.paths, hook))
        self.updates.recover()
        self._try("the pending update was not finished", self.updates.finish)
        self._try("how long updates were not looked up is not known", self._contact.silent)
        generation = self.generation()
        if generation is None:
            return
        if not self.updates.pending():
            self._try("the VMM image was not mounted", self.updates.use_image)
            self._try("the platform was not measured", lambda: self.platform.enter(generation.platform))
        self._try("the host's keys did not follow the release", lambda: self.updates.follow(generation.platform))
        if self.keys.ready() and not self.updates.pending():
            # Once now, so that no start waits for it.
            self._try("the host's key was not opened", lambda: self.keys.open_host_key(generation.platform))
        verdict = self.verdict(generation)
        outcome = "refused" if verdict is None or verdict.status == "contraindicated" else "done"
        self.outside.audit.append(
            "platform-appraisal", outcome, "platform", "agent",
            verdict=verdict.status if verdict else "none",
            level=verdict.level if verdict else self.platform.least_level,
        )  # fmt: skip
        self.sign_audit()

    def note_boot(self) -> None:
        """Note which boot this is, after all that must leave the state alone had its say."""
        self._try("which boot this is was not noted", self.own.continuity.note)

    def take_over(self) -> bool:
        """Let libvirt know the VMs, clear up what an earlier agent left, and start what libvirt wanted to start.

        The gate must be answering by now: libvirt may be starting VMs on its own, and until it has it answers nobody.
        Returns whether libvirt took it all.
        """
        if not self._try("libvirt does not answer", self.outside.hypervisor.connect):
            return False
        waiting = self.launcher.libvirt_answers()
        self._try("the networks were not made", self.attachments.networks.restore)
        defined = self.define_vms()
        left = "what an earlier agent left was not cleared up"
        cleared = self._try(left, lambda: self.launcher.begin(self.vms.all()))
        for name in sorted(waiting):
            self._try(f"{name} was not started", partial(self.vms.start, name))
        return cleared and defined

    def watch_trial(self) -> None:
        """See a pending update through: confirm it once it is healthy, or go back when its time is over."""
        proving = self.updates.proving
        while proving.on():
            self._try("the pending update was not confirmed", proving.look)
            if proving.on():
                time.sleep(LOOK_SECONDS)
            else:
                self.define_vms()
                self.sign_audit()

    def define_vms(self) -> bool:
        """Let libvirt know the VMs of the active releases; each that fails is told, and the others go on."""
        return self._try("the VMs were not defined", self.vms.define_all)

    def _runs(self, vm: str) -> bool:
        return self.outside.hypervisor.state(vm) not in OFF

    def _define_anew(self) -> None:
        """After a start or a stop: only what is new since, as each definition is a chance to meet the next start."""
        self._try("the VMs were not defined", partial(self.vms.define_all, again=False))

    def _try(self, what: str, step: Callable[[], object]) -> bool:
        """Do what the agent can be without: it must come up to say what is wrong. Returns whether it was done.

        Raises:
            DocumentNewer: the state is a newer vmgate's, which this one must leave alone.
        """
        try:
            step()
        except DocumentNewer:
            raise
        except VmgateError as error:
            log.warning("%s: %s", what, error)
            return False
        return True

    def sign_audit(self) -> None:
        """Sign the head of the audit trail; outside approved states there is nothing to sign it with."""

        def sign() -> None:
            generation = self.generation()
            if generation is not None and not self.updates.pending():
                self.audit_key.sign(generation.platform)

        self._try("the audit trail's head was not signed", sign)

    def verdict(self, generation: Generation) -> Verdict | None:
        """What this host thinks of itself; None when it could not be judged."""
        try:
            return self.appraise(generation)
        except VmgateError as error:
            log.warning("the platform was not appraised: %s", error)
            return None

    def appraise(self, generation: Generation) -> Verdict:
        """What the measurements say of this host, with what the watch found to run besides."""
        verdict = self.platform.appraise(generation)
        return replace(verdict, findings=(*verdict.findings, *self.watch.findings()))

    def level(self) -> str:
        """The assurance level as far as this host knows it."""
        generation = self.generation()
        verdict = self.verdict(generation) if generation else None
        return verdict.level if verdict else self.platform.least_level
