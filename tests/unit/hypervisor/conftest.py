# SPDX-License-Identifier: Apache-2.0
"""One definition, its placement, and what libvirt made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from documents.definition import Disk, VmDefinition
from hypervisor.domain import Placement, render

CAPTURED = Path(__file__).parent / "captured"
STORE = Path("/var/lib/vmgate/store")
FOLDER = Path("/var/lib/vmgate/vms/demo")


@pytest.fixture
def definition() -> VmDefinition:
    return VmDefinition(
        name="demo",
        uuid="22222222-2222-4222-8222-222222222222",
        title="Demo",
        machine="pc-q35-7.2",
        vcpus=1,
        memory_mib=256,
        disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
        guardians=("tpm",),
    )


@pytest.fixture
def placement() -> Placement:
    return Placement(
        emulator=Path("/usr/bin/qemu-system-x86_64"),
        firmware_code=STORE / "11/code.fd",
        firmware_vars=FOLDER / "vars.fd",
        disks={"system": STORE / "00/system.img"},
        console_log=FOLDER / "console.log",
        accelerator="emulation",
        vtpm_secret="11111111-1111-4111-8111-111111111111",
    )


@pytest.fixture
def rendered(definition: VmDefinition, placement: Placement) -> str:
    return render(definition, placement)


@pytest.fixture(params=["prepare", "started"])
def captured(request: pytest.FixtureRequest) -> bytes:
    return (CAPTURED / f"libvirt-9.0-{request.param}.xml").read_bytes()


@pytest.fixture
def prepared() -> bytes:
    """What the hook gets before the start: what the gate judges."""
    return (CAPTURED / "libvirt-9.0-prepare.xml").read_bytes()
