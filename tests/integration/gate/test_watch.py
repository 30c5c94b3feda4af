# SPDX-License-Identifier: Apache-2.0
"""What runs and was not let run like this is found and answered: changes past vmgate, and starts past the hook."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.ways import POLICY, WATCH, WAYS
from lab.refusal import newest
from lab.world import VM_NAME, World

GUARD = 60
"""Seconds after which what does not come is taken for never to come."""
EXTRA = Path("/var/lib/libvirt/extra.img")
"""A disk of somebody else's; the folder is this mount namespace's own."""
NOBODY = 65534
"""A user without a right."""
AGREE = "#!/bin/sh\nexit 0\n"

DISK = (
    f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{EXTRA}'/>"
    "<target dev='vdz' bus='virtio'/></disk>"
)
CONTROLLER = "<controller type='scsi' model='virtio-scsi' index='3'/>"
ENTROPY = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
SPEC = "vda,snapshot=external,file=/var/lib/libvirt/over.qcow2"

DEVICES = {"disk": DISK, "controller": CONTROLLER, "entropy": ENTROPY}
COMMANDS: dict[str, tuple[str, ...]] = {
    "rate of a disk": ("blkdeviotune", VM_NAME, "vda", "--total-bytes-sec", "100000", "--live"),
    "disk snapshot": ("snapshot-create-as", VM_NAME, "over", "--disk-only", "--diskspec", SPEC, "--no-metadata"),
    "block copy": ("blockcopy", VM_NAME, "vda", "/var/lib/libvirt/copy.img", "--transient-job", "--format", "raw"),
    "QEMU's monitor": ("qemu-monitor-command", VM_NAME, "--hmp", "info version"),
    "metadata": ("metadata", VM_NAME, "--uri", "http://x.example/", "--key", "a", "--set", "<b/>", "--live"),
    "title": ("desc", VM_NAME, "--title", "Another", "--live"),
    "restart at reboot": ("set-lifecycle-action", VM_NAME, "reboot", "restart", "--live"),
}
REFUSED: dict[str, tuple[str, ...]] = {
    "attach to a QEMU": ("qemu-attach", "1"),
    "internal snapshot": ("snapshot-create-as", VM_NAME, "inside"),
    "network card": ("attach-interface", VM_NAME, "user", "x", "--live"),
    "boot order": ("update-device", VM_NAME, "/var/lib/libvirt/boot.xml", "--live"),
    "block pull": ("blockpull", VM_NAME, "vda"),
    "block commit": ("blockcommit", VM_NAME, "vda", "--active"),
    "guest agent": ("set-user-password", VM_NAME, "root", "secret"),
    "sleep": ("dompmsuspend", VM_NAME, "mem"),
}
FOUND = {
    "disk": "/domain/devices[1]/disk[2]",
    "controller": "/domain/devices[1]/controller[2]",
    "entropy": "/domain/devices[1]/rng[2]",
    "rate of a disk": "/domain/devices[1]/disk[1]/iotune[1]",
    "disk snapshot": "/domain/devices[1]/disk[1]/backingStore[1]",
    "block copy": "/domain/devices[1]/disk[1]/mirror[1]",
    "QEMU's monitor": "tainted: custom monitor control commands issued",
    "metadata": "/domain/metadata[1]",
    "title": "/domain/title[1]",
    "restart at reboot": "/domain/on_reboot[1]",
}


def eventually(holds: Callable[[], Any]) -> Any:
    """Wait until something holds; returns what it gave."""
    deadline = time.monotonic() + GUARD
    while not (value := holds()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)
    return value


def faults(world: World) -> list[tuple[str, str]]:
    return [(fault["kind"], fault["name"]) for fault in world.ask("status")["faults"]]


def _change(world: World, name: str) -> None:
    EXTRA.touch()
    os.truncate(EXTRA, 1 << 20)
    if name in DEVICES:
        device = world.folder / "device.xml"
        device.write_text(DEVICES[name])
        world.libvirt.virsh("attach-device", VM_NAME, str(device), "--live")
    else:
        world.libvirt.virsh(*COMMANDS[name])


def test_each_change_of_the_table_is_tried() -> None:
    from_the_table = {way.name for way in WAYS if way.met == WATCH and way.answer == POLICY}
    assert {*DEVICES, *COMMANDS} == set(FOUND)
    assert set(FOUND) <= from_the_table


SOME = ("disk", "disk snapshot", "QEMU's monitor", "restart at reboot")
"""One of each kind: a device, what lies behind one, past the XML, and what has no event. The rest takes longer."""


@pytest.mark.parametrize(
    "name", [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in FOUND]
)
def test_a_change_past_vmgate_is_found_and_answered(world: World, name: str) -> None:
    world.run("vm", "start", VM_NAME)
    assert faults(world) == []
    _change(world, name)
    eventually(lambda: world.vm_state() == "paused")
    record = eventually(lambda: next((r for r in world.trail() if (r.event, r.outcome) == ("vm-drift", "done")), None))
    record = newest(world, "vm-drift")
    assert (record.subject, record.outcome) == (VM_NAME, "done")
    details = dict(record.details)
    assert details["answer"] == "suspend"
    assert details["found"].startswith(FOUND[name]), details
    assert ("vm-drift", VM_NAME) in faults(world)
    assert world.host.vmgate("status").exit == 5
    world.kill_vm()
    eventually(lambda: faults(world) == [])


def test_what_was_suspended_is_suspended_again_and_recorded_again(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    _change(world, "title")
    eventually(lambda: world.vm_state() == "paused")
    before = len([r for r in world.trail() if (r.event, r.outcome) == ("vm-drift", "done")])
    world.virsh("resume", VM_NAME)
    eventually(lambda: len([r for r in world.trail() if (r.event, r.outcome) == ("vm-drift", "done")]) > before)
    assert world.vm_state() == "paused"


def test_a_vm_that_nobody_touched_goes_on(world: World) -> None:
    """Somebody pauses it and lets it go on: it is the same run, and nothing is recorded against it."""
    world.run("vm", "start", VM_NAME)
    count = len(world.trail())
    world.libvirt.virsh("suspend", VM_NAME)
    world.libvirt.virsh("resume", VM_NAME)
    world.libvirt.restart_libvirtd()
    # The daemon answers while it still asks its hook about what runs.
    eventually(lambda: len(world.trail()) > count)
    assert faults(world) == []
    assert world.vm_state() == "running"
    assert [record.event for record in world.trail()[count:]] == ["vm-reconnect"]


def test_an_agent_that_comes_back_finds_what_was_done_meanwhile(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    world.host.kill_agent()
    _change(world, "disk")
    assert world.vm_state() == "running"
    world.host.start_agent()
    eventually(lambda: world.vm_state() == "paused")
    assert newest(world, "vm-drift").subject == VM_NAME


def test_what_libvirt_or_qemu_refuse_by_themselves_changes_nothing(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    xml = world.virsh("dumpxml", VM_NAME).stdout
    start, end = xml.index("<disk "), xml.index("</disk>") + len("</disk>")
    Path("/var/lib/libvirt/boot.xml").write_text(xml[start:end].replace("order='1'", "order='2'"))
    for name, command in REFUSED.items():
        done = world.virsh(*command)
        assert done.returncode != 0, f"{name}: {done.stdout}"
        assert world.virsh("dumpxml", VM_NAME).stdout == xml, name
    assert world.vm_state() == "running"
    assert faults(world) == []


def test_a_snapshot_with_memory_is_not_reverted_to(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    memory = "file=/var/lib/libvirt/memory,snapshot=external"
    world.libvirt.virsh("snapshot-create-as", VM_NAME, "all", "--memspec", memory, "--diskspec", "vda,snapshot=no")
    world.kill_vm()
    done = world.virsh("snapshot-revert", VM_NAME, "all")
    assert done.returncode != 0
    assert world.vm_state() == "shut off"
    world.libvirt.virsh("snapshot-delete", VM_NAME, "all", "--metadata")


def test_a_reset_ends_the_vm(world: World) -> None:
    """Another turn of the firmware is another start, and a start passes the gate."""
    world.run("vm", "start", VM_NAME)
    world.libvirt.virsh("reset", VM_NAME)
    eventually(lambda: world.vm_state() == "shut off")
    assert eventually(lambda: newest(world, "vm-stop").outcome == "done")


FOREIGN = """\
<domain type='qemu'>
  <name>foreign</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
