# SPDX-License-Identifier: Apache-2.0
"""Which VMs the active releases and the local authority define, and how each is placed on this host.

This module reads the store and renders; it does not judge and starts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol
from uuid import UUID, uuid5

from agent import vmm_images
from agent.attachments import Attachments
from agent.errors import NotReady
from agent.paths import HostPaths
from agent.vmm_images import VmmImages, image_of
from content.store import ContentStore
from documents.canonical import malformed
from documents.definition import Disk, VmDefinition
from documents.errors import VmgateError
from documents.host_state import Generation
from documents.local_set import LocalSet, LocalVm
from documents.release import Artifact, Origin, Release
from hypervisor.domain import Placement, render

log = logging.getLogger(__name__)
EPHEMERAL = "ephemeral"
EMULATOR = Path("/usr/bin/qemu-system-x86_64")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """What stands in the place of a release for a VM that was made on this host.

    Attributes:
        vm: as the local authority signed it.
    """

    vm: LocalVm
    channel: ClassVar[str] = "local"
    """No channel: nothing came by one."""
    origin: ClassVar[Origin | None] = None
    urgent: ClassVar[bool] = False

    @property
    def number(self) -> int:
        """Of the signature that brought the definition."""
        return self.vm.number


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPlan:
    """One VM as it would be started.

    Attributes:
        definition: as its publisher, or the local authority, signed it.
        artifact: the definition's artifact.
        release: the workload release that defines it, or what stands for one.
        platform: the platform release that it would run on.
        placement: where its parts lie on this host.
        xml: the domain that the definition renders to.
        vars_template: the signed UEFI variables that each start begins with.
        programs: folder of the VMM image's programs; None where the VMM is the host's files.
    """

    definition: VmDefinition
    artifact: Artifact
    release: Release | LocalSource
    platform: Release
    placement: Placement
    xml: str
    vars_template: Artifact
    programs: Path | None = None

    @property
    def local(self) -> LocalVm | None:
        """The VM as the local authority signed it; None for a release's."""
        return self.release.vm if isinstance(self.release, LocalSource) else None

    @property
    def authority(self) -> str:
        """Whose word the definition is, as findings name it."""
        return "local" if self.local else "publisher"

    @property
    def subject(self) -> str:
        """What measured events call the VM."""
        return self.local.subject if self.local else self.definition.name

    @property
    def measured(self) -> str:
        """What measured events have for the digest of its definition."""
        return self.local.measured if self.local else self.artifact.fsverity


class LocalWord(Protocol):
    """The local authority; ``agent.local_authority`` fulfils it."""

    @property
    def refusal(self) -> str:
        """See ``Plan.local_refusal``."""

    def content(self, platform: Release) -> LocalSet | None:
        """What it vouches for under a platform release."""


