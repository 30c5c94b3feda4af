# SPDX-License-Identifier: Apache-2.0
"""Which frames pass between a VM and its network: a short list, and nothing else. Pure.

Each network has a filter of its own (libvirt, formatnwfilter). ``$MAC`` is the VM's hardware address; ``$IP`` the
address of its definition, or the one that the network's DHCP server was seen to give. Only ARP and IPv4 pass: no VLAN
tags, no IPv6 and so no router advertisements, no spanning tree, no other protocol. Only Ethernet and IP headers are
looked at: what two VMs on a ``peers`` network say to each other is theirs.
"""

from __future__ import annotations

from lxml import etree

from documents.host_networks import NAT, HostNetwork
from hypervisor.networks import hardware_address, libvirt_name, own_uuid

BROADCAST = "ff:ff:ff:ff:ff:ff"
OUT, IN, BOTH = "out", "in", "inout"
"""As the VM sees it."""
NOBODY, EVERYBODY = "0.0.0.0", "255.255.255.255"  # noqa: S104 (a client without an address; nothing is bound)

Row = tuple[str, str, str, dict[str, str]]
"""Action, direction, protocol, and what must match."""

_OWN = {"srcmacaddr": "$MAC"}
_OWN_ARP = _OWN | {"arpsrcmacaddr": "$MAC", "arpsrcipaddr": "$IP"}
_REST: Row = ("drop", BOTH, "mac", {})


def filter_xml(network: HostNetwork, seed: str) -> str:
    """The filter of a network."""
    rows = _nat(network, hardware_address(seed, "bridge", network.name)) if network.kind == NAT else _PEERS
    root = etree.Element("filter", name=libvirt_name(network.name), chain="root")
    etree.SubElement(root, "uuid").text = own_uuid("filter", network.name)
    for number, (action, direction, protocol, matches) in enumerate((*rows, _REST)):
        # libvirt takes -1000 to 1000, the lowest first.
        rule = etree.SubElement(root, "rule", action=action, direction=direction, priority=str(number - 900))
        etree.SubElement(rule, protocol, matches)
    etree.indent(root)
    return etree.tostring(root, encoding="unicode") + "\n"


_PEERS: tuple[Row, ...] = (
    ("accept", OUT, "arp", _OWN_ARP),
    ("accept", OUT, "ip", _OWN | {"srcipaddr": "$IP"}),
    # Not what the bridge sends to all ports because it does not know where the addressee is.
    ("accept", IN, "arp", {"dstmacaddr": "$MAC"}),
    ("accept", IN, "arp", {"dstmacaddr": BROADCAST}),
    ("accept", IN, "ip", {"dstmacaddr": "$MAC"}),
    ("accept", IN, "ip", {"dstmacaddr": BROADCAST}),
)
"""A VM speaks as itself alone, and hears what is for it or for all."""


def _nat(network: HostNetwork, bridge_mac: str) -> tuple[Row, ...]:
    """A VM speaks with the host's bridge alone, and through it with what is not this network."""
    gateway = network.gateway
    subnet = {"ipaddr": str(network.addresses[0]), "ipmask": str(network.addresses.prefixlen)}
    own = _OWN | {"srcipaddr": "$IP"}
    from_host = {"srcmacaddr": bridge_mac}
    dhcp: tuple[Row, ...] = (
        ("accept", OUT, "ip", _OWN | {"srcipaddr": NOBODY, "dstipaddr": EVERYBODY} | _udp(68, 67)),
        ("accept", OUT, "ip", own | {"dstipaddr": gateway} | _udp(68, 67)),
        ("accept", OUT, "ip", own | {"dstipaddr": gateway, "protocol": "udp"} | _to(53)),
        ("accept", OUT, "ip", own | {"dstipaddr": gateway, "protocol": "tcp"} | _to(53)),
        ("accept", IN, "ip", from_host | {"dstmacaddr": BROADCAST, "srcipaddr": gateway} | _udp(67, 68)),
    )
    return (
        ("accept", OUT, "arp", _OWN_ARP | {"arpdstipaddr": gateway}),
        *(dhcp if network.dhcp else ()),
        # Neither the host itself nor, by way of its routing, another VM of this network.
        ("drop", OUT, "ip", {f"dst{name}": value for name, value in subnet.items()}),
        ("drop", OUT, "ip", {"dstipaddr": "224.0.0.0", "dstipmask": "3"}),
        ("accept", OUT, "ip", own),
        ("accept", IN, "arp", from_host | {"dstmacaddr": "$MAC", "arpsrcipaddr": gateway}),
        ("accept", IN, "arp", from_host | {"dstmacaddr": BROADCAST, "arpsrcipaddr": gateway}),
        ("accept", IN, "ip", from_host | {"dstmacaddr": "$MAC", "srcipaddr": gateway}),
        ("drop", IN, "ip", {f"src{name}": value for name, value in subnet.items()}),
        ("accept", IN, "ip", from_host | {"dstmacaddr": "$MAC"}),
    )


def _udp(source: int, destination: int) -> dict[str, str]:
    return {"protocol": "udp", "srcportstart": str(source), "srcportend": str(source)} | _to(destination)


def _to(port: int) -> dict[str, str]:
    return {"dstportstart": str(port), "dstportend": str(port)}
