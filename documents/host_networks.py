# SPDX-License-Identifier: Apache-2.0
"""The networks that a host offers to its VMs, as its administrator made them.

Only IPv4, only behind the host: no kind of network puts a VM on the host's own. This module makes nothing of libvirt's
(``hypervisor.networks`` does) and does not say which VM may use what.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, Self

from documents.attachments import NETWORK
from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields

NAT, PEERS = "nat", "peers"
NETWORK_KINDS = (NAT, PEERS)
"""``nat``: each VM reaches what the host reaches, and no other VM. ``peers``: the VMs reach each other, and no more."""

SUBNET = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}")
PREFIXES = range(16, 30)
"""Prefix lengths of a subnet."""
PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
"""Where subnets may lie (RFC 1918): a network of ours must not hide somebody else's addresses."""

MAX_HOST_NETWORKS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNetwork:
    """One network.

    Attributes:
        name: unique on the host.
        kind: one of ``NETWORK_KINDS``.
        subnet: of a ``nat`` network, such as ``10.77.0.0/24``; the host has its first address. Empty for ``peers``.
        dhcp: whether a ``nat`` network gives out addresses and answers DNS; if not, VMs use their definitions'.
    """

    name: str
    kind: str
    subnet: str = ""
    dhcp: bool = False

    @classmethod
    def read(cls, untrusted: Json) -> HostNetwork:
        """Read one."""
        fields = Fields(untrusted, "host network")
        name, kind = fields.take_text("name", NETWORK, 32), fields.take_choice("kind", NETWORK_KINDS)
        network = cls(
            name=name,
            kind=kind,
            subnet=_subnet(fields) if kind == NAT else "",
            dhcp=fields.take_bool("dhcp") if kind == NAT else False,
        )
        fields.finish()
        return network

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        rest: dict[str, Json] = {"subnet": self.subnet, "dhcp": self.dhcp} if self.kind == NAT else {}
        return {"name": self.name, "kind": self.kind, **rest}

    @property
    def addresses(self) -> ipaddress.IPv4Network:
        """The subnet of a ``nat`` network."""
        return ipaddress.IPv4Network(self.subnet)

    @property
    def gateway(self) -> str:
        """The host's address on a ``nat`` network."""
        return str(self.addresses[1])

    def admits(self, address: str) -> bool:
        """Whether a VM may have an address there: any on ``peers``, on ``nat`` none of the host's or at an edge."""
        if self.kind == PEERS:
            return True
        given = ipaddress.IPv4Address(address)
        edges = {self.addresses[0], self.addresses[1], self.addresses[-1]}
        return given in self.addresses and given not in edges


def _subnet(fields: Fields) -> str:
    text = fields.take_text("subnet", SUBNET, 18)
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise fields.wrong("subnet", "is not an IPv4 network") from error
    if str(network) != text or network.prefixlen not in PREFIXES:
        raise fields.wrong("subnet", "is not in its form")
    if not any(network.subnet_of(private) for private in PRIVATE):
        raise fields.wrong("subnet", "is not a private one")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNetworks(Document):
    """All networks of a host.

    Attributes:
        seed: drawn once; the hardware addresses on this host are made of it.
        networks: sorted by name.
    """

    TYPE: ClassVar[str] = "vmgate.host-networks"
    LIMIT: ClassVar[int] = 20_000

    seed: str
    networks: tuple[HostNetwork, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        found = cls(
            seed=fields.take_digest("seed"),
            networks=fields.take_list("networks", HostNetwork.read, MAX_HOST_NETWORKS),
        )
        names = [network.name for network in found.networks]
        if names != sorted(set(names)):
            raise fields.wrong("networks", "is not sorted by name")
        subnets = [network.addresses for network in found.networks if network.kind == NAT]
        if any(one.overlaps(other) for one, other in combinations(subnets, 2)):
            raise fields.wrong("networks", "has two that overlap")
        return found

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"seed": self.seed, "networks": [network.members() for network in self.networks]}

    def find(self, name: str) -> HostNetwork | None:
        """The network of a name, or None."""
        return next((network for network in self.networks if network.name == name), None)
