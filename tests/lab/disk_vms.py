# SPDX-License-Identifier: Apache-2.0
"""A publisher's releases with VMs that write: one has a disk of each class, the other is like it.

The guests are those of ``lab.guest_image``: each boot tells what it finds on each disk, and leaves a word there.
"""

from __future__ import annotations

from pathlib import Path

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


def release_disks(desk: Desk, *, policy: str = POLICY, disks: str = DISKS) -> None:
    """Publish the next platform with a policy for these classes, and the next workload with both VMs."""
    desk.release(desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more=policy))
    recipe = desk.write_workload(title="Hello", image="hello-1.img", accepts=(1, 99))
    text = (desk.folder / "hello.toml").read_text().partition("[[disks]]")[0] + disks
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
