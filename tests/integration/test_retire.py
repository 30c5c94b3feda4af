# SPDX-License-Identifier: Apache-2.0
"""A host is handed back: what vmgate brought is gone, what is somebody else's is there, and old copies open nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.vtpm import STATES
from documents.errors import Exit
from documents.host_state import Generation, SealedKey
from lab.disk_vms import POLICY, release_disks
from lab.own_network import own_network
from lab.publisher import VM_UUID, Desk
from lab.world import VM_NAME, World, copied, folder, living, serving
from measure import guard
from measure.errors import SealShut
from measure.tpm import Tpm

OTHERS = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"""


@pytest.fixture(scope="module")
def world(desk: Desk) -> Iterator[World]:
    with folder("retire") as below, own_network():
        copy = copied(desk, below)
        release_disks(copy, policy=POLICY)
        with serving(copy.repository) as url, living("retire-host", copy, url) as world:
            world.run("update", "apply")
            yield world


def everything(place: Path) -> dict[str, bytes]:
    """Of a state folder; the lock only names its holder."""
    files = (path for path in sorted(place.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path): path.read_bytes() for path in files}


def domains(world: World) -> set[str]:
    return set(world.virsh("list", "--all", "--name").stdout.split())


def opens(world: World, sealed: SealedKey, generation: Generation) -> bool:
    with Tpm.open(world.host.tpm.tcti) as tpm:
        try:
            guard.unseal(tpm, sealed, generation.platform.policies)
        except SealShut:
            return False
    return True


@pytest.mark.timeout(900)
def test_a_host_is_handed_back_and_nothing_of_it_opens_again(world: World, tmp_path: Path) -> None:
    state, hook = world.state_folder, world.libvirt.hook
    theirs = tmp_path / "theirs.xml"
    theirs.write_text(OTHERS.format(name="theirs"))
    world.virsh("define", str(theirs))
    world.run("net", "create", "lab", "--kind", "peers")
    assert world.virsh("start", "--paused", VM_NAME).returncode == 0

    refused = world.host.vmgate("retire", "--dry-run", "-o", "json")
    assert refused.exit == Exit.NOT_READY
    assert json.loads(refused.out)["running"] == [VM_NAME]
    assert "agent runs" in world.host.vmgate("retire", "-y").err
    world.host.stop_agent()
    before = everything(state)
    refused = world.host.vmgate("retire", "-y")
    assert refused.exit == Exit.NOT_READY, refused.err
    assert f"these VMs run: {VM_NAME}" in refused.err
    assert everything(state) == before, "refused, and nothing was changed"

    world.host.start_agent()
    world.ask("vm/kill", name=VM_NAME)
    world.host.stop_agent()
    before = everything(state)
    told = world.run("retire", "--dry-run")
    assert f"would go: VM {VM_NAME} in libvirt" in told
    assert f"would go: the key of VM {VM_NAME} ({VM_UUID})" in told
    assert f"would go: {hook}" in told
    assert everything(state) == before, "a dry run changes nothing"
    assert (STATES / VM_UUID).is_dir()
    copies = tmp_path / "copies"
    shutil.copytree(state, copies)
    sealed = SealedKey.parse((copies / "tpm/host-key.json").read_bytes())
    generation = Generation.parse((copies / "generations/current/generation.json").read_bytes())
    assert opens(world, sealed, generation), "until then it opens"

    done = json.loads(world.run("retire", "-y", "-o", "json"))
    assert not done["unsigned"]
    assert done["signed"] == done["head"]
    assert domains(world) == {"theirs"}
    assert "vmgate" not in world.virsh("net-list", "--all").stdout + world.virsh("nwfilter-list").stdout
    assert not hook.exists()
    assert not (STATES / VM_UUID).exists()
    assert sorted(path.name for path in state.iterdir()) == ["audit", "lock", "tpm"]
    assert sorted(path.name for path in (state / "tpm").iterdir()) == ["ak.pub", "audit-key.json"]
    assert not (world.root / "run/vmgate").exists()
    assert (world.root / "etc/vmgate/vmgate.toml").is_file(), "what an administrator wrote stays"

    trail = world.trail()
    assert [(r.event, r.outcome) for r in trail[-2:]] == [("vm-delete", "done"), ("host-retire", "done")]
    assert world.host.vmgate("audit", "verify").exit == Exit.DONE
    assert not opens(world, sealed, generation), "who kept copies of all files, and has the TPM, opens nothing"
    assert world.host.vmgate("retire", "-y").exit == Exit.NOT_READY
    assert world.host.vmgate("agent", "run").exit == Exit.NOT_READY


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_host_that_was_handed_back_can_be_set_up_again(world: World) -> None:
    world.run("init", "--anchor", world.desk.anchor)
    assert "PCR 12 and 13" in world.host.vmgate("agent", "run").err, "what was measured stays until the next boot"
    world.host.power_cycle()
    world.libvirt.restart_libvirtd()
    world.host.start_agent()
    world.run("update", "apply")
    assert world.virsh("start", "--paused", VM_NAME).returncode == 0
    assert world.virsh("destroy", VM_NAME).returncode == 0
    found = [dict(r.details) for r in world.trail() if (r.event, r.outcome) == ("disk-state", "started")]
    assert [details["number"] for details in found if details["disk"] == "data"][-1] == "1", "as a new VM"
