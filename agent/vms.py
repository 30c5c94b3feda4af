# SPDX-License-Identifier: Apache-2.0
"""The VMs of this host as commands see them: list, show, start, stop, console, why.

``start`` only asks libvirt; whether it may is decided in libvirt's hook, so that every way to start passes one gate.
This module decides nothing about trust.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from agent.attachments import Attachments
from agent.errors import NotFound, NotReady
from agent.launch import OFF, Launcher, make_vm_folder
from agent.local_gate import displaced, published
from agent.paths import HostPaths
from agent.plan import Plan, VmPlan
from agent.running import installed, told
from agent.vm_places import VmPlaces
from content import durable
from content.errors import ContentError, Missing, TooLarge
from documents.canonical import Json
from documents.errors import DocumentError, VmgateError
from documents.host_state import Generation
from documents.unattended import RunningVm
from documents.verdict import Verdict
from hypervisor.console import safe_text
from hypervisor.errors import DomainRefused, HypervisorError, StartRefused
from hypervisor.libvirt import Hypervisor

log = logging.getLogger(__name__)

MAX_CONSOLE = 4_000_000
Told: TypeAlias = list[Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What a VM runs and what it would be started from now.

    Attributes:
        name: of the VM.
        state: as libvirt has it.
        running: None where it is off, or was started by a vmgate that kept no record.
        installed: by the active releases.
    """

    name: str
    state: str
    running: RunningVm | None
    installed: RunningVm

    @property
    def outdated(self) -> bool:
        """Whether a restart would change what runs."""
        return self.running is not None and not self.running.same(self.installed)

    def members(self) -> dict[str, Json]:
        """For people and programs."""
        return {
            "state": self.state,
            "running": told(self.running) if self.running else None,
            "installed": told(self.installed),
            "outdated": self.outdated,
        }


