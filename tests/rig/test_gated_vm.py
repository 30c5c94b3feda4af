# SPDX-License-Identifier: Apache-2.0
"""The first VMs on a whole host, emulated in an emulation: every way to start one passes the gate.

The guest's firmware and kernel need minutes here, so one story waits for it; the others end when libvirt says that it
runs. Confinement by AppArmor can be seen here and nowhere else in these tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from lab.guest_image import READY
from lab.publisher import VM_NAME, VM_UUID
from lab.world import folder, serving
from rig.image import Image
from rig.machine import Machine, Snapshot
from rig.published import begin
from rig.set_up import port_of, set_up

pytestmark = [pytest.mark.timeout(1_800), pytest.mark.long]

CONSOLE = f"/var/lib/vmgate/vms/{VM_NAME}/console.log"
GUEST_SECONDS = 1_200
"""A guard: Secure Boot firmware, kernel and busybox take some minutes as an emulation in an emulation."""


@pytest.fixture(scope="module")
def running(image: Image) -> Iterator[Snapshot]:
    """A host that was set up, stopped while it ran."""
    with folder("rig-gated") as below:
        publisher = begin(below)
        with serving(publisher.desk.repository) as url, Machine(image, web=port_of(url)) as host:
            host.boot()
            set_up(host, publisher)
            yield host.snapshot(below / "running")


@pytest.fixture
def host(running: Snapshot) -> Iterator[Machine]:
    """The host, going on where it was stopped."""
    with Machine.restored(running) as machine:
        yield machine


def domain_state(host: Machine) -> str:
    """What libvirt says of the VM; it answers nobody until it has started what it starts by itself."""
    return host.do(f"virsh domstate {VM_NAME}", 600).strip()


def starts(host: Machine) -> list[str]:
    """Lines of the audit trail about starts of the VM."""
    return [line for line in host.do("vmgate audit list --last 50", 120).splitlines() if " vm-start " in line]


def test_virsh_starts_it_through_the_gate_and_its_guest_boots_verified(host: Machine) -> None:
    host.do(f"virsh start {VM_NAME}", 300)
    before_act = starts(host)[0]
    assert "libvirt hook" in before_act
    assert " started " in before_act
    deadline = time.monotonic() + GUEST_SECONDS
    while READY not in (said := host.run(f"cat {CONSOLE}").output):
        assert time.monotonic() < deadline, said[-2_000:]
        time.sleep(5)
    assert "vmgate-guest: secure-boot=1" in said
    assert "vmgate-guest: build=1" in said
    assert host.do("virsh secret-list").count(VM_UUID) == 0


def test_vmgate_starts_it_and_apparmor_confines_its_processes(host: Machine) -> None:
    host.do(f"vmgate vm start {VM_NAME}", 300)
    assert domain_state(host) == "running"
    verdict = json.loads(host.do(f"vmgate vm why {VM_NAME} -o json", 120))["verdict"]
    kept = {(f["check"], f["subject"]): (f.get("kept"), f.get("taken")) for f in verdict["findings"]}
    assert kept["image", "disk system"] == kept["component-now", "vmm/firmware-code"] == ("fs-verity", "kernel")
    assert kept["component-now", "vmgate/build"] == ("dm-verity", None)
    confined = f"libvirt-{VM_UUID} (enforce)"
    for program in ("qemu-system-x86", "swtpm"):
        assert host.do(f"cat /proc/$(pgrep -o {program})/attr/current").strip() == confined
    assert f"libvirt-{VM_UUID} (enforcing)" in host.do(f"virsh dominfo {VM_NAME}")
    host.do(f"vmgate vm kill {VM_NAME}", 120)
    assert domain_state(host) == "shut off"


def test_autostart_passes_the_gate_at_the_next_boot(host: Machine) -> None:
    host.do(f"virsh autostart {VM_NAME}", 60)
    host.do("sync")
    host.power_cycle()
    deadline = time.monotonic() + 600
    while domain_state(host) != "running":
        assert time.monotonic() < deadline
        time.sleep(2)
    # libvirt asked for it before it answered anybody, had to wait, and vmgate started it then.
    told = starts(host)
    assert any("check=libvirt-answers" in line for line in told)
    assert "libvirt hook" in told[-1]
    assert "vm-start" in host.do("vmgate measure log", 120)


def test_autostart_of_a_vm_that_was_changed_leaves_it_off(host: Machine) -> None:
    """Somebody changes the image on the disk of a host that is off. In place the file system refuses it."""
    image = "/state/vmgate/store/" + host.do("cd /state/vmgate/store && ls -S */* | head -n 1").strip()
    host.do(f"virsh autostart {VM_NAME}", 60)
    assert host.run(f"chmod u+w {image} && printf x | dd of={image} conv=notrunc").code != 0
    host.do(f"cp {image} /state/other && printf x | dd of=/state/other conv=notrunc && mv /state/other {image}")
    host.do("sync")
    host.power_cycle()
    host.do("systemctl is-active --wait libvirtd.service", 300)
    deadline = time.monotonic() + 300
    while not any("check=image" in line for line in starts(host)):
        assert time.monotonic() < deadline
        time.sleep(2)
    assert domain_state(host) == "shut off"
