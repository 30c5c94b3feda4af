# SPDX-License-Identifier: Apache-2.0
"""A publisher's releases with VMs that write: one has a disk of each class, the other is like it.

The guests are those of ``lab.guest_image``: each boot tells what it finds on each disk, and leaves a word there.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from agent.audit import AuditTrail, records
from agent.disks import Disks
from agent.paths import HostPaths
from agent.plan import VmPlan, disk_secret, own_disk
from documents.audit import AuditRecord
from documents.definition import Disk, VmDefinition
from documents.state_record import StateRecord
from hypervisor.domain import Placement
from lab.publisher import VM_NAME, VM_UUID, Desk

OTHER_NAME, OTHER_UUID = "other", "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d99"
POLICY = 'disks = ["readonly", "ephemeral", "persistent", "sealed"]\n'
DISKS = """
[[disks]]
name = "system"
image = "hello"
class = "ephemeral"

[[disks]]
name = "setup"
image = "hello"
class = "sealed"

[[disks]]
name = "data"
class = "persistent"
size_mib = 8
"""


def release_disks(
    desk: Desk,
    *,
    policy: str = POLICY,
    disks: str = DISKS,
    allow: tuple[str, ...] = ("AllowEmulation", "AllowSoftwareTpm"),
    guardians: str = '["tpm"]',
) -> None:
    """Publish the next platform with a policy for these classes, and the next workload with both VMs."""
    desk.release(desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more=policy, allow=allow))
    recipe = desk.write_workload(title="Hello", image="hello-1.img", accepts=(1, 99))
    text = (desk.folder / "hello.toml").read_text().partition("[[disks]]")[0] + disks
    text = text.replace('guardians = ["tpm"]', f"guardians = {guardians}")
    (desk.folder / "hello.toml").write_text(text)
    other = text.replace(VM_NAME, OTHER_NAME).replace(VM_UUID, OTHER_UUID).replace('"hello"', f'"{OTHER_NAME}"', 1)
    (desk.folder / "other.toml").write_text(other.replace(f'image = "{OTHER_NAME}"', 'image = "hello"'))
    listed = recipe.read_text().replace('["hello.toml"]', '["hello.toml", "other.toml"]')
    recipe.write_text(listed)
    desk.release(recipe)


def disk_file(vms: Path, vm: str, disk: str) -> Path:
    """Where the file of a VM's own disk lies."""
    (found,) = (vms / vm / "disks").glob(f"{disk}.*.qcow2")
    return found


SECRET, OTHER_SECRET = "5a" * 32, "a5" * 32
"""Keys of VMs, as the TPM would give them."""

DEMO = VmDefinition(
    name="demo",
    uuid="3e2d9c1a-5b7f-4d21-8c3e-0123456789ab",
    title="",
    machine="pc-q35-7.2",
    vcpus=1,
    memory_mib=64,
    disks=(
        Disk(name="system", image="ab" * 32, length=4096, disk_class="ephemeral"),
        Disk(name="setup", image="ab" * 32, length=4096, disk_class="sealed"),
        Disk(name="data", image="", length=2**20, disk_class="persistent"),
    ),
    guardians=("tpm",),
)


class DiskHost:
    """The disks of one VM below a folder, without libvirt and QEMU: those of ``agent.disks`` and an audit trail.

    Args:
        root: where everything lies; the image below the overlays is made there.
        definition: of the VM.
        secret: its key.
        base: the image below the overlays, where it is to lie elsewhere.
    """

    def __init__(
        self, root: Path, definition: VmDefinition = DEMO, secret: str = SECRET, base: Path | None = None
    ) -> None:
        paths = HostPaths(root)
        folder, base = paths.vm(definition.name), base or root / "base.img"
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        if not base.exists():
            base.write_bytes(bytes(4096))
        placement = Placement(
            emulator=Path("/usr/bin/qemu-system-x86_64"),
            firmware_code=Path("/code"),
            firmware_vars=folder / "vars.fd",
            disks={disk.name: base for disk in definition.based},
            console_log=folder / "console.log",
            accelerator="emulation",
            vtpm_secret=definition.uuid,
            own_disks={d.name: own_disk(folder, d) for d in definition.disks if d.disk_class != "readonly"},
            disk_secrets={d.name: disk_secret(definition.uuid, d.name) for d in definition.disks if not d.image},
        )
        self.vm = cast(VmPlan, SimpleNamespace(definition=definition, placement=placement))
        self.root = root
        self.folder = folder / "disks"
        self._trail = paths.audit
        self.audit = AuditTrail(paths.audit, lambda: 0, "5c0ffee0-1ab0-4e57-8b3d-0123456789ab")
        self.disks = Disks(paths, self.audit)
        self.secret = secret

    def look(self) -> dict[str, str]:
        """What a start would find of each kept disk: ``pass``, ``warn`` or ``fail``."""
        self.disks.forget(self.vm.definition.name)
        found = self.disks.findings(self.vm, self.secret)
        return {finding.subject.removeprefix("disk "): finding.outcome for finding in found}

    def start(self) -> None:
        """As after the gate's yes."""
        if "fail" in self.look().values():
            raise RuntimeError("the gate says no")
        self.disks.prepare(self.vm, self.secret, "test")

    def stop(self) -> None:
        """As when libvirt says that QEMU has ended."""
        self.disks.close(self.vm.definition.name, "test")

    def accept(self) -> list[tuple[str, str]]:
        """As ``vmgate vm accept``."""
        return list(self.disks.accept(self.vm, self.secret, "test"))

    def audit_records(self) -> list[AuditRecord]:
        """What was recorded."""
        return list(records(self._trail))

    def record(self, disk: str) -> StateRecord:
        """The record of a kept disk."""
        return StateRecord.parse(self.path(disk).with_suffix(".json").read_bytes())

    def path(self, disk: str) -> Path:
        """The file of a disk."""
        return self.vm.placement.own_disks[disk]
