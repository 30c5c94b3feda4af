# SPDX-License-Identifier: Apache-2.0
"""What a VM's definition asks of the host besides its disks: networks by name, devices by name. Absent means none.

A name is the publisher's wish. Whether the host has such a thing, and lets this VM have it, is not decided here
(``agent.networks`` and ``agent.devices`` do).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from documents.canonical import Json
from documents.fields import Fields

NETWORK = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
"""Names of networks and devices: short enough to stand in the names of what libvirt has."""

ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
MAX_NETWORKS = 8
MAX_DEVICES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkUse:
    """That a VM stands on a network.

    Attributes:
        name: of a network that the host offers.
        address: IPv4 address in dotted form that the VM must use there; empty for the one that the network's DHCP
            server gives it. The filter lets no other pass.
    """

    name: str
    address: str = ""

    @classmethod
    def read(cls, untrusted: Json) -> NetworkUse:
        """Read one."""
        fields = Fields(untrusted, "network")
        use = cls(
            name=fields.take_text("name", NETWORK, 32),
            address=take_address(fields, "address") if fields.has("address") else "",
        )
        fields.finish()
        return use

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"name": self.name, **({"address": self.address} if self.address else {})}


def take_address(fields: Fields, name: str) -> str:
    """Take an IPv4 address that one machine can have, in its only form.

    Raises:
        DocumentError: it is not one.
    """
    text = fields.take_text(name, ADDRESS, 15)
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError as error:
        raise fields.wrong(name, "is not an IPv4 address") from error
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved:
        raise fields.wrong(name, "is not the address of a machine")
    return text


def read_networks(fields: Fields) -> tuple[NetworkUse, ...]:
    """The optional member ``networks``: in the order of the guest's network cards, never empty, no name twice."""
    if not fields.has("networks"):
        return ()
    networks = fields.take_list("networks", NetworkUse.read, MAX_NETWORKS)
    fields.require_distinct("networks", [network.name for network in networks])
    if not networks:
        raise fields.wrong("networks", "is there and empty")
    return networks


def read_devices(fields: Fields) -> tuple[str, ...]:
    """The optional member ``devices``: names of devices and media that the VM may have; sorted, never empty."""
    if not fields.has("devices"):
        return ()
    devices = fields.take_texts("devices", NETWORK, MAX_DEVICES, 32)
    if not devices or list(devices) != sorted(devices):
        raise fields.wrong("devices", "is empty or not sorted")
    return devices
