# SPDX-License-Identifier: Apache-2.0
"""The platform of this host: measured into the TPM before anything runs, and judged by what its release says.

The VMM PCR gets what is found, never what is hoped for. Within a boot each component is extended once; a later change
is found by looking again (``recheck``), which extends nothing. This module does not decide about VMs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from agent.boot_logs import BootLogs
from agent.components import Component, Components
from agent.host_own import HostOwn
from agent.outside import Outside
from agent.registers import Registers
from content import durable
from content.digest_memory import DigestMemory
from content.fsverity import digest_bytes
from content.locks import BOOT_ID
from content.measuring import Digester
from content.store import ContentStore
from documents.errors import VmgateError
from documents.event import MeasuredEvent
from documents.host_files import ABSENT, HostFiles
from documents.host_image import HostImage
from documents.host_state import Generation
from documents.release import Origin, Release
from documents.security_policy import SecurityPolicy
from documents.site_baseline import SiteBaseline
from documents.verdict import Finding, Verdict
from measure.appraise import LIBVIRT_FILES, SITE_BASELINE, Claims, Reference, appraise, words_for
from measure.boot import Booted, explain
from measure.cel import CelRecord
from measure.errors import LogRefused
from measure.findings import enforced
from measure.known_image import KnownImage
from measure.local import BASELINE, BOOT, Words, judge_local, local_reference
from measure.log import MeasurementLog
from measure.pcr import BOOT_PCRS, LAUNCH_PCR, VMM_PCR
from measure.predict import events_of, switch_event, vmm_pcr_switch


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the TPM showed.

    Attributes:
        verdict: on the platform.
        pcrs: the registers (SHA-256 bank) that it rests on.
    """

    verdict: Verdict
    pcrs: Mapping[int, bytes]


