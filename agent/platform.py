# SPDX-License-Identifier: Apache-2.0
"""The platform of this host: measured into the TPM before anything runs, and judged by what its release says.

The VMM PCR gets what is found, never what is hoped for. Within a boot each component is extended once; a later change
is found by looking again (``recheck``), which extends nothing. This module does not decide about VMs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from agent.boot_logs import BootLogs
from agent.components import Component, Components
from agent.outside import Outside
from content import durable
from content.digest_memory import DigestMemory
from content.errors import ContentError
from content.fsverity import digest_bytes, digest_file
from content.measuring import Digester
from content.store import ContentStore
from documents.errors import VmgateError
from documents.event import MeasuredEvent
from documents.host_files import ABSENT
from documents.host_image import HostImage
from documents.host_state import Generation
from documents.release import Release
from documents.security_policy import SecurityPolicy
from documents.verdict import Finding, Verdict
from measure.appraise import COMMAND_LINE, LOCAL_FILES, Claims, Reference, appraise, local_reference
from measure.boot import Booted, explain
from measure.cel import CelRecord
from measure.errors import LogRefused
from measure.log import MeasurementLog
from measure.pcr import BOOT_PCRS, LAUNCH_PCR, VMM_PCR
from measure.predict import events_of, switch_event, vmm_pcr_switch

KERNEL_COMMAND_LINE = Path("/proc/cmdline")


class Platform:
    """Measures and appraises the platform.

    Args:
        outside: of this host.
        log: vmgate's measurement log of this boot.
        before: the logs of what ran before vmgate.
        components: finds what the VMM is made of.
        store: holds the security policy and the host image.
        earlier: gives the workload releases that were active before and whose VMs may still run.
    """

    def __init__(
        self,
        outside: Outside,
        log: MeasurementLog,
        before: BootLogs,
        components: Components,
        store: ContentStore,
        earlier: Callable[[], tuple[Release, ...]],
    ) -> None:
        self._tpm = outside.tpm
        self._identity = outside.anchor.identity
        self._settings = outside.paths.settings
        self._clock = outside.clock
        self._log = log
        self._before = before
        self._components = components
        self._store = store
        self._earlier = earlier
        self._image: tuple[str, HostImage] | None = None
        self._memory = DigestMemory()

    @property
    def least_level(self) -> str:
        """The assurance level of a host that nothing more is known of. Only an appraisal can find L2."""
        return "L0" if self._tpm.software() else "L1"

    def enter(self, release: Release) -> None:
        """Measure the VMM for the first time in this boot, or finish a measurement that was cut off."""
        self._extend_missing(release)
        self._measure_host()

    def change(self, release: Release) -> None:
        """Measure the VMM of a release that became active: after another one as a switch, and then the components."""
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
        for component in self._components.find(release)[done:]:
            event = MeasuredEvent(event="component", subject=component.name, fsverity=component.fsverity)
            self._log.extend(VMM_PCR, event)

    def _measure_host(self) -> None:
        """Extend what is local to this host, once a boot."""
        logged = {record.content.subject for record in self._log.records() if record.content.event == "host"}
        for subject, digest in self._local().items():
            if subject not in logged:
                self.note("host", subject, digest)

    def _local(self) -> dict[str, str]:
        """Digests of what is local to this host, as it is now, by the subject of its event."""
        paths = {subject: Path(path) for subject, path in LOCAL_FILES.items()} | {"host/settings": self._settings}
        command_line = digest_bytes(durable.read_file(KERNEL_COMMAND_LINE, 100_000))
        return {COMMAND_LINE: command_line} | {subject: _digest(path) for subject, path in paths.items()}

    def note(self, event: str, subject: str, fsverity: str) -> None:
        """Extend one event into the launch PCR."""
        self._log.extend(LAUNCH_PCR, MeasuredEvent(event=event, subject=subject, fsverity=fsverity))

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
        artifact = next(iter(release.of_kind("host-image")), None)
        if artifact is None:
            return None
        if self._image is None or self._image[0] != artifact.fsverity:
            # Kept, because it has megabytes and is asked for at each start.
            image = HostImage.parse(self._store.read(artifact.fsverity, artifact.length))
            self._image = (artifact.fsverity, image)
        return self._image[1]

    def appraise(self, generation: Generation) -> Verdict:
        """Judge this boot's measurements by the active releases."""
        platform = generation.platform
        image = self.image(platform)
        # Under the lock that extends hold: values and log must be of one moment.
        with self._tpm.lock:
            pcrs = self._tpm.read_pcrs("sha256", (*BOOT_PCRS, LAUNCH_PCR, VMM_PCR) if image else (LAUNCH_PCR, VMM_PCR))
            records = self._log.records()
        claims = Claims(
            chip=not self._tpm.software(),
            records=records,
            pcrs={index: pcrs[index] for index in (LAUNCH_PCR, VMM_PCR)},
            boot=self._booted(pcrs) if image else None,
        )
        reference = Reference(
            identity=self._identity,
            platform=platform,
            workloads=generation.workloads,
            policy=self.policy(platform),
            earlier=tuple(release for release in self._earlier() if release not in generation.workloads),
            image=image,
        )
        return appraise(claims, reference, self._clock())

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
        findings: list[Finding] = []
        for component in self._components.find(release, self.digester(release)):
            findings.extend(_compare(component, expected[component.name]))
        wanted, found = local_reference(self.image(release)), self._local()
        findings.extend(
            _finding(subject, "pass" if found[subject] == digest else "fail", digest, found[subject])
            for subject, digest in wanted.items()
        )
        return tuple(findings)


def digester_under(policy: SecurityPolicy | None, memory: DigestMemory) -> Digester:
    """What measures under a security policy: only one that says so by name lets a reading be remembered."""
    return Digester(memory if policy is not None and policy.digests == "once-per-boot" else None)


def _compare(component: Component, expected: str) -> tuple[Finding, ...]:
    if component.fsverity == expected:
        good = _finding(component.name, "pass", expected, component.fsverity)
        return (replace(good, kept=component.kept, taken=component.taken),)
    inside = tuple(
        _finding(f"{component.name} {path}", "fail", old, new) for path, old, new in component.differences[:100]
    )
    return inside or (_finding(component.name, "fail", expected, component.fsverity),)


def _finding(subject: str, outcome: str, expected: str, found: str) -> Finding:
    return Finding(
        check="component-now",
        subject=subject,
        outcome=outcome,
        expected=f"sha256:{expected}",
        found="nothing there" if found == ABSENT else f"sha256:{found}",
    )


def _digest(path: Path) -> str:
    try:
        return digest_file(path, allow_link=True).fsverity
    except ContentError:
        return ABSENT
