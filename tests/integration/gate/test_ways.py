# SPDX-License-Identifier: Apache-2.0
"""Ways around the gate: the agent away or killed, the hook neutralised, memory images, libvirt's other ways in."""

from __future__ import annotations

import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from lab.refusal import newest, unchanged
from lab.world import VM_NAME, VM_UUID, World

GUARD = 60
"""Seconds after which a start that does not come is taken for hung."""
AGREE = "#!/bin/sh\nexit 0\n"
SECRET = f"""\
<secret ephemeral='yes' private='yes'>
  <uuid>{VM_UUID}</uuid>
  <usage type='vtpm'><name>{VM_UUID}</name></usage>
</secret>
"""


@pytest.fixture(scope="module", autouse=True)
def state(world: World) -> None:
    """The VM's TPM has its state, encrypted with the VM's key, since a first start."""
    world.run("vm", "start", VM_NAME)
    world.kill_vm()


def test_without_the_agent_nothing_starts(world: World) -> None:
    with unchanged(world):
        world.host.stop_agent()
        done = world.virsh("start", VM_NAME)
        assert done.returncode != 0
        assert "error[AG003]: the vmgate agent did not answer" in done.stderr
        assert world.vm_state() == "shut off"
        assert world.host.vmgate("vm", "start", VM_NAME).exit == 7
        world.host.start_agent()


def test_an_agent_killed_while_a_vm_starts_leaves_no_running_vm_and_no_secret(world: World) -> None:
    """The gate said yes and libvirt holds the VM's key, when the agent dies: nobody answers the hook after that."""
    with ThreadPoolExecutor() as pool:
        start = pool.submit(world.virsh, "start", VM_NAME)
        deadline = time.monotonic() + GUARD
        while VM_UUID not in world.secrets():
            assert time.monotonic() < deadline
            assert not start.done()
        world.host.kill_agent()
        done = start.result(GUARD)
    assert done.returncode != 0
    assert "error[AG003]" in done.stderr
    assert world.vm_state() == "shut off"
    assert VM_UUID in world.secrets(), "nobody was there to drop it"
    world.host.start_agent()
    assert world.secrets() == "", "the next agent drops what the last one left"
    assert [r.outcome for r in world.trail() if r.event == "vm-stop"][-1] == "done"
    assert world.events()[-1] == (12, "vm-stop", VM_NAME)
    world.run("vm", "start", VM_NAME)


@contextmanager
def _hook(world: World, text: str | None) -> Iterator[None]:
    """Another hook, or none, in the place of vmgate's."""
    good = world.libvirt.hook.read_bytes()
    world.libvirt.hook.unlink()
    if text is not None:
        world.libvirt.hook.write_text(text)
        world.libvirt.hook.chmod(stat.S_IRWXU)
    try:
        yield
    finally:
        world.libvirt.hook.write_bytes(good)
        world.libvirt.hook.chmod(0o755)


@pytest.mark.parametrize("restarted", [False, True], ids=["libvirt runs on", "libvirt restarted"])
@pytest.mark.parametrize("hook", [AGREE, None], ids=["agrees", "removed"])
def test_without_its_hook_libvirt_has_no_key_for_the_vms_tpm(world: World, hook: str | None, restarted: bool) -> None:
    before = world.state()
    with _hook(world, hook):
        if restarted:
            world.libvirt.restart_libvirtd()
        done = world.virsh("start", VM_NAME)
        assert done.returncode != 0
        assert "secret" in done.stderr.lower() or "hook" in done.stderr.lower(), done.stderr
        assert world.vm_state() == "shut off"
        assert world.host.vmgate("vm", "start", VM_NAME).exit != 0
        assert world.vm_state() == "shut off"
    world.libvirt.restart_libvirtd()
    assert world.state() == before


def test_a_secret_that_somebody_else_set_starts_no_vm_past_the_gate(world: World) -> None:
    """No hook, no state of the VM's TPM, and a key of the attacker's own: vmgate does not leave that VM running."""
    kept = world.folder / "kept"
    shutil.move(f"/var/lib/libvirt/swtpm/{VM_UUID}", kept)
    secret = world.folder / "secret.xml"
    secret.write_text(SECRET)
    before = world.state()
    with _hook(world, AGREE):
        world.libvirt.restart_libvirtd()
        world.libvirt.virsh("secret-define", str(secret))
        world.libvirt.virsh("secret-set-value", VM_UUID, "MTIzNDU2Nzg=")
        done = world.host.vmgate("vm", "start", VM_NAME)
        assert done.exit == 7
        assert "libvirt started it without asking the gate" in done.err
        assert world.vm_state() == "shut off"
    world.libvirt.restart_libvirtd()
    shutil.rmtree(f"/var/lib/libvirt/swtpm/{VM_UUID}")
    shutil.move(kept, f"/var/lib/libvirt/swtpm/{VM_UUID}")
    assert world.state() == before


def test_a_saved_memory_image_is_not_resumed(world: World) -> None:
    """Who saves a VM's memory can change it on the disk; nobody signed it."""
    image = world.folder / "saved"
    world.run("vm", "start", VM_NAME)
    world.libvirt.virsh("save", VM_NAME, str(image))
    assert newest(world, "vm-stop").outcome == "done"
    with unchanged(world):
        done = world.virsh("restore", str(image))
        assert done.returncode != 0
        assert "error[AG011]" in done.stderr
        assert world.vm_state() == "shut off"
    refusal = world.trail()[-1]
    assert (refusal.event, refusal.outcome, refusal.subject) == ("vm-start", "refused", VM_NAME)
    assert dict(refusal.details) == {"check": "way-in"}


def test_a_managed_save_is_not_resumed_either(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    world.libvirt.virsh("managedsave", VM_NAME)
    with unchanged(world):
        done = world.virsh("start", VM_NAME)
        assert done.returncode != 0
        assert "error[AG011]" in done.stderr
    world.run("vm", "start", VM_NAME)
    assert world.events()[-2:] == [(12, "vm-start", VM_NAME), (12, "key-drop", VM_NAME)]


@pytest.mark.parametrize("operation", ["migrate", "restore", "attach"])
def test_the_hook_refuses_every_other_way_in(world: World, operation: str) -> None:
    xml = world.virsh("dumpxml", VM_NAME).stdout
    with unchanged(world):
        command = [world.libvirt.hook, VM_NAME, operation, "begin", "-"]
        done = subprocess.run(command, input=xml, capture_output=True, text=True, check=False)
        assert done.returncode == 5
        assert done.stderr.startswith(f"error[AG011]: {VM_NAME} was not started; ")
    assert world.trail()[-1].outcome == "refused"
