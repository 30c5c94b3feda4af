# SPDX-License-Identifier: Apache-2.0
"""The networks that this host offers to its VMs: made by its administrator, compared at each start of a VM.

What is offered stands in a file of the agent's; libvirt has what is made of it, and is asked at each start whether it
still is that. A network that was edited in libvirt, or has a port that is no VM's, is refused until it is made anew.
Which definition names which network is the publisher's affair, which kinds may be used at all the signed policy's.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from agent.audit import AuditTrail
from agent.errors import NotFound
from agent.findings import make_finding
from agent.paths import HostPaths
from agent.vm_errors import NetworkInUse, NetworkThere, NetworkWrong
from content import durable
from content.errors import Missing
from documents.attachments import NetworkUse
from documents.canonical import Json
from documents.definition import VmDefinition
from documents.errors import DocumentError, VmgateError
from documents.host_networks import NAT, HostNetwork, HostNetworks
from documents.security_policy import SecurityPolicy
from documents.verdict import Finding
from hypervisor.libvirt.networks import LibvirtNetworks
from hypervisor.network_filter import filter_xml
from hypervisor.networks import (
    NetworkPlace,
    bridge_name,
    foreign_ports,
    hardware_address,
    libvirt_name,
    network_differences,
    network_xml,
)

log = logging.getLogger(__name__)

DEVICES = Path("/sys/class/net")
NONE = HostNetworks(seed="0" * 64, networks=())
"""Of a host whose administrator made none."""
CHECK = "network"
"""Of findings."""
MAX_TOLD = 20
"""Differences of one network in a verdict."""


class Networks:
    """Of one host.

    Args:
        paths, audit: of this host.
        libvirt: its networks.
        devices: where the kernel lists network devices.
    """

    def __init__(self, paths: HostPaths, audit: AuditTrail, libvirt: LibvirtNetworks, devices: Path = DEVICES) -> None:
        self._path = paths.networks
        self._audit = audit
        self._libvirt = libvirt
        self._devices = devices
        self._lock = threading.Lock()

    def offered(self) -> HostNetworks:
        """What is offered.

        Raises:
            DocumentError: the file is malformed or of a newer vmgate.
            ContentError: it cannot be read.
        """
        try:
            return HostNetworks.parse(durable.read_file(self._path, HostNetworks.LIMIT))
        except Missing:
            return NONE

    def places(self, definition: VmDefinition) -> dict[str, NetworkPlace]:
        """A VM's place on each network that its definition names; on one that is not offered it cannot start."""
        if not definition.networks:
            return {}
        try:
            offered = self.offered()
        except VmgateError as error:
            log.warning("the networks of this host are not known: %s", error)
            offered = NONE
        return {
            use.name: NetworkPlace(
                network=offered.find(use.name), mac=hardware_address(offered.seed, definition.uuid, use.name)
            )
            for use in definition.networks
        }

    def list(self) -> dict[str, Json]:
        """All networks, each with how many VMs are plugged in."""
        networks = self.offered().networks
        return {"networks": [{**network.members(), "vms": len(self._ports(network.name))} for network in networks]}

    def show(self, name: str) -> dict[str, Json]:
        """One network, as it is made in libvirt."""
        offered = self.offered()
        network = _find(offered, name)
        return {
            "network": network.members(),
            "libvirt": libvirt_name(name),
            "bridge": bridge_name(name),
            "ports": list(self._ports(name)),
            "xml": network_xml(network, offered.seed),
            "filter": filter_xml(network, offered.seed),
            "findings": [finding.members() for finding in self._as_made(network, offered.seed)],
        }

    def create(self, untrusted: Mapping[str, Json], actor: str) -> dict[str, Json]:
        """Make a network.

        Args:
            untrusted: members of a ``HostNetwork``.
            actor: for the record.

        Raises:
            NetworkWrong: it is not in its form, or its subnet is another's; nothing was changed.
            NetworkThere: there is one of that name.
            HypervisorError: libvirt did not make it; it is not offered.
        """
        with self._lock:
            before = self.offered()
            after = _with(before, untrusted)
            (network,) = (made for made in after.networks if before.find(made.name) is None)
            details = {"kind": network.kind, "subnet": network.subnet, "dhcp": str(network.dhcp)}
            self._audit.append("network-create", "started", network.name, actor, **details)
            try:
                self._make(network, after.seed)
                durable.write_file(self._path, after.encode())
            except VmgateError as error:
                self._audit.append(
                    "network-create", "failed", network.name, actor, code=error.code, cause=error.cause, **details
                )
                raise
            self._audit.append("network-create", "done", network.name, actor, **details)
            return {"network": network.members()}

    def delete(self, name: str, actor: str) -> dict[str, Json]:
        """Take a network away.

        Raises:
            NotFound: there is none of that name.
            NetworkInUse: a VM, or something else, is plugged in.
        """
        with self._lock:
            offered = self.offered()
            network = _find(offered, name)
            if ports := self._ports(name):
                raise NetworkInUse(
                    f"the network {name} was not deleted",
                    cause=f"{len(ports)} ports are plugged into it",
                    remedy="stop the VMs that are on it",
                )
            self._audit.append("network-delete", "started", name, actor, kind=network.kind)
            try:
                # First it is offered no more: a cut leaves a network that no VM may use.
                left = tuple(other for other in offered.networks if other != network)
                durable.write_file(self._path, replace(offered, networks=left).encode())
                self._libvirt.remove(libvirt_name(name))
            except VmgateError as error:
                self._audit.append("network-delete", "failed", name, actor, code=error.code, cause=error.cause)
                raise
            self._audit.append("network-delete", "done", name, actor, kind=network.kind)
            return {"name": name}

    def restore(self, names: Iterable[str] | None = None) -> None:
        """Have libvirt's networks be what was made, as far as no VM that runs is on them.

        Args:
            names: of those that matter; None for all. What is not offered is left alone.

        Raises:
            DocumentError, ContentError: what was made is not known.
        """
        with self._lock:
            offered = self.offered()
            wanted = None if names is None else set(names)
            for network in offered.networks:
                if wanted is not None and network.name not in wanted:
                    continue
                try:
                    if any(f.outcome == "fail" for f in self._as_made(network, offered.seed)):
                        self._make(network, offered.seed)
                except VmgateError as error:
                    log.warning("the network %s was not made anew: %s", network.name, error)

    def findings(
        self, definition: VmDefinition, policy: SecurityPolicy, others: Iterable[VmDefinition]
    ) -> Iterator[Finding]:
        """What stands for and against a VM's networks.

        Args:
            definition: of the VM.
            policy: the platform's.
            others: the other VMs of the host.

        Raises:
            VmgateError: what is offered, or what libvirt has, is not known.
        """
        if not definition.networks:
            return
        offered = self.offered()
        taken = {(use.name, use.address): other.name for other in others for use in other.networks if use.address}
        for use in definition.networks:
            network = offered.find(use.name)
            if network is None:
                yield make_finding(CHECK, use.name, "fail", "a network that this host offers", "none", "local")
                continue
            kinds = ", ".join(policy.networks) or "no network"
            outcome = "pass" if network.kind in policy.networks else "fail"
            yield make_finding("policy", f"network {use.name}", outcome, kinds, network.kind)
            yield from _address(use, network, taken.get((use.name, use.address), ""))
            yield from self._as_made(network, offered.seed)

    def _as_made(self, network: HostNetwork, seed: str) -> Iterator[Finding]:
        """Whether libvirt has a network and its filter as they were made, and nothing else is plugged in."""
        name = libvirt_name(network.name)
        found, filtered = self._libvirt.find(name), self._libvirt.find_filter(name)
        if found is None or not found.active or filtered is None:
            yield make_finding(CHECK, network.name, "fail", "there and active", "not in libvirt, or off", "local")
            return
        network_text = network_xml(network, seed)
        differences = [
            *network_differences(network_text, found.live),
            *network_differences(network_text, found.stored),
            *network_differences(filter_xml(network, seed), filtered),
        ]
        for difference in differences[:MAX_TOLD]:
            subject = f"{network.name} {difference.xpath}"
            yield make_finding(CHECK, subject, "fail", difference.expected, difference.found, "local")
        foreign = foreign_ports(self._ports(network.name))
        if foreign:
            found_ports = ", ".join(foreign[:MAX_TOLD])
            yield make_finding(CHECK, f"{network.name} ports", "fail", "VMs alone", found_ports, "local")
        if not differences and not foreign:
            yield make_finding(CHECK, network.name, "pass", "as it was made", "as it was made", "local")

    def _make(self, network: HostNetwork, seed: str) -> None:
        """Make it, and anew if nobody is plugged in."""
        name = libvirt_name(network.name)
        if not self._ports(network.name):
            self._libvirt.stop(name)
        self._libvirt.define(network_xml(network, seed), filter_xml(network, seed))
        self._libvirt.start(name)

    def _ports(self, name: str) -> tuple[str, ...]:
        """What is plugged into a network's bridge; nothing where there is no bridge."""
        try:
            return tuple(sorted(port.name for port in (self._devices / bridge_name(name) / "brif").iterdir()))
        except OSError:
            return ()


