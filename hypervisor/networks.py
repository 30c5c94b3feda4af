# SPDX-License-Identifier: Apache-2.0
"""The host's networks as libvirt's XML, a VM's place on one, and whether libvirt's are the ones that were made. Pure.

Whoever may read this also reads ``hypervisor.network_filter``: the frames that pass are said there. Nothing is made
here (``hypervisor.libvirt.networks`` does), and nobody is let in (``agent.networks`` does).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from lxml import etree

from documents.attachments import NetworkUse
from documents.host_networks import NAT, HostNetwork
from hypervisor.compare import MAX_DIFFERENCES, MAX_TEXT, Difference, compare
from hypervisor.errors import UnreadableDomain
from hypervisor.untrusted_xml import read_xml

PREFIX = "vmgate-"
"""Begins the name of each network and filter that vmgate makes in libvirt."""

_NAMES = uuid.UUID("6c0f2f2e-6f0e-5b9c-9a56-0c9a7d3d4f10")
_TAP = re.compile(r"vnet[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlace:
    """How one VM stands on one network of this host.

    Attributes:
        network: what the host offers; None where it has none of that name: then the VM cannot start.
        mac: of the VM there.
    """

    network: HostNetwork | None
    mac: str


def libvirt_name(name: str) -> str:
    """The name that a network and its filter have in libvirt."""
    return PREFIX + name


def bridge_name(name: str) -> str:
    """The name of a network's bridge: at most 15 characters, whatever the network is called."""
    return "vmg" + hashlib.sha256(name.encode()).hexdigest()[:10]


def hardware_address(seed: str, *owner: str) -> str:
    """A locally administered unicast MAC address of its own (IEEE 802, clause 8) for each host and owner."""
    digest = hashlib.sha256("\0".join(("vmgate-mac", seed, *owner)).encode()).hexdigest()
    return ":".join(("02", *(digest[at : at + 2] for at in range(0, 10, 2))))


def own_uuid(kind: str, name: str) -> str:
    """The UUID of a network or filter; always the same, so that one that is made anew takes its place."""
    return str(uuid.uuid5(_NAMES, f"{kind}/{name}"))


def network_xml(network: HostNetwork, seed: str) -> str:
    """A network (libvirt, formatnetwork), with everything said that libvirt would else choose."""
    root = etree.Element("network")
    etree.SubElement(root, "name").text = libvirt_name(network.name)
    etree.SubElement(root, "uuid").text = own_uuid("network", network.name)
    if network.kind == NAT:
        nat = etree.SubElement(etree.SubElement(root, "forward", mode="nat"), "nat")
        etree.SubElement(nat, "port", start="1024", end="65535")
    etree.SubElement(root, "bridge", name=bridge_name(network.name), stp="off", delay="0")
    etree.SubElement(root, "mac", address=hardware_address(seed, "bridge", network.name))
    etree.SubElement(root, "dns", enable="yes" if network.dhcp else "no")
    if network.kind == NAT:
        # For every port of the network, whatever the domain says.
        etree.SubElement(root, "port", isolated="yes")
        place = etree.SubElement(root, "ip", address=network.gateway, netmask=str(network.addresses.netmask))
        if network.dhcp:
            first, last = network.addresses[2], network.addresses[-2]
            etree.SubElement(etree.SubElement(place, "dhcp"), "range", start=str(first), end=str(last))
    etree.indent(root)
    return etree.tostring(root, encoding="unicode") + "\n"


def interface(use: NetworkUse, place: NetworkPlace) -> etree._Element:
    """A VM's network card (libvirt, formatdomain).

    On a network that the host does not have it is the most closed one; the gate refuses the VM.
    """
    network = place.network
    element = etree.Element("interface", type="network")
    etree.SubElement(element, "mac", address=place.mac)
    etree.SubElement(element, "source", network=libvirt_name(use.name))
    if network is None or network.kind == NAT:
        etree.SubElement(element, "port", isolated="yes")
    etree.SubElement(element, "model", type="virtio")
    filtered = etree.SubElement(element, "filterref", filter=libvirt_name(use.name))
    if use.address:
        etree.SubElement(filtered, "parameter", name="IP", value=use.address)
    elif network is not None and network.dhcp:
        # Only an address that our server gave, never one that the guest was seen to use.
        etree.SubElement(filtered, "parameter", name="CTRL_IP_LEARNING", value="dhcp")
        etree.SubElement(filtered, "parameter", name="DHCPSERVER", value=network.gateway)
    return element


def network_differences(expected_xml: str, untrusted_found: bytes) -> tuple[Difference, ...]:
    """What differs between a network, or a filter, as it was rendered and as libvirt has it.

    Args:
        expected_xml: what ``network_xml`` or ``hypervisor.network_filter.filter_xml`` gave.
        untrusted_found: libvirt's, of a network that is active or not.
    """
    expected = etree.fromstring(expected_xml)
    root = str(expected.tag)
    try:
        found = read_xml(untrusted_found, root)
    except UnreadableDomain as error:
        text = f"not readable: {error.cause}"[:MAX_TEXT]
        return (Difference(xpath=f"/{root}", expected=f"XML of a {root}", found=text),)
    # How many VMs are plugged in now.
    if "connections" in found.attrib:
        del found.attrib["connections"]
    return tuple(islice(compare(f"/{root}", expected, found), MAX_DIFFERENCES))


def foreign_ports(ports: Iterable[str]) -> tuple[str, ...]:
    """The ports of a bridge that are no VM's; nobody but root can have put them there."""
    return tuple(sorted(port for port in ports if not _TAP.fullmatch(port)))
