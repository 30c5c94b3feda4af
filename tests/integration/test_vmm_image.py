# SPDX-License-Identifier: Apache-2.0
"""The VMM image of Debian's packages: the same bytes each time, and it runs a guest without a file of the host's VMM.

KVM is not used; the accelerator is QEMU's emulation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from content.fsverity import digest_file
from documents.definition import Disk, VmDefinition
from hypervisor.domain import Placement, render
from hypervisor.libvirt import Hypervisor
from lab import guest_image
from lab.command import run
from lab.libvirt_host import LibvirtHost, running

pytestmark = pytest.mark.timeout(300)

SECRET = "11111111-1111-4111-8111-111111111112"
UUID = "22222222-2222-4222-8222-000000000101"
BUILD_GUARD = 200
"""Seconds; ten times what a build takes on an idle machine."""
HOSTS = ("/usr/", "/lib/", "/lib64/", "/bin/", "/opt/")
"""Where a host's programs and libraries are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The image, what was told of it, its bill of materials, and where it is mounted."""

    folder: Path
    image: Path
    told: dict[str, Any]
    bom: bytes
    mounted: Path
    host: LibvirtHost

    def run(self, program: str, *arguments: str | Path) -> str:
        """Start a program of the image and return what it printed."""
        command = [self.mounted / "bin" / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


def build(out: Path, *before: str, **environment: str) -> dict[str, Any]:
    packages = guest_image.cache_folder() / "vmm/*.deb"
    bom = out.with_suffix(".json")
    command = ("repo", "build-vmm", out, "--packages", packages, "--bom", bom, "-o", "json")
    done = run(*command, before=before, guard=BUILD_GUARD, **environment)
    assert done.exit == 0, done.err
    told: dict[str, Any] = json.loads(done.out)
    return told


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    # Not pytest's folder: QEMU's user may not enter that.
    folder = Path(tempfile.mkdtemp(prefix="vmgate-vmm-"))
    folder.chmod(0o755)
    image, mounted = folder / "vmm.img", folder / "mounted"
    mounted.mkdir()
    try:
        told = build(image)
        with pytest.MonkeyPatch.context() as patch, running(folder / "libvirt") as host:
            subprocess.run(["mount", "-t", "erofs", "-o", "ro,loop,nosuid,nodev", image, mounted], check=True)
            try:
                # libvirt looks for swtpm on its PATH.
                patch.setenv("PATH", f"{mounted}/bin:{os.environ['PATH']}")
                host.restart_libvirtd()
                bom = image.with_suffix(".json").read_bytes()
                yield Made(folder=folder, image=image, told=told, bom=bom, mounted=mounted, host=host)
            finally:
                host.stop()
                subprocess.run(["umount", mounted], check=True)
    finally:
        shutil.rmtree(folder)


def test_the_image_is_the_same_bytes_elsewhere_and_in_another_year(made: Made) -> None:
    elsewhere = made.folder / "elsewhere"
    elsewhere.mkdir()
    again = build(
        elsewhere / "again.img", "faketime", "2031-05-06 07:08:09", TZ="Asia/Tokyo", SOURCE_DATE_EPOCH="1700000000"
    )
    assert again == made.told
    assert (elsewhere / "again.img").read_bytes() == made.image.read_bytes()
    assert (elsewhere / "again.json").read_bytes() == made.bom
    assert digest_file(made.image).fsverity == made.told["fsverity"]


def test_the_hash_tree_is_that_of_the_file_system(made: Made) -> None:
    tree = made.told["verity"]
    command = ["veritysetup", "verify", f"--hash-offset={tree['offset']}", made.image, made.image, tree["root_hash"]]
    subprocess.run(command, check=True, capture_output=True)


def test_the_bill_of_materials_names_all_packages(made: Made) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made.bom.decode()) is None
    bom = json.loads(made.bom)
    named = {(entry["name"], entry["version"], entry["hashes"][0]["content"]) for entry in bom["components"]}
    assert named == {(entry["name"], entry["version"], entry["sha256"]) for entry in made.told["packages"]}
    assert {"qemu-system-x86", "libc6", "swtpm", "ovmf", "libssl3"} <= {name for name, _, _ in named}
    assert sum("licenses" in entry for entry in bom["components"]) > len(named) / 2