def _with(before: HostNetworks, untrusted: Mapping[str, Json]) -> HostNetworks:
    """The networks with one more."""
    try:
        network = HostNetwork.read(dict(untrusted))
        if before.find(network.name) is not None:
            raise NetworkThere(
                f"the network {network.name} was not made",
                cause="there is one of that name",
                remedy="delete it first, or take another name",
            )
        seed = before.seed if before.networks or before.seed != NONE.seed else secrets.token_hex(32)
        ordered = sorted((*before.networks, network), key=lambda one: one.name)
        return HostNetworks.parse(HostNetworks(seed=seed, networks=tuple(ordered)).encode())
    except DocumentError as error:
        raise NetworkWrong(
            "the network was not made", cause=error.cause, remedy="`vmgate explain AG150` says what it may be"
        ) from error


def _find(offered: HostNetworks, name: str) -> HostNetwork:
    network = offered.find(name)
    if network is None:
        raise NotFound(
            f"there is no network {name[:63]!r}", cause="this host offers none of that name", remedy="vmgate net list"
        )
    return network


def _address(use: NetworkUse, network: HostNetwork, owner: str) -> Iterator[Finding]:
    """Whether a VM's address there is its own, and the filter will know it."""
    what = f"address on {use.name}"
    if owner:
        yield make_finding(CHECK, what, "fail", "an address of its own", f"{use.address}, which {owner} has")
    elif use.address and not network.admits(use.address):
        yield make_finding(CHECK, what, "fail", f"a VM's address in {network.subnet}", use.address)
    elif not use.address and not network.dhcp:
        # Else libvirt would take the first address that the guest uses for the guest's own.
        kind = "a network without DHCP" if network.kind == NAT else "a network of peers"
        yield make_finding(CHECK, what, "fail", "an address in the definition", f"none, on {kind}")
