# SPDX-License-Identifier: Apache-2.0
"""A publisher's desk for demo and tests: keys, firmware, images and recipes in a folder of its own.

Everything comes from packages and from what is made here; ``ISOLATED`` runs the command where the host's state, its
VMM and its libvirt cannot be seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab import guest_image

VMGATE = Path(sys.executable).with_name("vmgate")
PASSPHRASE = "correct horse battery staple"
VM_NAME = "hello"
VM_UUID = "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d21"

HIDE = ("/etc/libvirt", "/var/lib/libvirt", "/usr/share/OVMF", "/usr/share/qemu", "/usr/share/ovmf")
HIDDEN_PROGRAMS = ("/usr/bin/qemu-system-x86_64", "/usr/bin/swtpm")


class Desk:
    """Where releases are made.

    Args:
        folder: the publisher's; made when missing.
        cache: holds ``debs/``, ``tools/`` and ``wheel/`` as ``.ci/fetch`` and ``.ci/venv`` made them.
        hidden: folder of the host, which the publisher must not see.
    """

    def __init__(self, folder: Path, cache: Path, hidden: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.keys = folder / "keys"
        self.anchor = folder / "root.json"
        self._cache = cache
        self._hidden = hidden
        folder.mkdir(parents=True)
        self._passphrase = folder / "passphrase"
        self._passphrase.touch(0o600)
        self._passphrase.write_text(PASSPHRASE + "\n")

    def vmgate(self, *arguments: str | Path) -> str:
        """Run the publisher's command where the host cannot be seen; returns what it printed."""
        return self.isolated(VMGATE, *arguments)

    def isolated(self, *program: str | Path) -> str:
        """Run a program in a mount namespace that hides the host; returns what it printed."""
        lines = ["mount --make-rprivate /", f"mount -t tmpfs tmpfs {self._hidden}"]
        lines += [f"[ ! -d {place} ] || mount -t tmpfs tmpfs {place}" for place in HIDE]
        lines += [f"[ ! -e {program} ] || mount --bind /dev/null {program}" for program in HIDDEN_PROGRAMS]
        lines += ['exec "$@"']
        self._hidden.mkdir(parents=True, exist_ok=True)
        command = ["unshare", "-m", "sh", "-ec", "\n".join(lines), "sh", *map(str, program)]
        environment = {"PATH": os.environ["PATH"], "VMGATE_PASSPHRASE_FILE": str(self._passphrase), "HOME": "/nowhere"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, program))} exited {done.returncode}: {done.stderr}")
        return done.stdout

    def init(self) -> str:
        """Keys, repository and trust anchor."""
        said = self.vmgate("repo", "init", self.repository, "--keys", self.keys, "--anchor", self.anchor)
        self._make_firmware()
        return said

    def _make_firmware(self) -> None:
        """OVMF out of Debian's package; its variables with the publisher's own keys."""
        (package,) = (self._cache / "debs").glob("ovmf_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, self.folder / "ovmf"], check=True)
        self.vmgate("repo", "key", "--keys", self.keys)
        self.vmgate(*self._firmware_command("vars-1.fd"))

    def _firmware_command(self, name: str, template: str = "OVMF_VARS_4M.fd") -> list[str | Path]:
        return [
            "repo", "firmware", self.folder / "ovmf/usr/share/OVMF" / template, self.folder / name,
            "--certificate", self.keys / "image-1.crt", "--tool", self._cache / "tools/bin/virt-fw-vars",
        ]  # fmt: skip

    def rotate_owner(self) -> None:
        """Variables that differ from the first: enrolled under another owner, as after a change of the vendor."""
        command = self._firmware_command("vars-2.fd")
        self.vmgate(*command, "--owner", "c0ffee00-8f0a-4f7e-9d3c-6f1f0a3c9b11")

    def build_image(self, text: str, name: str) -> Path:
        """A bootable image that says ``text`` when it boots, signed with the publisher's image key."""
        (kernel,) = (self._cache / "debs").glob("linux-image-*-cloud-amd64_*.deb")
        work = self.folder / f"{name}.work"

        def sign(unsigned: Path, signed: Path) -> None:
            self.vmgate("repo", "sign-image", unsigned, signed, "--keys", self.keys)

        image = guest_image.build(work, build_text=text, kernel_deb=kernel, sign=sign)
        target = self.folder / f"{name}.img"
        image.rename(target)
        shutil.rmtree(work)
        return target

    def build_vmm(self, name: str, *more: Path) -> Path:
        """A VMM image of Debian's packages and some more."""
        target = self.folder / name
        self.vmgate("repo", "build-vmm", target, "--packages", self._cache / "vmm/*.deb", *more)
        return target

    def write_platform(
        self,
        *,
        firmware_vars: str,
        max_memory_mib: int,
        epoch: int = 1,
        packages: Path | None = None,
        image: Path | None = None,
        more: str = "",
        allow: tuple[str, ...] = ("AllowEmulation", "AllowSoftwareTpm"),
    ) -> Path:
        """The recipe of a platform release; the VMM is an ``image`` or ``packages``, and ``more`` ends the recipe."""
        debs = packages or self._cache / "debs"
        files = ", ".join(f'"{debs}/{name}_*.deb"' for name in VMM_PACKAGES)
        firmware = "ovmf/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
        vmm = f'vmm_image = "{image}"' if image else f'packages = [{files}]\nfirmware_code = "{firmware}"'
        (wheel,) = (self._cache / "wheel").glob("vmgate-*.whl")
        recipe = self.folder / "platform.toml"
        recipe.write_text(
            f"""\
authority = "platform"
channel = "platform"
epoch = {epoch}
minimum_agent = "0.1.0"
import_days = 30
{vmm}
firmware_vars = "{firmware_vars}"
wheel = "{wheel}"

[security_policy]
allow = [{", ".join(f'"{name}"' for name in allow)}]
max_vcpus = 2
max_memory_mib = {max_memory_mib}
{more}"""
        )
        return recipe

    def write_workload(
        self, *, title: str, image: str, accepts: tuple[int, int], memory_mib: int = 512, more: str = ""
    ) -> Path:
        """The recipe of a workload release with one VM; ``more`` ends its definition."""
        (self.folder / "hello.toml").write_text(
            f"""\
name = "{VM_NAME}"
uuid = "{VM_UUID}"
title = "{title}"
machine = "pc-q35-7.2"
vcpus = 1
memory_mib = {memory_mib}
guardians = ["tpm"]

[[disks]]
name = "system"
image = "hello"
class = "readonly"
{more}"""
        )
        recipe = self.folder / "workload.toml"
        recipe.write_text(
            f"""\
authority = "workload"
channel = "workload"
epoch = 1
minimum_agent = "0.1.0"
import_days = 30
accepts = [{accepts[0]}, {accepts[1]}]
definitions = ["hello.toml"]

[images]
hello = "{image}"
"""
        )
        return recipe

    def release(self, recipe: Path) -> str:
        """Publish a recipe."""
        return self.vmgate("repo", "release", self.repository, recipe, "--keys", self.keys)

    def bundle(self, path: Path) -> str:
        """All newest releases in one file."""
        return self.vmgate("bundle", "create", self.repository, path)


VMM_PACKAGES = (
    "qemu-system-x86", "qemu-system-common", "qemu-system-data", "swtpm", "swtpm-tools", "swtpm-libs", "libtpms0",
)  # fmt: skip
