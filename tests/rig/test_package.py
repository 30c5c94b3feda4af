# SPDX-License-Identifier: Apache-2.0
"""The package on a running host: the boxed agent starts a gated VM, an upgrade keeps it, removing shuts the gate.

The rig's root cannot be written to, so layers in memory lie over the folders that dpkg changes. What dpkg noted when
the image was made comes on a stick, with the newer package.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deb.build import NONE, build
from lab.packages import next_version
from lab.publisher import VM_NAME, VM_UUID
from lab.world import folder, serving
from rig.image import Image
from rig.machine import Hardware, Machine
from rig.programs import EPOCH
from rig.published import begin
from rig.set_up import port_of, set_up
from rig.test_package_files import dpkg, installed
from rig.variants import edited

pytestmark = [pytest.mark.timeout(3_000), pytest.mark.long]

LAYERS = ("/usr", "/etc/apparmor.d", "/etc/systemd/system", "/etc/libvirt/hooks", "/etc/vmgate")
PROFILE = "libvirt-vmgate-agent"
HOOK = "/etc/libvirt/hooks/qemu"

MEMORY = f"""
import os, subprocess
image = os.memfd_create("guest")
place = f"/proc/{{os.getpid()}}/fd/{{image}}"
subprocess.run(["virsh", "-q", "dump", "--memory-only", "{VM_NAME}", place], check=True)
print("an ELF core" if os.pread(image, 4, 0) == bytes([127]) + b"ELF" else "nothing")
"""
"""What the agent lets libvirtd do for introspection."""


def stick(image: Image, below: Path) -> Path:
    """A disk that is a tar file: the newer package, and dpkg's notes of what is installed."""
    plain, disk = below / "plain", below / "stick"
    plain.mkdir()
    subprocess.run(["tar", "-C", plain, "-xf", image.base], check=True)
    newer = build(next_version(image.wheel, below), image.locked, below, EPOCH, NONE)
    with edited(plain, below / "edited") as root:
        installed(root, image.package)
        assert "0.1.0" in dpkg(root, "--status", "vmgate")
        notes = ["--ignore-failed-read", "-C", root, "var/lib/dpkg"]
        subprocess.run(["tar", "-cf", disk, *notes, "-C", below, newer.name], check=True)
    return disk


@pytest.fixture(scope="module")
def host(image: Image) -> Iterator[Machine]:
    """A host that was set up, with a VM that runs."""
    with folder("rig-package") as below:
        publisher = begin(below)
        hardware = Hardware(sticks=(stick(image, below),))
        with serving(publisher.desk.repository) as url, Machine(image, hardware, web=port_of(url)) as machine:
            machine.boot()
            set_up(machine, publisher)
            machine.do(f"vmgate vm start {VM_NAME}", 600)
            machine.do("mkdir -p /run/stick && mount -t tmpfs tmpfs /run/stick && tar -C /run/stick -xf /dev/vdb", 300)
            # Nothing runs from the rig's /var.
            machine.do("mkdir -p /var/lib/dpkg && mount --bind /run/stick/var/lib/dpkg /var/lib/dpkg")
            yield machine


@pytest.fixture(scope="module")
def writable(host: Machine) -> Machine:
    """The host with layers to which dpkg can write. Units that run see them too: the box is looked at before."""
    for number, path in enumerate(LAYERS):
        over = f"/run/stick/{number}"
        options = f"lowerdir={path},upperdir={over}/upper,workdir={over}/work"
        host.do(f"mkdir -p {over}/upper {over}/work && mount -t overlay -o {options} overlay {path}")
    # Of the rig's image, not of the package: libvirtd would end with the agent.
    host.do("rm /usr/lib/systemd/system/libvirtd.service.d/vmgate.conf && systemctl daemon-reload")
    return host


def agent(host: Machine) -> str:
    """The agent's process id; it is there and answers, be it that the host is not what the release says."""
    assert host.do("systemctl is-active vmgate.service", 300).strip() == "active"
    assert "assurance level" in host.run("vmgate status", 300).output
    return host.do("systemctl show -P MainPID vmgate.service").strip()


def guest(host: Machine) -> str:
    """The process of the VM, which runs."""
    assert host.do(f"virsh domstate {VM_NAME}", 300).strip() == "running"
    return host.do(f"pgrep -f 'qemu-system.*{VM_UUID}'").strip()


