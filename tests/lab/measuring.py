# SPDX-License-Identifier: Apache-2.0
"""A publisher of small releases, and hosts that measure them without a TPM.

Digests are made up from names, so that a release can be told apart from the next by one component. Nothing here is
fit for use outside tests: keys live in memory and are made from a seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from content.fsverity import digest_bytes
from documents.event import FROM_A_RELEASE, MeasuredEvent
from documents.host_files import ABSENT
from documents.host_image import HostImage
from documents.release import Artifact, Origin, PolicyKey, ReferenceValue, Release
from documents.security_policy import SecurityPolicy
from keys.tpm_policy import pcr_policy, policy_ref
from lab.boot_logs import Machine
from measure.appraise import Claims, Reference
from measure.boot import explain
from measure.cel import CelRecord, record, replay
from measure.local import BASELINE, local_reference
from measure.pcr import LAUNCH_PCR, VMM_PCR
from measure.predict import events_of, sign_policies, switch_event

CHANNEL = "platform"
WORKLOADS = "desktops"
POLICY = SecurityPolicy(allow=("AllowSoftwareTpm",), max_vcpus=4, max_memory_mib=4096)
COMPONENTS = ("vmm/host-files", "vmm/firmware-code", "vmm/firmware-vars", "vmgate/build", "vmgate/hook")
BANKS = ("sha1", "sha256", "sha384", "sha512")


def digest(text: str) -> str:
    """A digest that stands for a thing of this name."""
    return hashlib.sha256(text.encode()).hexdigest()


IDENTITY = digest("first root")


class Signer:
    """A TPM policy key in memory."""

    def __init__(self, seed: str = "publisher") -> None:
        self._key = ec.derive_private_key(int(digest(seed), 16) >> 1, ec.SECP256R1())

    def public(self) -> PolicyKey:
        numbers = self._key.public_key().public_numbers()
        return PolicyKey(x=f"{numbers.x:064x}", y=f"{numbers.y:064x}")

    def sign(self, pcrs: Mapping[int, str], channel: str, epoch: int) -> bytes:
        return self.sign_digests(pcr_policy(pcrs), policy_ref(channel, epoch))

    def sign_digests(self, approved: bytes, ref: bytes) -> bytes:
        """What only a stolen key does: sign what it is asked for."""
        r, s = decode_dss_signature(self._key.sign(approved + ref, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


PUBLISHER = Signer()


def platform(
    number: int,
    *,
    predecessors: Iterable[Release] = (),
    signer: Signer = PUBLISHER,
    epoch: int = 1,
    epochs: Iterable[int] = (1,),
    refused: tuple[str, ...] = (),
    image: HostImage | None = None,
) -> Release:
    """A platform release; its VMM differs from that of every other number. With an image, its hosts boot that."""
    found = {name: digest(f"{name} {number if name.startswith('vmm/') else 0}") for name in COMPONENTS}
    found["vmgate/security-policy"] = digest_bytes(POLICY.encode())
    reference = tuple(
        # What differs in each release came with it, and what never differs with the first.
        ReferenceValue(
            component=name,
            fsverity=value,
            origin=Origin.of(CHANNEL, number if name.startswith("vmm/") else 1),
        )
        for name, value in {"repository": IDENTITY, **found}.items()
    )
    kinds = ("host-files", "firmware-code", "firmware-vars", "vmgate-build", "hook", "security-policy")
    delivered = list(zip(found.items(), kinds, strict=True))
    if image:
        delivered.append((("host/image", digest_bytes(image.encode())), "host-image"))
    return Release(
        channel=CHANNEL,
        authority="platform",
        number=number,
        epoch=epoch,
        minimum_agent="0.1.0",
        import_days=30,
        accepts=(0, 0),
        artifacts=tuple(Artifact(name=name, kind=kind, fsverity=value, length=1) for (name, value), kind in delivered),
        reference=reference,
        policy_keys=(PUBLISHER.public(),),
        policies=sign_policies(
            channel=CHANNEL,
            number=number,
            reference=reference,
            predecessors=predecessors,
            signer=signer,
            epochs=epochs,
            image=image,
        ),
        refused=refused,
    )


def with_policy(release: Release, policy: SecurityPolicy) -> Release:
    """The release with another security policy, which it names; its TPM policies stay those of the old one."""
    name, value = "vmgate/security-policy", digest_bytes(policy.encode())
    return replace(
        release,
        artifacts=tuple(replace(a, fsverity=value) if a.name == name else a for a in release.artifacts),
        reference=tuple(replace(v, fsverity=value) if v.component == name else v for v in release.reference),
    )


def workload(number: int, *names: str, accepts: tuple[int, int] = (1, 9), refused: tuple[str, ...] = ()) -> Release:
    """A workload release with a definition and an image for each VM."""
    artifacts = [
        Artifact(name=f"{folder}/{name}", kind=kind, fsverity=digest(f"{folder}/{name} {number}"), length=1)
        for name in names
        for folder, kind in (("vm", "definition"), ("image", "image"))
    ]
    return Release(
        channel=WORKLOADS,
        authority="workload",
        number=number,
        epoch=1,
        minimum_agent="0.1.0",
        import_days=30,
        accepts=accepts,
        artifacts=tuple(artifacts),
        reference=(),
        policy_keys=(),
        policies=(),
        refused=refused,
    )


def reference(release: Release, *workloads: Release, **changes: object) -> Reference:
    """What a host of these releases is compared with."""
    base = Reference(identity=IDENTITY, platform=release, workloads=workloads, policy=POLICY)
    return replace(base, **changes)  # type: ignore[arg-type]


def booted(release: Release) -> list[tuple[int, MeasuredEvent]]:
    """What a host measures that boots into a release."""
    return [(VMM_PCR, event) for event in events_of(release.reference)]


def switched(release: Release) -> list[tuple[int, MeasuredEvent]]:
    """What a running host measures besides when it switches to a release."""
    event = switch_event(release.channel, release.number, release.reference)
    return [(VMM_PCR, event), *booted(release)]


def launch(event: str, subject: str, fsverity: str, number: int = 1) -> tuple[int, MeasuredEvent]:
    """One event of the launch PCR, about what came with a workload release of this number."""
    return LAUNCH_PCR, MeasuredEvent(
        event=event,
        subject=subject,
        fsverity=fsverity,
        origin=Origin.of(WORKLOADS, number) if event in FROM_A_RELEASE else None,
        vtpm=digest(f"endorsement key of {subject}") if event == "vm-start" else "",
    )


def started(name: str, number: int) -> tuple[int, MeasuredEvent]:
    """A VM starts by the definition of a workload release."""
    return launch("vm-start", name, digest(f"vm/{name} {number}"), number)


def stopped(name: str, number: int) -> tuple[int, MeasuredEvent]:
    """The same VM stops."""
    return launch("vm-stop", name, digest(f"vm/{name} {number}"), number)


def logged(events: Iterable[tuple[int, MeasuredEvent]]) -> tuple[CelRecord, ...]:
    """The log of these events."""
    return tuple(record(number, pcr, event, BANKS) for number, (pcr, event) in enumerate(events))


def local(machine: Machine) -> list[tuple[int, MeasuredEvent]]:
    """What a host measures of its own that booted this machine's root."""
    found = local_reference(machine.image()) | {BASELINE: ABSENT}
    return [launch("host", subject, digest) for subject, digest in found.items()]


def claims(
    events: Iterable[tuple[int, MeasuredEvent]], *, chip: bool = False, machine: Machine | None = None
) -> Claims:
    """What an honest host claims that measured these events, and booted this machine."""
    records = logged(events)
    before = explain(machine.boot_log(), machine.ima_list(), machine.matches()) if machine else None
    return Claims(chip=chip, records=records, pcrs=replay(records, "sha256"), boot=before)