class Plan:
    """Finds and places VMs.

    Args:
        paths: of the host.
        store: holds what releases deliver.
        accelerator: ``kvm`` or ``emulation``.
        images: mounted VMM images.
        attachments: what the host offers to VMs.
        local: the local authority's word, of a host that has one.
    """

    def __init__(
        self,
        paths: HostPaths,
        store: ContentStore,
        accelerator: str,
        images: VmmImages,
        attachments: Attachments,
        local: LocalWord | None = None,
    ) -> None:
        self._paths = paths
        self._store = store
        self._images = images
        self._accelerator = accelerator
        self._attachments = attachments
        self._word = local

    def local_set(self, generation: Generation) -> LocalSet | None:
        """What the local authority vouches for under a generation; None for nothing."""
        return self._word.content(generation.platform) if self._word else None

    @property
    def local_refusal(self) -> str:
        """Why what the local authority signed counts for nothing; empty if it counts, or if there is none."""
        return self._word.refusal if self._word else ""

    def artifacts(self, generation: Generation, name: str) -> tuple[Artifact, ...]:
        """The definitions of that VM, by their names alone; the store is not read. A release's comes before a local."""
        definitions = (artifact for release in generation.workloads for artifact in release.of_kind("definition"))
        found = tuple(artifact for artifact in definitions if artifact.name == f"vm/{name}")
        vm = self.local_vm(generation, name)
        return found or ((_artifact(vm),) if vm else ())

    def local_vm(self, generation: Generation, name: str) -> LocalVm | None:
        """The VM of that name as the local authority has it; None where it has none, or a release defines one."""
        content = self.local_set(generation)
        taken = any(release.artifact(f"vm/{name}") for release in generation.workloads)
        return content.vm(name) if content and not taken else None

    def find(self, generation: Generation, name: str) -> VmPlan | None:
        """The VM of that name, if an active workload release or the local authority defines it."""
        local = self.local_vm(generation, name)
        if local is not None:
            return self._place_local(generation.platform, local)
        return next((vm for vm in self.published(generation) if vm.definition.name == name), None)

    def published(self, generation: Generation) -> Iterator[VmPlan]:
        """All VMs of the active workload releases. A name or UUID that two define is nobody's.

        Raises:
            NotReady: two releases define the same VM.
            ContentError: a definition is not in the store.
        """
        seen: set[str] = set()
        for release in generation.workloads:
            for artifact in release.of_kind("definition"):
                vm = self._place(generation.platform, release, artifact)
                if {vm.definition.name, vm.definition.uuid} & seen:
                    raise NotReady(
                        "the VMs of this host are not clear",
                        cause=f"two definitions claim {vm.definition.name} or its UUID",
                        remedy="ask the publishers to release only one",
                    )
                seen |= {vm.definition.name, vm.definition.uuid}
                yield vm

    def all(self, generation: Generation) -> Iterator[VmPlan]:
        """The VMs of the active workload releases, then those of this host whose name and UUID none of them has.

        A local VM whose definition is damaged is left out, so that it harms no other; the gate says why it stays off.

        Raises:
            NotReady, ContentError: see ``published``.
        """
        seen: set[str] = set()
        for vm in self.published(generation):
            seen |= {vm.definition.name, vm.definition.uuid}
            yield vm
        content = self.local_set(generation)
        for local in content.vms if content else ():
            if {local.name, local.uuid} & seen:
                continue
            try:
                placed = self._place_local(generation.platform, local)
            except VmgateError as error:
                log.warning("the local VM %s is left out: %s", local.name, error)
                continue
            yield placed

    def _place_local(self, platform: Release, vm: LocalVm) -> VmPlan:
        return self._place(platform, LocalSource(vm=vm), _artifact(vm))

    def _place(self, platform: Release, release: Release | LocalSource, artifact: Artifact) -> VmPlan:
        definition = VmDefinition.parse(self._store.read(artifact.fsverity, artifact.length))
        if artifact.name != f"vm/{definition.name}":
            raise malformed("VM definition", f"it calls itself {definition.name} and its release {artifact.name}")
        (template,) = platform.of_kind("firmware-vars")
        folder = self._paths.vm(definition.name)
        emulator, firmware_code, programs = self._vmm(platform)
        placement = Placement(
            emulator=emulator,
            firmware_code=firmware_code,
            firmware_vars=folder / "vars.fd",
            disks={disk.name: self._store.path(disk.image) for disk in definition.based},
            console_log=folder / "console.log",
            accelerator=self._accelerator,
            vtpm_secret=definition.uuid,
            own_disks={disk.name: own_disk(folder, disk) for disk in definition.disks if disk.disk_class != "readonly"},
            disk_secrets={
                disk.name: disk_secret(definition.uuid, disk.name) for disk in definition.disks if not disk.image
            },
            networks=self._attachments.networks.places(definition),
            devices=self._attachments.devices.places(definition),
            generation_id=self._attachments.generations.next(definition.name),
        )
        return VmPlan(
            definition=definition,
            artifact=artifact,
            release=release,
            platform=platform,
            placement=placement,
            xml=render(definition, placement),
            vars_template=template,
            programs=programs,
        )

    def programs(self, generation: Generation) -> Path | None:
        """The folder of the VMM image's programs under a generation; None where the VMM is the host's files."""
        return self._vmm(generation.platform)[2]

    def _vmm(self, platform: Release) -> tuple[Path, Path, Path | None]:
        """Emulator, firmware code, and the folder of swtpm's programs; None for those of the host."""
        image = image_of(platform)
        if image is None:
            (code,) = platform.of_kind("firmware-code")
            return EMULATOR, self._store.path(code.fsverity), None
        mounted = self._images.mounted(image)
        return mounted / vmm_images.EMULATOR, mounted / vmm_images.FIRMWARE_CODE, mounted / vmm_images.PROGRAMS


def _artifact(vm: LocalVm) -> Artifact:
    return Artifact(name=f"vm/{vm.name}", kind="definition", fsverity=vm.fsverity, length=vm.length)


def own_disk(folder: Path, disk: Disk) -> Path:
    """Where the file of a disk lies that the guest can write; a disk of another class is another file."""
    return folder / "disks" / f"{disk.name}.{disk.disk_class}.qcow2"


def disk_secret(vm: str, disk: str) -> str:
    """UUID of the libvirt secret of an encrypted disk: its own for each disk of each VM (RFC 9562, 5.5)."""
    return str(uuid5(UUID(vm), f"vmgate disk {disk}"))
