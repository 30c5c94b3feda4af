# SPDX-License-Identifier: Apache-2.0
"""libvirt's networks and network filters, through a connection that ``hypervisor.libvirt`` opens.

Each call has a connection of its own, since the gate asks while libvirt waits for it. This module decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from hypervisor.libvirt.translation import translated

_INACTIVE = 1
"""virNetworkXMLFlags: as it would start next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundNetwork:
    """What libvirt has of one network.

    Attributes:
        active: whether its bridge is there.
        stored: its XML as it would start next; untrusted.
        live: as it runs; the same where it does not.
    """

    active: bool
    stored: bytes
    live: bytes


class LibvirtNetworks:
    """The networks of one libvirt.

    Args:
        connect: gives a connection for a block.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Any]]) -> None:
        self._connect = connect

    def find(self, name: str) -> FoundNetwork | None:
        """A network by its name in libvirt, or None.

        Raises:
            LibvirtAway: no answer.
        """
        with self._connect() as connection, translated(f"the network {name} was not read"):
            network = _named(connection.listAllNetworks(), name)
            if network is None:
                return None
            stored = network.XMLDesc(_INACTIVE).encode()
            active = bool(network.isActive())
            return FoundNetwork(active=active, stored=stored, live=network.XMLDesc(0).encode() if active else stored)

    def find_filter(self, name: str) -> bytes | None:
        """A filter's XML, untrusted, or None.

        Raises:
            LibvirtAway: no answer.
        """
        with self._connect() as connection, translated(f"the network filter {name} was not read"):
            found = _named(connection.listAllNWFilters(), name)
            return None if found is None else str(found.XMLDesc(0)).encode()

    def define(self, network_xml: str, filter_xml: str) -> None:
        """Let libvirt know a network and its filter; others of the same names and UUIDs are replaced.

        Raises:
            HypervisorError: it takes one of them not.
        """
        with self._connect() as connection, translated("the network was not made"):
            connection.nwfilterDefineXML(filter_xml)
            connection.networkDefineXML(network_xml)

    def start(self, name: str) -> None:
        """Make its bridge; one that is there is fine.

        Raises:
            HypervisorError: it cannot.
        """
        with self._connect() as connection, translated(f"the network {name} was not started"):
            network = connection.networkLookupByName(name)
            if not network.isActive():
                network.create()

    def stop(self, name: str) -> None:
        """Take its bridge away, whoever is plugged in; one that is not there is fine."""
        with self._connect() as connection, translated(f"the network {name} was not stopped"):
            network = _named(connection.listAllNetworks(), name)
            if network is not None and network.isActive():
                network.destroy()

    def remove(self, name: str) -> None:
        """Let libvirt forget a network and its filter; what is not there is fine.

        Raises:
            HypervisorError: a VM that runs has the filter.
        """
        self.stop(name)
        with self._connect() as connection, translated(f"the network {name} was not removed"):
            for found in (_named(connection.listAllNetworks(), name), _named(connection.listAllNWFilters(), name)):
                if found is not None:
                    found.undefine()


def _named(found: list[Any], name: str) -> Any | None:
    return next((item for item in found if item.name() == name), None)