def test_every_program_starts(made: Made) -> None:
    assert re.search(r"^QEMU emulator version \d", made.run("qemu-system-x86_64", "-version"))
    devices = made.run("qemu-system-x86_64", "-device", "help")
    # Built in, and of modules that lie in the image.
    assert 'name "virtio-blk-pci"' in devices
    assert 'name "tpm-crb"' in devices
    assert 'name "usb-redir"' in devices
    disk = made.folder / "disk.qcow2"
    made.run("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M")
    assert json.loads(made.run("qemu-img", "info", "--output=json", disk))["virtual-size"] == 1024 * 1024
    assert "tpm-2.0" in made.run("swtpm", "socket", "--print-capabilities")
    assert "swtpm_setup" in made.run("swtpm_setup", "--print-capabilities")


def test_a_program_started_over_a_link_to_the_folder_is_the_images(made: Made) -> None:
    link = made.folder / "current"
    link.symlink_to(made.mounted.name)
    command = [link / "bin/qemu-img", "--version"]
    assert b"qemu-img version" in subprocess.run(command, check=True, capture_output=True).stdout


def test_a_guest_runs_on_the_image_and_on_nothing_of_the_hosts_vmm(made: Made) -> None:
    key, cert = guest_image.self_signed(made.folder / "keys", "test")
    sign = guest_image.signer(key, cert)
    kernel = guest_image.cached_kernel()
    disk = guest_image.build(made.folder / "guest", build_text="in the image", kernel_deb=kernel, sign=sign)
    firmware = made.mounted / "usr/share/OVMF"
    tool = guest_image.cache_folder() / "tools/bin/virt-fw-vars"
    variables = guest_image.enrolled_vars(tool, firmware / "OVMF_VARS_4M.fd", cert, made.folder / "vars.fd")
    definition = VmDefinition(
        name="imaged",
        uuid=UUID,
        title="",
        machine="pc-q35-7.2",
        vcpus=1,
        memory_mib=256,
        disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
        guardians=("tpm",),
    )
    placement = Placement(
        emulator=made.mounted / "bin/qemu-system-x86_64",
        firmware_code=firmware / "OVMF_CODE_4M.secboot.fd",
        firmware_vars=variables,
        disks={"system": disk},
        console_log=made.folder / "console.log",
        accelerator="emulation",
        vtpm_secret=SECRET,
    )
    hypervisor = Hypervisor.open()
    hypervisor.define(render(definition, placement))
    hypervisor.set_secret(SECRET, UUID, b"ab" * 32)
    hypervisor.start("imaged")
    try:
        text = guest_image.wait_for(placement.console_log, guest_image.READY)
        assert "vmgate-guest: build=in the image" in text
        assert "vmgate-guest: secure-boot=1" in text
        assert re.search(r"vmgate-guest: pcr 4=(?!0{64})[0-9a-f]{64}\n", text)
        (swtpm,) = Path("/run/libvirt/qemu/swtpm").glob("*-imaged-swtpm.pid")
        for pid_file in (Path("/run/libvirt/qemu/imaged.pid"), swtpm):
            mapped = mapped_files(int(pid_file.read_text()))
            assert f"{made.mounted}/usr/lib/x86_64-linux-gnu/libc.so.6" in mapped
            assert not {path for path in mapped if path.startswith(HOSTS)}
    finally:
        hypervisor.kill("imaged")
        hypervisor.undefine("imaged")
        hypervisor.drop_secret(SECRET)


def mapped_files(process: int) -> set[str]:
    """The files that a process has mapped: its program, its libraries and what else."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return {fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6 and fields[5].startswith("/")}
