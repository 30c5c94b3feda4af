# SPDX-License-Identifier: Apache-2.0
"""A network and its filter as XML: what passes is a short list, and nothing that is edited goes unnoticed."""

from __future__ import annotations

import dataclasses
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from documents.attachments import NetworkUse
from documents.definition import VmDefinition
from documents.host_networks import HostNetwork
from hypervisor.compare import differences
from hypervisor.domain import Placement, render
from hypervisor.lint import lint
from hypervisor.network_filter import filter_xml
from hypervisor.networks import (
    NetworkPlace,
    bridge_name,
    foreign_ports,
    hardware_address,
    network_differences,
    network_xml,
)

SEED = "ab" * 32
PEERS = HostNetwork(name="lan", kind="peers")
PLAIN = HostNetwork(name="out", kind="nat", subnet="10.77.0.0/24")
SERVED = HostNetwork(name="out", kind="nat", subnet="10.77.0.0/24", dhcp=True)
EACH = pytest.mark.parametrize("network", [PEERS, PLAIN, SERVED], ids=["peers", "nat", "nat-dhcp"])
MAC = "02:00:00:00:00:01"


def on(definition: VmDefinition, placement: Placement, network: HostNetwork | None, address: str = "") -> str:
    """A VM on one network."""
    name = network.name if network else "lan"
    vm = dataclasses.replace(definition, networks=(NetworkUse(name=name, address=address),))
    return render(vm, dataclasses.replace(placement, networks={name: NetworkPlace(network=network, mac=MAC)}))


@EACH
def test_nothing_passes_but_what_is_listed(network: HostNetwork) -> None:
    """The last rule drops; each rule that accepts is about ARP or IPv4, and about the VM's own hardware address."""
    rules = etree.fromstring(filter_xml(network, SEED)).findall("rule")
    last = rules[-1]
    assert (last.get("action"), last.get("direction"), [(child.tag, dict(child.attrib)) for child in last]) == (
        "drop", "inout", [("mac", {})],
    )  # fmt: skip
    order = [int(rule.get("priority")) for rule in rules]
    assert order == sorted(set(order))
    for rule in rules:
        (match,) = rule
        if rule.get("action") == "accept" and rule.get("direction") == "out":
            assert match.tag in {"arp", "ip"}
            assert match.get("srcmacaddr") == "$MAC"
            assert match.get("arpsrcmacaddr" if match.tag == "arp" else "srcmacaddr") == "$MAC"
            address = match.get("arpsrcipaddr") or match.get("srcipaddr")
            assert address == "$IP" or (network.dhcp and match.get("dstportstart") == "67")
        if rule.get("action") == "accept" and rule.get("direction") == "in":
            assert match.tag in {"arp", "ip"}
            assert match.get("dstmacaddr") in {"$MAC", "ff:ff:ff:ff:ff:ff"}


def test_on_nat_a_vm_hears_the_host_alone_and_not_its_neighbours_addresses() -> None:
    root = etree.fromstring(filter_xml(SERVED, SEED))
    bridge = hardware_address(SEED, "bridge", "out")
    assert etree.fromstring(network_xml(SERVED, SEED)).find("mac").get("address") == bridge
    heard = root.xpath("rule[@direction='in'][@action='accept']/*")
    assert heard
    assert {match.get("srcmacaddr") for match in heard} == {bridge}
    for direction, prefix in (("out", "dst"), ("in", "src")):
        (drop,) = root.xpath(f"rule[@direction='{direction}'][@action='drop']/ip[@{prefix}ipaddr='10.77.0.0']/..")
        after = root.xpath(
            f"rule[@direction='{direction}'][@action='accept']/ip[not(@srcportstart or @dstportstart)]/.."
        )
        behind = [rule for rule in after if rule[0].get("srcipaddr") != "10.77.0.1"]
        assert behind
        assert all(int(rule.get("priority")) > int(drop.get("priority")) for rule in behind)


def test_every_port_of_a_nat_network_is_isolated_and_peers_have_neither_host_nor_way_out() -> None:
    nat, peers = (etree.fromstring(network_xml(network, SEED)) for network in (SERVED, PEERS))
    assert nat.find("port").get("isolated") == "yes"
    assert [child.tag for child in peers] == ["name", "uuid", "bridge", "mac", "dns"]
    assert peers.find("dns").get("enable") == "no"


@EACH
def test_a_vm_on_a_network_passes_the_linter(
    definition: VmDefinition, placement: Placement, network: HostNetwork
) -> None:
    kvm = dataclasses.replace(placement, accelerator="kvm")
    found = {(f.id, f.level) for f in lint(on(definition, kvm, network, "10.77.0.9").encode())}
    assert found == {("HV083", "warn")} | ({("HV052", "grant")} if network is PEERS else set())


def test_on_a_network_that_is_not_offered_the_port_is_isolated(definition: VmDefinition, placement: Placement) -> None:
    card = etree.fromstring(on(definition, placement, None)).find("devices/interface")
    assert card.find("port").get("isolated") == "yes"