class Platform:
    """Measures and appraises the platform.

    Args:
        outside: of this host.
        log: vmgate's measurement log of this boot.
        before: the logs of what ran before vmgate.
        components: finds what the VMM is made of.
        store: holds the security policy and the host image.
        earlier: gives the workload releases that were active before and whose VMs may still run.
        own: what is this host's own, and watches over its boot.
    """

    def __init__(
        self,
        outside: Outside,
        log: MeasurementLog,
        before: BootLogs,
        components: Components,
        store: ContentStore,
        earlier: Callable[[], tuple[Release, ...]],
        own: HostOwn,
    ) -> None:
        self._tpm = outside.tpm
        self._identity = outside.anchor.identity
        self._clock = outside.clock
        self._log = log
        self._before = before
        self._components = components
        self._store = store
        self._earlier = earlier
        self._local = own.local
        self._baselines = own.baselines
        self._continuity = own.continuity
        self._kexec = own.kexec
        self._registers = Registers(outside.tpm)
        self._image: tuple[str, KnownImage] | None = None
        self._memory = DigestMemory()

    @property
    def least_level(self) -> str:
        """The assurance level of a host that nothing more is known of. Only an appraisal can find L2."""
        return "L0" if self._tpm.software() else "L1"

    def enter(self, release: Release) -> None:
        """Measure the VMM for the first time in this boot, or finish a measurement that was cut off.

        Raises:
            BootBroken: this boot was broken off.
        """
        self._continuity.require_whole()
        self._extend_missing(release)
        self.measure_host()

    def change(self, release: Release) -> None:
        """Measure the VMM of a release that became active: after another one as a switch, and then the components."""
        self._continuity.require_whole()
        if not self._begun(release):
            self._log.extend(VMM_PCR, switch_event(release.channel, release.number, release.reference))
        self.enter(release)

    def can_change(self, release: Release) -> bool:
        """Whether this boot may be brought into a release's state.

        So it is if nothing was measured yet, if the change was begun, or if its publisher signed the switch to it from
        what this boot measured.
        """
        wanted = {index for policy in release.policies for index, _ in policy.pcrs} | {VMM_PCR}
        state = {index: value.hex() for index, value in self._tpm.read_pcrs("sha256", wanted).items()}
        state[VMM_PCR] = vmm_pcr_switch(state[VMM_PCR], release.channel, release.number, release.reference)
        signed = any(dict(policy.pcrs).items() <= state.items() for policy in release.policies)
        return signed or self._begun(release)

    def _begun(self, release: Release) -> bool:
        """Whether all that this boot measured last is a beginning of the release, or a switch to it."""
        events = self._vmm_events()
        switches = [event for event in events if event.event == "vmm-switch"]
        if switches:
            return switches[-1] == switch_event(release.channel, release.number, release.reference)
        return events == list(events_of(release.reference))[: len(events)]

    def _vmm_events(self) -> list[MeasuredEvent]:
        return [record.content for record in self._log.records() if record.pcr == VMM_PCR]

    def _extend_missing(self, release: Release) -> None:
        """Extend the components that the newest segment of the log lacks; a cut may have left only some."""
        done = 0
        for entry in self._vmm_events():
            done = 0 if entry.event == "vmm-switch" else done + 1
        origins = {value.component: value.origin for value in release.reference}
        for component in self._components.find(release)[done:]:
            event = MeasuredEvent(
                event="component",
                subject=component.name,
                fsverity=component.fsverity,
                origin=origins[component.name],
            )
            self._log.extend(VMM_PCR, event)

    def measure_host(self, local: Mapping[str, str] | None = None) -> None:
        """Extend what is local to this host where this boot's log says something else, or nothing yet.

        Args:
            local: its digests, where they were found just now.
        """
        self._continuity.require_whole()
        logged = {r.content.subject: r.content.fsverity for r in self._log.records() if r.content.event == "host"}
        boot = digest_bytes(durable.read_file(BOOT_ID, 100).strip())
        found = {BOOT: boot, **(local or self._local.digests())} | {BASELINE: self._baselines.digest()}
        for subject, digest in found.items():
            if logged.get(subject) != digest:
                self.note("host", subject, digest)

    def note(self, event: str, subject: str, fsverity: str, origin: Origin | None = None, *, vtpm: str = "") -> None:
        """Extend one event into the launch PCR; see ``MeasuredEvent``."""
        content = MeasuredEvent(event=event, subject=subject, fsverity=fsverity, origin=origin, vtpm=vtpm)
        self._log.extend(LAUNCH_PCR, content)

    def records(self) -> tuple[CelRecord, ...]:
        """The measurement log of this boot."""
        return self._log.records()

    def policy(self, release: Release) -> SecurityPolicy:
        """The signed security policy of a platform release.

        Raises:
            ContentError: it is not in the store as it was signed.
        """
        (artifact,) = release.of_kind("security-policy")
        return SecurityPolicy.parse(self._store.read(artifact.fsverity, artifact.length))

    def _warn_only(self, release: Release) -> tuple[str, ...]:
        """What the policy only warns about; nothing where it is not as it was signed, which is a failure of its own."""
        try:
            return self.policy(release).warn_only
        except VmgateError:
            return ()

    def digester(self, release: Release) -> Digester:
        """Measures what is about to be used, as the signed policy of a platform release allows.

        A policy that cannot be read allows nothing: other checks will say so.
        """
        try:
            policy = self.policy(release)
        except VmgateError:
            policy = None
        return digester_under(policy, self._memory)

    def image(self, release: Release) -> HostImage | None:
        """What hosts of a platform release boot; None where it does not say.

        Raises:
            ContentError: it is not in the store as it was signed.
        """
        known = self._known(release)
        return known.image if known else None

    def _known(self, release: Release) -> KnownImage | None:
        artifact = next(iter(release.of_kind("host-image")), None)
        if artifact is None:
            return None
        if self._image is None or self._image[0] != artifact.fsverity:
            # Kept with what follows from it, because it names ten thousand files and is asked for at each start.
            image = HostImage.parse(self._store.read(artifact.fsverity, artifact.length))
            self._image = (artifact.fsverity, KnownImage(image))
        return self._image[1]

    def appraise(self, generation: Generation) -> Verdict:
        """Judge this boot's measurements by the active releases, after a whole reading of the TPM's registers."""
        return self.look(generation, anew=True).verdict

    def look(self, generation: Generation, *, anew: bool = False) -> Look:
        """The same with what it rests on; for a VM's start, one command of the TPM (``Registers``)."""
        platform = generation.platform
        image = self.image(platform)
        # Under the lock that extends hold: values and log must be of one moment.
        with self._tpm.lock:
            pcrs = self._registers.read(boot=image is not None, anew=anew)
            records = self._log.records()
        claims = Claims(
            chip=not self._tpm.software(),
            records=records,
            pcrs={index: pcrs[index] for index in (LAUNCH_PCR, VMM_PCR)},
            boot=self._booted(pcrs) if image else None,
            approved=self._baselines.approved(),
            command_line=self._local.command_line(),
        )
        return Look(verdict=appraise(claims, self._reference(generation), self._clock()), pcrs=pcrs)

    def _reference(self, generation: Generation) -> Reference:
        platform = generation.platform
        known = self._known(platform)
        return Reference(
            identity=self._identity,
            platform=platform,
            workloads=generation.workloads,
            policy=self.policy(platform),
            earlier=tuple(release for release in self._earlier() if release not in generation.workloads),
            image=known.image if known else None,
            known=known,
            packages=self.packages(platform),
            site=self.site_baseline(platform),
        )

    def _booted(self, pcrs: Mapping[int, bytes]) -> Booted | None:
        """What ran before vmgate; None where the logs do not explain the PCRs, which the appraisal will say."""
        try:
            return explain(
                self._before.boot(),
                self._before.ima(),
                lambda values: all(values.get(index) == pcrs[index] for index in BOOT_PCRS),
            )
        except LogRefused:
            return None

    def recheck(self, release: Release) -> tuple[Finding, ...]:
        """Digest every component again and compare; extends nothing."""
        expected = {value.component: value.fsverity for value in release.reference}
        warn_only = self._warn_only(release)
        findings: list[Finding] = []
        for component in self._components.find(release, self.digester(release)):
            compared = _compare(component, expected[component.name])
            findings.extend(enforced(finding, component.name, warn_only) for finding in compared)
        return tuple(findings)

    def recheck_named(self, release: Release) -> tuple[Finding, ...]:
        """Measure again what is local to this host and what the release's publisher names all the same."""
        wanted = local_reference(self.image(release), self.packages(release))
        found = self._local.digests()
        return tuple(_judged(subject, found[subject], Words(publisher=wanted)) for subject in wanted)

    def recheck_boot(self) -> tuple[Finding, ...]:
        """Look whether this boot is still whole, and nobody is about to leave it by kexec."""
        self._continuity.look(self._log)
        return self._continuity.finding(), self._kexec.finding()

    def hold_boot(self) -> None:
        """Keep others from leaving this boot behind a VM that is about to start.

        Raises:
            KexecOpen: they could.
        """
        self._kexec.forbid()

    def local_digests(self, release: Release) -> dict[str, str]:
        """Measure again all that is local to this host."""
        return self._local.digests(self.digester(release))

    def judge_local(self, generation: Generation, local: Mapping[str, str]) -> tuple[Finding, ...]:
        """Judge what is local to this host by publisher, baseline and policy.

        The kernel's arguments are judged by ``appraise``: they do not change in a boot.
        """
        words = self.words(generation)
        return tuple(_judged(subject, digest, words) for subject, digest in local.items())

    def words(self, generation: Generation) -> Words:
        """Whose word there is for what is local to this host."""
        return words_for(self._reference(generation), self._baselines.approved())

    def packages(self, release: Release) -> HostFiles | None:
        """The files of libvirt's packages as a platform release lists them; None where it does not.

        Raises:
            ContentError: the list is not in the store as it was signed.
        """
        artifact = release.artifact(LIBVIRT_FILES)
        return HostFiles.parse(self._store.read(artifact.fsverity, artifact.length)) if artifact else None

    def site_baseline(self, release: Release) -> SiteBaseline | None:
        """What a platform release approves of the things local to all its hosts; None where it does not.

        Raises:
            ContentError: it is not in the store as it was signed.
        """
        artifact = release.artifact(SITE_BASELINE)
        return SiteBaseline.parse(self._store.read(artifact.fsverity, artifact.length)) if artifact else None