class Vms:
    """Answers ``vmgate vm``.

    Args:
        paths, plan, launcher, hypervisor: of this host.
        generation: gives the active generation.
        attachments: what the host offers to VMs.
    """

    def __init__(
        self,
        paths: HostPaths,
        plan: Plan,
        launcher: Launcher,
        hypervisor: Hypervisor,
        generation: Callable[[], Generation | None],
        attachments: Attachments,
    ) -> None:
        self._attachments = attachments
        self._paths = paths
        self._plan = plan
        self._launcher = launcher
        self._hypervisor = hypervisor
        self._generation = generation
        self._places = VmPlaces(paths, hypervisor)
        self._defined: dict[str, str] = {}
        """As each VM was last defined by this agent."""

    def define_all(self, *, again: bool = True) -> None:
        """Let libvirt know every VM of the active releases as its definition says; one that starts now, afterwards.

        Args:
            again: also those that were defined just so before, and that somebody may have edited since.
        """
        for vm in self.all():
            name = vm.definition.name
            with self._launcher.starts.alone(name):
                known = not again and self._defined.get(name) == vm.xml
                try:
                    if not known and not self._launcher.starts.on_its_way(name):
                        self._define(vm)
                except (DomainRefused, NotReady) as error:
                    log.warning("%s was not defined: %s", name, error)

    def _define(self, vm: VmPlan) -> None:
        generation = self._generation()
        self._places.make_way(vm, self._plan.local_set(generation) if generation else None)
        make_vm_folder(self._paths, vm.definition.name)
        self._hypervisor.define(vm.xml)
        self._defined[vm.definition.name] = vm.xml

    def list(self, sees: Callable[[str], bool]) -> dict[str, Json]:
        """The VMs of the active releases that whoever asks may see."""
        vms: list[Json] = []
        for vm in self.all():
            if not sees(vm.definition.name):
                continue
            verdict = self._launcher.last_verdict(vm.definition.name)
            versions = self.versions_of(vm)
            vms.append(
                {
                    "name": vm.definition.name,
                    "title": vm.definition.title,
                    "channel": f"{vm.release.channel} {vm.release.number}",
                    "last_verdict": verdict.status if verdict else "none",
                    "restart": vm.definition.restart,
                    "authority": vm.authority,
                    **versions.members(),
                }
            )
        return {"vms": vms, "refused": self._standing_back(sees)}

    def _standing_back(self, sees: Callable[[str], bool]) -> Told:
        """Local VMs that a release's VM has taken the place of, and why; and why none counts."""
        generation = self._generation()
        content = self._plan.local_set(generation) if generation else None
        told: Told = [{"name": "", "why": self._plan.local_refusal}] if self._plan.local_refusal else []
        if generation is None or content is None:
            return told
        theirs = published(self._plan, generation)
        for vm in content.vms:
            why = displaced(vm, theirs)
            if why and sees(vm.name):
                told.append({"name": vm.name, "why": why})
        return told

    def show(self, name: str) -> dict[str, Json]:
        """What one VM is made of."""
        vm = self.find(name)
        return {
            "definition": vm.definition.members(),
            "release": {"channel": vm.release.channel, "number": vm.release.number},
            "xml": vm.xml,
            "restart": vm.definition.restart,
            "authority": vm.authority,
            # Who knows it can tell which VM a measured event is about.
            "measured": {"subject": vm.subject, "fsverity": vm.measured},
            **self.versions_of(vm).members(),
        }

    def versions(self) -> Iterator[tuple[Versions, str, bool]]:
        """What each VM runs and what is installed; its restart policy; whether what is installed is urgent."""
        for vm in self.all():
            yield self.versions_of(vm), vm.definition.restart, vm.release.urgent or vm.platform.urgent

    def is_off(self, name: str) -> bool:
        """Whether a VM does not run."""
        return self._hypervisor.state(name) in OFF

    def versions_of(self, vm: VmPlan) -> Versions:
        """What one VM runs and what is installed."""
        name = vm.definition.name
        state = self._hypervisor.state(name)
        return Versions(
            name=name,
            state=state,
            running=None if state in OFF else self._launcher.running_as(name),
            installed=installed(vm),
        )

    def start(self, name: str) -> dict[str, Json]:
        """Start a VM through libvirt and the gate.

        Raises:
            Refused: the gate said no.
            VmgateError: the gate could not even say no, for example for want of room for its record.
        """
        self._require_known(name)
        with self._launcher.starts.alone(name):
            return self._start(name)

    def _start(self, name: str) -> dict[str, Json]:
        before = self._launcher.asked[name]
        try:
            self._attachments.prepare(self.find(name).definition)
            self._define(self.find(name))
        except (ContentError, DocumentError, NotFound) as error:
            # The definition is damaged: the gate will refuse it, and say and record so.
            log.warning("%s was not defined anew: %s", name, error)
        except HypervisorError as error:
            # A VMM that is not there is the gate's matter: libvirt would not come so far as to ask it.
            self._launcher.explain(name, self.find(name).xml, "agent")
            if isinstance(error, DomainRefused):
                raise NotReady(f"{name} was not started", cause=error.cause, remedy=_remove(name)) from error
            raise
        try:
            self._hypervisor.start(name)
        except StartRefused as error:
            if self._launcher.asked[name] > before and name in self._launcher.said_no:
                raise self._launcher.said_no[name] from error
            raise
        verdict = self._launcher.last_verdict(name)
        if verdict is None or self._launcher.asked[name] == before:
            # libvirt started it and nobody asked the gate: libvirt runs without the hook.
            self._hypervisor.kill(name)
            raise NotReady(
                f"{name} was switched off again",
                cause="libvirt started it without asking the gate",
                remedy="restart libvirtd, which reads its hook only when it starts",
            )
        self._define_for_next(name)
        return {"name": name, "status": verdict.status, "level": verdict.level}

    def _define_for_next(self, name: str) -> None:
        """Let libvirt know the generation id that the next start has."""
        try:
            self._hypervisor.define(self.find(name).xml)
        except VmgateError as error:
            log.warning("%s was not defined for its next start: %s", name, error)

    def stop(self, name: str, seconds: int) -> dict[str, Json]:
        """Ask a VM to shut down and wait."""
        self._require_known(name)
        self._hypervisor.stop(name, seconds)
        return {"name": name}

    def kill(self, name: str) -> dict[str, Json]:
        """Switch a VM off."""
        self._require_known(name)
        self._hypervisor.kill(name)
        return {"name": name}

    def console(self, name: str) -> dict[str, Json]:
        """What a VM wrote to its console, made safe to print."""
        path = self.find(name).placement.console_log
        try:
            untrusted = durable.read_file(path, MAX_CONSOLE)
        except Missing:
            untrusted = b""
        except TooLarge as error:
            raise NotReady(
                f"the console of {name} was not read", cause=error.cause, remedy=f"look at {path}"
            ) from error
        return {"text": safe_text(untrusted)}

    def why(self, name: str) -> dict[str, Json]:
        """The last verdict for a VM."""
        self._require_known(name)
        verdict = self._launcher.last_verdict(name)
        if verdict is None:
            raise NotFound(f"{name} has no verdict", cause="nobody tried to start it", remedy=f"vmgate vm start {name}")
        return {"verdict": verdict.members(), "remedy": way_out(verdict)}

    def all(self) -> tuple[VmPlan, ...]:
        """The VMs of the active releases."""
        generation = self._generation()
        return tuple(self._plan.all(generation)) if generation else ()

    def _require_known(self, name: str) -> None:
        generation = self._generation()
        if generation is None or not (self._plan.artifacts(generation, name) or self._may_be_local(name)):
            raise NotFound(
                f"there is no VM {name[:63]!r}", cause="no active release defines it", remedy="see `vmgate vm list`"
            )

    def _may_be_local(self, name: str) -> bool:
        """Whether nobody can tell, since the local authority's word counts for nothing: then the gate says it."""
        return bool(self._plan.local_refusal) and self._hypervisor.state(name) != "undefined"

    def find(self, name: str) -> VmPlan:
        """One VM of the active releases, or of this host.

        Raises:
            NotFound: none has that name.
            ContentError, DocumentError: its definition is damaged.
        """
        self._require_known(name)
        generation = self._generation()
        found = self._plan.find(generation, name) if generation else None
        if found is None:
            raise NotFound(
                f"{name} was not looked up", cause=self._plan.local_refusal or "nobody defines it",
                remedy="see `vmgate vm list`",
            )  # fmt: skip
        return found


