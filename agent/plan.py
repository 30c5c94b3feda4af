# SPDX-License-Identifier: Apache-2.0
"""Which VMs the active releases define, and how each is placed on this host.

This module reads the store and renders; it does not judge and starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import vmm_images
from agent.errors import NotReady
from agent.paths import HostPaths
from agent.vmm_images import VmmImages, image_of
from content.store import ContentStore
from documents.canonical import malformed
from documents.definition import VmDefinition
from documents.host_state import Generation
from documents.release import Artifact, Release
from hypervisor.domain import Placement, render

EMULATOR = Path("/usr/bin/qemu-system-x86_64")


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPlan:
    """One VM as it would be started.

    Attributes:
        definition: as its publisher signed it.
        artifact: the definition's artifact.
        release: the workload release that defines it.
        platform: the platform release that it would run on.
        placement: where its parts lie on this host.
        xml: the domain that the definition renders to.
        vars_template: the signed UEFI variables that each start begins with.
        programs: folder of the VMM image's programs; None where the VMM is the host's files.
    """

    definition: VmDefinition
    artifact: Artifact
    release: Release
    platform: Release
    placement: Placement
    xml: str
    vars_template: Artifact
    programs: Path | None = None


class Plan:
    """Finds and places VMs.

    Args:
        paths: of the host.
        store: holds what releases deliver.
        accelerator: ``kvm`` or ``emulation``.
        images: mounted VMM images.
    """

    def __init__(self, paths: HostPaths, store: ContentStore, accelerator: str, images: VmmImages) -> None:
        self._paths = paths
        self._store = store
        self._images = images
        self._accelerator = accelerator

    def artifacts(self, generation: Generation, name: str) -> tuple[Artifact, ...]:
        """The definitions of that VM in the active workload releases, by their names alone; the store is not read."""
        definitions = (artifact for release in generation.workloads for artifact in release.of_kind("definition"))
        return tuple(artifact for artifact in definitions if artifact.name == f"vm/{name}")

    def find(self, generation: Generation, name: str) -> VmPlan | None:
        """The VM of that name, if an active workload release defines it."""
        return next((vm for vm in self.all(generation) if vm.definition.name == name), None)

    def all(self, generation: Generation) -> Iterator[VmPlan]:
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

    def _place(self, platform: Release, release: Release, artifact: Artifact) -> VmPlan:
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
            disks={disk.name: self._store.path(disk.image) for disk in definition.disks},
            console_log=folder / "console.log",
            accelerator=self._accelerator,
            vtpm_secret=definition.uuid,
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

    def _vmm(self, platform: Release) -> tuple[Path, Path, Path | None]:
        """Emulator, firmware code, and the folder of swtpm's programs; None for those of the host."""
        image = image_of(platform)
        if image is None:
            (code,) = platform.of_kind("firmware-code")
            return EMULATOR, self._store.path(code.fsverity), None
        mounted = self._images.mounted(image)
        return mounted / vmm_images.EMULATOR, mounted / vmm_images.FIRMWARE_CODE, mounted / vmm_images.PROGRAMS