def test_an_address_is_pinned_or_learnt_from_our_server_alone(definition: VmDefinition, placement: Placement) -> None:
    def parameters(network: HostNetwork, address: str = "") -> dict[str, str]:
        card = etree.fromstring(on(definition, placement, network, address)).find("devices/interface")
        return {part.get("name"): part.get("value") for part in card.iterfind("filterref/parameter")}

    assert parameters(PEERS, "10.1.0.2") == {"IP": "10.1.0.2"}
    assert parameters(SERVED, "10.77.0.9") == {"IP": "10.77.0.9"}
    assert parameters(SERVED) == {"CTRL_IP_LEARNING": "dhcp", "DHCPSERVER": "10.77.0.1"}


def test_a_placement_with_other_networks_is_a_bug(definition: VmDefinition, placement: Placement) -> None:
    vm = dataclasses.replace(definition, networks=(NetworkUse(name="lan"),))
    with pytest.raises(ValueError, match="other networks"):
        render(vm, placement)


RUNNING = "<target dev='vnet0'/>"


def test_what_libvirt_says_of_a_running_card_is_no_difference(definition: VmDefinition, placement: Placement) -> None:
    xml = on(definition, placement, PEERS, "10.1.0.2")
    live = xml.replace('network="vmgate-lan"', 'network="vmgate-lan" portid="1-2" bridge="vmg1"')
    live = live.replace("<filterref", f"{RUNNING}<filterref")
    assert differences(xml, live.encode()) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (MAC, "02:00:00:00:00:02"),
        ('network="vmgate-lan"', 'network="default"'),
        ('filter="vmgate-lan"', 'filter="clean-traffic"'),
        ('value="10.1.0.2"', 'value="10.1.0.3"'),
        ("<filterref", "<target dev='eth0'/><filterref"),
        ("<filterref", "<target dev='vnet0' managed='no'/><filterref"),
        ("<filterref", "<script path='/tmp/x'/><filterref"),
        ('type="network"', 'type="network" trustGuestRxFilters="yes"'),
        ("<filterref", "<link state='down'/><filterref"),
        ("<filterref", "<vlan><tag id='7'/></vlan><filterref"),
    ],
)
def test_an_edited_card_is_named(definition: VmDefinition, placement: Placement, old: str, new: str) -> None:
    xml = on(definition, placement, PEERS, "10.1.0.2")
    assert old in xml
    found = differences(xml, xml.replace(old, new).encode())
    assert any("/interface[1]" in difference.xpath for difference in found)


def test_a_second_card_is_named(definition: VmDefinition, placement: Placement) -> None:
    xml = on(definition, placement, PEERS, "10.1.0.2")
    root = etree.fromstring(xml)
    card = root.find("devices/interface")
    card.addnext(deepcopy(card))
    assert [d.xpath for d in differences(xml, etree.tostring(root))] == ["/domain/devices[1]/interface[2]"]


@EACH
@pytest.mark.parametrize("made", [network_xml, filter_xml])
def test_no_single_change_to_a_network_or_its_filter_goes_unnoticed(network: HostNetwork, made: object) -> None:
    text = made(network, SEED)  # type: ignore[operator]  # one of two functions
    whole = etree.fromstring(text)
    assert network_differences(text, text.encode()) == ()
    for element in whole.iter():
        place = whole.getroottree().getpath(element)
        for name in element.attrib:
            assert network_differences(text, _changed(whole, place, lambda e, n=name: e.set(n, "changed")))
            assert network_differences(text, _changed(whole, place, lambda e, n=name: e.attrib.pop(n)))
        assert network_differences(text, _changed(whole, place, lambda e: e.set("new", "x")))
        assert network_differences(text, _changed(whole, place, lambda e: etree.SubElement(e, "new")))
        if element is not whole:
            assert network_differences(text, _changed(whole, place, lambda e: e.getparent().remove(e)))


def _changed(whole: etree._Element, place: str, do: object) -> bytes:
    copy = deepcopy(whole)
    (target,) = copy.xpath(place)
    do(target)  # type: ignore[operator]
    return etree.tostring(copy)


def test_how_many_vms_are_plugged_in_is_no_difference() -> None:
    text = network_xml(PEERS, SEED)
    assert network_differences(text, text.replace("<network>", "<network connections='2'>").encode()) == ()


@given(st.binary(max_size=200))
def test_whatever_libvirt_says_is_a_difference_and_nothing_else_happens(untrusted: bytes) -> None:
    assert network_differences(network_xml(PEERS, SEED), untrusted)


@given(st.text(min_size=1, max_size=40), st.uuids(), st.uuids())
def test_hardware_addresses_are_ours_and_each_its_own(name: str, one: object, other: object) -> None:
    address = hardware_address(SEED, str(one), name)
    first = int(address[:2], 16)
    assert (first & 1, first & 2, len(address)) == (0, 2, 17), "unicast, locally administered"
    assert address == hardware_address(SEED, str(one), name)
    assert address != hardware_address("cd" * 32, str(one), name)
    assert one == other or address != hardware_address(SEED, str(other), name)
    assert len(bridge_name(name)) <= 15


def test_only_vms_may_be_plugged_into_a_bridge() -> None:
    assert foreign_ports(["vnet0", "vnet12"]) == ()
    assert foreign_ports(["vnet0", "eth0", "vnetx", "veth1", "vnet"]) == ("eth0", "veth1", "vnet", "vnetx")