def digester_under(policy: SecurityPolicy | None, memory: DigestMemory) -> Digester:
    """What measures under a security policy: only one that says so by name lets a reading be remembered."""
    return Digester(memory if policy is not None and policy.digests == "once-per-boot" else None)


def _compare(component: Component, expected: str) -> tuple[Finding, ...]:
    if component.flaw and component.fsverity == expected:
        bad = _finding(component.name, "fail", expected, component.fsverity)
        return (replace(bad, expected=f"mounted from {bad.expected}", found=component.flaw[:500]),)
    if component.fsverity == expected:
        good = _finding(component.name, "pass", expected, component.fsverity)
        return (replace(good, kept=component.kept, taken=component.taken),)
    inside = tuple(
        _finding(f"{component.name} {path}", "fail", old, new) for path, old, new in component.differences[:100]
    )
    return inside or (_finding(component.name, "fail", expected, component.fsverity),)


def _judged(subject: str, digest: str, words: Words) -> Finding:
    return judge_local("component-now" if subject in words.publisher else "local-now", subject, digest, words)


def _finding(subject: str, outcome: str, expected: str, found: str) -> Finding:
    return Finding(
        check="component-now",
        subject=subject,
        outcome=outcome,
        expected=f"sha256:{expected}",
        found="nothing there" if found == ABSENT else f"sha256:{found}",
    )