def _remove(name: str) -> str:
    """How a domain that has a VM's name, but is another, goes; what the VM's own TPM and firmware keep stays."""
    return f"`virsh undefine {name} --keep-nvram` removes another domain of that name, then `vmgate vm start {name}`"


BEFORE = frozenset(
    {
        "boot-log", "secure-boot", "secure-boot-variable", "secure-boot-authority", "boot-application", "boot-section",
        "boot-command-line", "boot-initrd", "boot-phase", "firmware", "ima-list", "ima-file", "ima-violation",
        "ima-buffer", "start-order", "host-local",
    }
)  # fmt: skip
"""Checks of what ran before vmgate or beside it."""

WAYS_OUT: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"boot-continuity"}), "the boot was broken off: stop what still runs, then reboot the host"),
    (
        frozenset({"not-approved", "baseline"}),
        "what is local to this host was not approved: see `vmgate config check`, accept it by `vmgate config approve`",
    ),
    (
        frozenset({"kernel-argument"}),
        "the kernel was not started with the arguments that the policy asks for: correct them and reboot",
    ),
    (BEFORE, "this boot is not the one that was signed: reboot into the signed image; if it stays, install it again"),
    (frozenset({"component-now"}), "a file of the VMM was changed: reinstall its package, or `vmgate update rollback`"),
    (
        frozenset({"domain", "generation-id", "lint"}),
        "the domain was edited in libvirt: `vmgate vm start` defines it again from its signed definition",
    ),
    (frozenset({"image", "definition"}), "a stored file is damaged: `vmgate update apply` fetches it again"),
    (
        frozenset({"disk-state", "disk-chain"}),
        "a disk is not as it was left: put back what was there, or `vmgate vm accept NAME` takes it as it is now",
    ),
    (frozenset({"disk-format"}), "its image begins like another format than raw: a corrected release of the workload"),
    (
        frozenset({"local-vm", "local-place", "local-name", "local-guardians", "local-image"}),
        "it was made on this host, and may not start as it is: `vmgate explain AG120` and `AG121`, or a release of it",
    ),
    (
        frozenset({"device"}),
        "a device that the VM has is not there, or not its own: `vmgate device list`, or `vmgate device eject`",
    ),
    (
        frozenset({"network"}),
        "a network is not as it was made: `vmgate net list`; a start makes it anew once no VM is on it",
    ),
    (frozenset({"taken-back"}), "its fleet took it back: ask whoever runs the fleet"),
    (frozenset({"refused-digest"}), "its publisher took it back: a corrected release of the workload"),
    (frozenset({"vm-start"}), "another VM still runs from a release that is not active any more: stop that VM"),
    (frozenset({"vm-tpm"}), "the VM's own TPM is not the one that it had: `vmgate explain AG040`"),
    (
        frozenset({"vm-key"}),
        "its key is shut: `vmgate recovery use FILE` if the TPM was cleared, else reboot or `vmgate update rollback`",
    ),
    (
        frozenset({"policy", "local-policy", "accelerator", "assurance-level"}),
        "the signed security policy does not allow it: a corrected release of the platform",
    ),
)
"""Checks that fail together, and what the administrator can do; the first row that fits is told."""


def way_out(verdict: Verdict) -> str:
    """What the administrator can do about a refusal; empty when there was none."""
    checks = {finding.check for finding in verdict.failures()}
    if not checks:
        return ""
    if any(finding.subject.startswith("/domain/uuid") for finding in verdict.failures()):
        return _remove(verdict.subject)
    otherwise = "reboot to measure all anew; if it stays, `vmgate update rollback` or a corrected release"
    return next((text for row, text in WAYS_OUT if row & checks), otherwise).replace("NAME", verdict.subject)
