# SPDX-License-Identifier: Apache-2.0
"""A host's keys on a real swtpm, as the agent keeps them, with boots, switches and cuts. No updater and no libvirt.

What a boot measures comes from releases (``lab.measuring``) and, where the host boots an image, from a machine
(``lab.boot_logs``), whose log is then this boot's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import tpm2_pytss as tss

from agent.audit import AuditTrail
from agent.audit_key import AuditKey
from agent.paths import HostPaths
from agent.recovery import HostKeys, Recovery
from agent.recovery_copies import RecoveryCopies
from agent.resealing import Resealing
from agent.vm_keys import VmKeys
from content import durable
from documents.definition import VmDefinition
from documents.host_image import HostImage
from documents.host_state import Floor, Generation, SealedKey
from documents.release import Release
from lab.boot_logs import Machine
from lab.measuring import booted, switched
from lab.tpm import SoftwareTpm
from measure.guard import Pcrs
from measure.pcr import SECURE_BOOT_PCR
from measure.secure_boot import foreseen
from measure.tpm import Tpm

BOOT = "11111111-2222-3333-4444-555555555555"


class SealedHost:
    """One host below a folder.

    Attributes:
        images: what the hosts of a release boot, by its number.
        floor: as its file has it.
        notes: what was logged in PCR 12 when the counter rose.
        release: the active one, for the recovery.
        definitions: of its VMs.
    """

    def __init__(self, root: Path, images: Mapping[int, HostImage] | None = None) -> None:
        self.paths = HostPaths(root)
        self.chip = SoftwareTpm(root / "t")
        self.images = dict(images or {})
        self.floor = Floor(time=0, root=1, releases=())
        self.notes: list[str] = []
        self.machine: Machine | None = None
        self.release: Release | None = None
        self.definitions: tuple[VmDefinition, ...] = ()
        durable.make_directory(self.paths.ak.parent)
        durable.make_directory(self.paths.run)
        self.chip.start()
        self._connect()

    def _connect(self) -> None:
        self.tpm = Tpm.open(self.chip.tcti)
        self.trail = AuditTrail(self.paths.audit, lambda: 1, BOOT)
        copies = RecoveryCopies(self.paths, self.trail)
        self.keys = VmKeys(self.paths, self.tpm, copies)
        self.audit_key = AuditKey(self.paths, self.tpm, self.trail)
        self.resealing = Resealing(self.paths, self.tpm, self.trail, self._foresee, lambda: self.floor)
        keys = HostKeys(vms=self.keys, copies=copies, audit=self.audit_key, resealing=self.resealing)
        self.recovery = Recovery(
            self.paths, keys, self.trail, lambda: self.definitions, self._require_active, threading.RLock()
        )

    def _require_active(self) -> Generation:
        if self.release is None:
            raise RuntimeError("no release is active")
        return Generation(number=1, releases=(self.release.encode(),), stale=False)

    def off(self) -> None:
        """Cut the power."""
        self.tpm.close()
        self.chip.stop()

    def boot(self, release: Release | None = None, machine: Machine | None = None) -> None:
        """Cut the power and boot, into a machine's image where there is one."""
        self.off()
        # What is below /run does not outlive a boot.
        durable.remove_tree(self.paths.run)
        durable.make_directory(self.paths.run)
        self.chip.start()
        self._connect()
        self.start(release, machine)

    def start(self, release: Release | None, machine: Machine | None = None) -> None:
        """Measure what a boot measures."""
        self.machine = machine
        if machine:
            for event in machine.events():
                self._extend(event.pcr, event.digests["sha256"])
            for word in machine.words():
                self.tpm.extend(11, word)
        if release:
            for pcr, event in booted(release):
                self.tpm.extend(pcr, event.encode())

    def switch(self, release: Release) -> None:
        """Change to another release within the boot."""
        for pcr, event in switched(release):
            self.tpm.extend(pcr, event.encode())

    def init(self, release: Release) -> bytes:
        """Make the host's keys in the present state; the host's key."""
        durable.write_file(self.paths.ak, self.tpm.create_ak())
        self.keys.make_host_key(release, self.resealing.first_floor())
        self.audit_key.make(release)
        return self.keys.open_host_key(release)

    def confirm(self, release: Release) -> None:
        """What the agent does once a release is confirmed, and at each start from then on."""
        self.keys.make_host_key(release, self.resealing.first_floor())
        self.audit_key.make(release)
        self.resealing.follow(release, self._note)
        self.audit_key.follow(release)

    def sealed(self) -> SealedKey:
        """The key's file."""
        return SealedKey.parse(self.paths.sealed_key.read_bytes())

    def _note(self) -> None:
        self.tpm.extend(12, b"the counter rose")
        self.notes.append("epoch")

    def _foresee(self, release: Release, now: Release | None) -> tuple[Pcrs, ...]:
        image = self.images.get(release.number)
        if image is None or self.machine is None:
            return ()
        present = self.tpm.read_pcrs("sha256", [SECURE_BOOT_PCR])[SECURE_BOOT_PCR]
        return foreseen(self.machine.boot_log(), present, image, self.images.get(now.number) if now else None)

    def _extend(self, pcr: int, digest: bytes) -> None:
        values = tss.TPML_DIGEST_VALUES([tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=digest))])
        self.tpm._esys.pcr_extend(tss.ESYS_TR(pcr), values)