def test_the_agent_is_in_its_box_and_starts_a_vm_with_a_tpm(host: Machine) -> None:
    assert guest(host)
    pid = agent(host)
    status = dict(line.split(":\t", 1) for line in host.do(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) & (1 << 21) == 0  # CAP_SYS_ADMIN
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert host.do(f"cat /proc/{pid}/attr/current").strip() == f"{PROFILE} (enforce)"
    exposure = host.do("systemd-analyze security --no-pager vmgate.service", 120).splitlines()[-1]
    assert float(exposure.split("vmgate.service: ")[1].split()[0]) < 3
    inside = f"nsenter -t {pid} -m sh -c"
    for path in ("/usr/planted", "/root/planted", "/etc/planted", "/proc/sys/kernel/sysrq"):
        assert host.run(f"{inside} 'echo 1 >{path}'").code != 0, path
    assert host.run(f"{inside} 'test -e /dev/vda || test -e /dev/mapper/root'").code != 0
    # The one switch that the agent may turn, for hosts whose TPM is a chip.
    host.do(f"{inside} 'test -w /proc/sys/kernel/kexec_load_disabled'")
    assert "vm-start" in host.do("vmgate measure log", 300)


def test_its_apparmor_profile_confines_and_lets_libvirtd_give_it_a_guests_memory(host: Machine) -> None:
    assert host.run(f"aa-exec -p {PROFILE} -- sh -c 'echo 1 >/run/planted'").code != 0
    host.do(f"aa-exec -p {PROFILE} -- sh -c 'echo 1 >/run/vmgate/there' && rm /run/vmgate/there")
    host.write("/run/memory.py", MEMORY.encode())
    said = host.do(f"aa-exec -p {PROFILE} -- /usr/lib/vmgate/bin/python3 -I /run/memory.py 2>&1", 300)
    assert said.splitlines()[-1] == "an ELF core", said


def test_from_its_box_it_sees_a_qemu_that_somebody_runs_by_hand(host: Machine) -> None:
    """It may not look at others' processes; the porter does."""
    machine = "/usr/bin/qemu-system-x86_64 -machine none -nodefaults -display none -S"
    host.do(f"systemd-run --quiet --uid=nobody --unit=by-hand {machine}")
    deadline = time.monotonic() + 300
    while "vm-by-hand" not in (said := host.do("vmgate audit list --last 20", 120)):
        assert time.monotonic() < deadline, said
        time.sleep(2)
    host.do("systemctl stop by-hand.service")
    assert host.do("systemctl is-active vmgate-porter.service").strip() == "active"


def test_a_restart_and_an_upgrade_leave_the_vm_alone(writable: Machine) -> None:
    host = writable
    running, before = guest(host), agent(host)
    host.do("systemctl restart vmgate.service", 300)
    restarted = agent(host)
    assert restarted != before
    assert guest(host) == running
    host.do("DEBIAN_FRONTEND=noninteractive dpkg --install /run/stick/vmgate_*.deb", 600)
    assert agent(host) != restarted
    assert host.do("vmgate version", 120).strip() == "vmgate 0.1.1"
    assert guest(host) == running
    # The release names the vmgate before: nothing starts until one comes that names this one.
    host.do(f"vmgate vm kill {VM_NAME}", 300)
    assert host.run(f"vmgate vm start {VM_NAME}", 600).code == 5
    assert "vmgate/build" in host.run(f"vmgate vm why {VM_NAME}", 300).output


def test_remove_leaves_the_gate_shut_and_purge_opens_it(writable: Machine) -> None:
    host = writable
    host.run(f"virsh destroy {VM_NAME}", 300)
    assert "its hook stays" in host.do("dpkg --remove vmgate 2>&1", 600)
    assert host.run("test -e /usr/bin/vmgate").code != 0
    assert host.run("pgrep -f 'vmgate agent'").code != 0
    code, said = host.run(f"virsh start {VM_NAME}", 300)
    assert code != 0
    assert "error[AG003]" in said
    said = host.do("dpkg --purge vmgate 2>&1", 600)
    assert "kept /var/lib/vmgate/vms" in said
    assert host.run(f"test -e {HOOK}").code != 0
    assert host.do("ls /var/lib/vmgate").split() == ["audit", "tpm", "vms"]
    assert host.run("systemctl cat vmgate.service").code != 0
    assert PROFILE not in host.do("cat /sys/kernel/security/apparmor/profiles")
