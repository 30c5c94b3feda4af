# SPDX-License-Identifier: Apache-2.0
"""A VM whose definition names a network, on a host with agent and gate: who must agree, and what an edit leads to.

Whom such a VM reaches is shown in ``test_isolation``. The host has a network namespace of the test's own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from lab.own_network import ip, own_network
from lab.publisher import Desk
from lab.refusal import newest, refused_by_agent, refused_by_libvirt, unchanged
from lab.world import VM_NAME, World, copied, folder, living, serving

pytestmark = pytest.mark.timeout(240)

GUARD = 30
NETWORK = '\n[[networks]]\nname = "lan"\naddress = "10.1.0.2"\n'


@pytest.fixture(scope="module")
def world(desk: Desk) -> Iterator[World]:
    with folder("networks") as below, own_network():
        copy = copied(desk, below)
        copy.release(copy.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more='networks = ["peers"]\n'))
        copy.release(copy.write_workload(title="On a network", image="hello-1.img", accepts=(1, 9), more=NETWORK))
        with serving(copy.repository) as url, living("networks", copy, url) as world:
            world.run("update", "apply")
            yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()


def live(world: World) -> etree._Element:
    return etree.fromstring(world.virsh("dumpxml", VM_NAME).stdout)


def generation(world: World) -> str:
    """The generation id as QEMU has it."""
    said = world.virsh("qemu-monitor-command", VM_NAME, '{"execute": "query-vm-generation-id"}').stdout
    return str(json.loads(said)["return"]["guid"])


def edit(world: World, old: str, new: str) -> None:
    """Edit the network in libvirt, as somebody with libvirt's rights could."""
    path = world.folder / "network.xml"
    path.write_text(world.virsh("net-dumpxml", "--inactive", "vmgate-lan").stdout.replace(old, new))
    assert world.virsh("net-define", str(path)).returncode == 0


def test_publisher_administrator_and_policy_must_agree(world: World) -> None:
    with unchanged(world):
        assert refused_by_agent(world) == [("network", "lan")]
    assert "vmgate net list" in world.run("vm", "why", VM_NAME)
    # One of a kind that the policy does not name is no better.
    world.run("net", "create", "lan", "--kind", "nat", "--subnet", "10.1.0.0/24", "--no-dhcp")
    assert ("policy", "network lan") in refused_by_agent(world)
    world.run("net", "delete", "lan")
    assert world.host.vmgate("net", "create", "lan", "--kind", "nat", "--subnet", "8.8.8.0/24").exit == 2
    world.run("net", "create", "lan", "--kind", "peers")
    assert newest(world, "network-create").outcome == "done"
    assert world.host.vmgate("net", "create", "lan", "--kind", "peers").exit == 6

    world.run("vm", "start", VM_NAME)
    (card,) = live(world).findall("devices/interface")
    mac = card.find("mac").get("address")
    assert dict(newest(world, "network-attach").details) == {"networks": f"lan={mac}"}
    assert json.loads(world.run("net", "list", "-o", "json"))["networks"] == [
        {"name": "lan", "kind": "peers", "vms": 1}
    ]
    assert world.host.vmgate("net", "delete", "lan").exit == 7, "a VM is on it"
    assert "as it was made" in world.run("net", "show", "lan")
    world.kill_vm()
    world.run("vm", "start", VM_NAME)
    assert live(world).find("devices/interface/mac").get("address") == mac


def test_an_edited_network_starts_no_vm_and_is_made_anew_by_vmgate(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    world.kill_vm()
    edit(world, "</network>", "<ip address='10.1.0.1' netmask='255.255.255.0'/></network>")
    wait_for_definition(world)
    with unchanged(world):
        assert {check for check, _ in refused_by_libvirt(world, "start", VM_NAME)} == {"network"}
    world.run("vm", "start", VM_NAME)
    world.kill_vm()
    # What root plugged into the bridge stays, and nothing starts beside it.
    bridge = etree.fromstring(world.virsh("net-dumpxml", "vmgate-lan").stdout).find("bridge").get("name")
    ip("link", "add", "bypass", "type", "veth", "peer", "name", "bypass-end")
    ip("link", "set", "bypass", "master", bridge)
    with unchanged(world):
        assert refused_by_agent(world) == [("network", "lan ports")]
    ip("link", "delete", "bypass")
    world.run("vm", "start", VM_NAME)


def wait_for_definition(world: World) -> None:
    """Until libvirt knows the generation id that the next start has."""
    path = Path(world.state_folder, "vms", VM_NAME, "generation-id")
    deadline = time.monotonic() + GUARD
    while path.read_text() not in world.virsh("dumpxml", "--inactive", VM_NAME).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_start_has_a_generation_id_of_its_own(world: World) -> None:
    seen = []
    for start in (("vmgate",), ("virsh",), ("virsh",)):
        if start == ("vmgate",):
            world.run("vm", "start", VM_NAME)
        else:
            wait_for_definition(world)
            assert world.virsh("start", VM_NAME).returncode == 0
        seen.append(generation(world))
        assert live(world).findtext("genid") == seen[-1]
        world.kill_vm()
    assert len(set(seen)) == 3
    # The domain of an earlier start, brought back by hand.
    wait_for_definition(world)
    path = world.folder / "earlier.xml"
    domain = etree.fromstring(world.virsh("dumpxml", "--inactive", VM_NAME).stdout)
    domain.find("genid").text = seen[0]
    path.write_bytes(etree.tostring(domain))
    assert world.virsh("define", str(path)).returncode == 0
    with unchanged(world):
        assert refused_by_libvirt(world, "start", VM_NAME) == [("generation-id", VM_NAME)]
    world.run("vm", "start", VM_NAME)
    assert generation(world) not in seen