"""


@contextmanager
def _without_our_hook(world: World) -> Iterator[None]:
    """A libvirt that was started with a hook that agrees to everything."""
    good = world.libvirt.hook.read_bytes()
    world.libvirt.hook.write_text(AGREE)
    world.libvirt.hook.chmod(stat.S_IRWXU)
    world.libvirt.restart_libvirtd()
    try:
        yield
    finally:
        world.libvirt.hook.write_bytes(good)
        world.libvirt.hook.chmod(0o755)
        world.libvirt.restart_libvirtd()


def test_a_domain_that_started_without_the_hook_is_found_and_answered(world: World) -> None:
    path = world.folder / "foreign.xml"
    path.write_text(FOREIGN)
    with _without_our_hook(world):
        world.libvirt.virsh("create", str(path))
        eventually(lambda: world.virsh("domstate", "foreign").stdout.strip() == "paused")
        record = eventually(lambda: next((r for r in world.trail() if r.event == "vm-ungated"), None))
        assert record.subject == "foreign"
        assert dict(record.details) == {"answer": "suspend", "found": "no start of it is in this boot's log"}
        assert faults(world) == [("vm-ungated", "foreign")]
        shown = world.run("attest", "self", "-o", "json")
        assert '"check": "ungated"' in shown
        world.libvirt.virsh("destroy", "foreign")
    eventually(lambda: faults(world) == [])


def _ours(world: World) -> list[str]:
    """Process numbers of what is told as run by hand."""
    return [fault["run"] for fault in world.ask("status")["faults"] if fault["kind"] == "vm-by-hand"]


def test_a_qemu_by_hand_is_recorded_and_told(world: World) -> None:
    command = ["/usr/bin/qemu-system-x86_64", "-machine", "q35", "-display", "none", "-S", "-nodefaults", "-m", "64"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: process.pid in _ours(world))
        record = newest(world, "vm-by-hand")
        assert record.subject == "qemu-system-x86_64"
        assert f"process {process.pid} of user 0" in dict(record.details)["found"]
        assert process.poll() is None, "nobody ended it"
        assert world.host.vmgate("status").exit == 5
        world.run("vm", "start", VM_NAME)
    finally:
        process.kill()
        process.wait()
    eventually(lambda: faults(world) == [])


def test_a_users_own_libvirt_meets_the_same_hook_and_has_nobody_to_ask(world: World) -> None:
    """libvirt runs the hook of /etc for a user's own daemon, too; the agent does not say yes to users."""
    home = world.folder / "home"
    home.mkdir(mode=0o700)
    shutil.chown(home, NOBODY, NOBODY)
    environment = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(home))
    environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    daemon = subprocess.Popen([*user, "/usr/sbin/libvirtd"], env=environment, cwd="/", stderr=subprocess.DEVNULL)

    def virsh(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*user, "virsh", "-c", "qemu:///session", *arguments]
        return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)

    path = world.folder / "session.xml"
    path.write_text(FOREIGN)
    path.chmod(0o644)
    try:
        eventually(lambda: virsh("uri").returncode == 0)
        done = virsh("create", str(path))
        assert done.returncode != 0
        assert "error[AG003]" in done.stderr
        assert virsh("list", "--name").stdout.strip() == ""
    finally:
        daemon.terminate()
        daemon.wait()
    for place in ("vms", "tpm"):
        listing = subprocess.run([*user, "ls", str(world.state_folder / place)], capture_output=True, check=False)
        assert listing.returncode != 0, "and nothing of a VM is to be read"
