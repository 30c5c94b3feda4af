# SPDX-License-Identifier: Apache-2.0
"""The host's networks: made with a record, compared at each start, refused where anything is not as it was made.

libvirt is a list of XML here; the same runs against libvirt and in guests in ``tests/integration/test_isolation.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from agent.audit import AuditTrail, records
from agent.errors import NotFound
from agent.networks import Networks
from agent.paths import HostPaths
from agent.vm_errors import NetworkInUse, NetworkThere, NetworkWrong
from documents.attachments import NetworkUse
from documents.canonical import Json
from documents.definition import Disk, VmDefinition
from documents.errors import DocumentError
from documents.host_networks import HostNetworks
from documents.security_policy import SecurityPolicy
from hypervisor.errors import HypervisorError
from hypervisor.libvirt.networks import FoundNetwork
from hypervisor.networks import bridge_name
from lab.audit_table import require_as_promised

NAT: dict[str, Json] = {"name": "out", "kind": "nat", "subnet": "10.77.0.0/24", "dhcp": True}
PEERS: dict[str, Json] = {"name": "lan", "kind": "peers"}
POLICY = SecurityPolicy(allow=(), max_vcpus=4, max_memory_mib=1024, networks=("nat", "peers"))
VM = VmDefinition(
    name="desk",
    uuid="22222222-2222-4222-8222-222222222222",
    title="",
    machine="pc-q35-7.2",
    vcpus=1,
    memory_mib=256,
    disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
    guardians=("tpm",),
    networks=(NetworkUse(name="lan", address="10.1.0.2"),),
)


class Shelf:
    """What libvirt has."""

    def __init__(self) -> None:
        self.networks: dict[str, tuple[str, bool]] = {}
        self.filters: dict[str, str] = {}
        self.broken = False

    def find(self, name: str) -> FoundNetwork | None:
        if name not in self.networks:
            return None
        text, active = self.networks[name]
        return FoundNetwork(active=active, stored=text.encode(), live=text.encode())

    def find_filter(self, name: str) -> bytes | None:
        return self.filters[name].encode() if name in self.filters else None

    def define(self, network_xml: str, filter_xml: str) -> None:
        if self.broken:
            raise HypervisorError("the network was not made", cause="no", remedy="look")
        name = network_xml.partition("<name>")[2].partition("<")[0]
        self.networks[name] = (network_xml, self.networks.get(name, ("", False))[1])
        self.filters[name] = filter_xml

    def start(self, name: str) -> None:
        self.networks[name] = (self.networks[name][0], True)

    def stop(self, name: str) -> None:
        if name in self.networks:
            self.networks[name] = (self.networks[name][0], False)

    def remove(self, name: str) -> None:
        self.networks.pop(name, None)
        self.filters.pop(name, None)


class Place:
    """A host."""

    def __init__(self, folder: Path) -> None:
        self.paths = HostPaths(folder)
        self.paths.state.mkdir(parents=True)
        self.sys = folder / "sys"
        self.shelf = Shelf()
        trail = AuditTrail(self.paths.audit, lambda: 0, "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f")
        self.networks = Networks(self.paths, trail, cast("Any", self.shelf), self.sys)

    def plug(self, name: str, port: str) -> Path:
        folder = self.sys / bridge_name(name) / "brif"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / port).touch()
        return folder / port

    def events(self) -> list[tuple[str, str]]:
        trail = list(records(self.paths.audit))
        require_as_promised(trail)
        return [(record.event, record.outcome) for record in trail]

    def failed(
        self, vm: VmDefinition = VM, policy: SecurityPolicy = POLICY, *others: VmDefinition
    ) -> list[tuple[str, str, str]]:
        found = self.networks.findings(vm, policy, others)
        return [(f.check, f.subject, f.found) for f in found if f.outcome != "pass"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def on(*uses: NetworkUse) -> VmDefinition:
    return replace(VM, networks=uses)


def test_a_network_is_made_shown_and_deleted_with_records(place: Place) -> None:
    place.networks.create(PEERS, "uid 0")
    place.networks.create(NAT, "uid 0")
    stored = HostNetworks.parse(place.paths.networks.read_bytes())
    assert [network.name for network in stored.networks] == ["lan", "out"]
    assert place.networks.list() == {"networks": [{**PEERS, "vms": 0}, {**NAT, "vms": 0}]}
    shown = cast("dict[str, Any]", place.networks.show("out"))
    assert [finding["outcome"] for finding in shown["findings"]] == ["pass"]
    assert place.failed() == []
    place.networks.delete("lan", "uid 0")
    assert place.failed() == [("network", "lan", "none")]
    assert set(place.shelf.networks) == set(place.shelf.filters) == {"vmgate-out"}
    both = ["started", "done"]
    assert place.events() == [
        *(("network-create", outcome) for outcome in both * 2), *(("network-delete", outcome) for outcome in both),
    ]  # fmt: skip


def test_addresses_stay_while_networks_come_and_go_and_are_another_hosts_on_no_other(
    place: Place, tmp_path: Path
) -> None:
    place.networks.create(PEERS, "uid 0")
    before = place.networks.places(VM)["lan"].mac
    place.networks.create(NAT, "uid 0")
    place.networks.delete("lan", "uid 0")
    place.networks.delete("out", "uid 0")
    place.networks.create(PEERS, "uid 0")
    assert place.networks.places(VM)["lan"].mac == before
    other = Place(tmp_path / "other")
    other.networks.create(PEERS, "uid 0")
    assert other.networks.places(VM)["lan"].mac != before


@pytest.mark.parametrize(
    ("untrusted", "error"),
    [
        (PEERS, NetworkThere),
        ({**PEERS, "name": "x/y"}, NetworkWrong),
        ({**PEERS, "name": "other", "subnet": "10.1.0.0/24"}, NetworkWrong),
        ({**NAT, "name": "inner", "subnet": "10.77.0.0/25"}, NetworkWrong),
        ({**NAT, "name": "wide", "subnet": "8.8.0.0/16"}, NetworkWrong),
    ],
)
def test_what_is_no_new_network_changes_nothing(
    place: Place, untrusted: dict[str, Json], error: type[Exception]
) -> None:
    place.networks.create(PEERS, "uid 0")
    place.networks.create(NAT, "uid 0")
    before, shelf, events = place.paths.networks.read_bytes(), dict(place.shelf.networks), place.events()
    with pytest.raises(error):
        place.networks.create(untrusted, "uid 0")
    assert (place.paths.networks.read_bytes(), place.shelf.networks, place.events()) == (before, shelf, events)


def test_a_network_that_libvirt_does_not_make_is_not_offered(place: Place) -> None:
    place.shelf.broken = True
    with pytest.raises(HypervisorError):
        place.networks.create(PEERS, "uid 0")
    assert not place.paths.networks.exists()
    assert place.events()[-1] == ("network-create", "failed")
    assert place.failed() == [("network", "lan", "none")]


def test_a_network_with_vms_on_it_is_not_deleted(place: Place) -> None:
    place.networks.create(PEERS, "uid 0")
    place.plug("lan", "vnet0")
    with pytest.raises(NetworkInUse):
        place.networks.delete("lan", "uid 0")
    assert place.failed() == []
    with pytest.raises(NotFound):
        place.networks.delete("wan", "uid 0")


def test_without_networks_nobody_is_asked(place: Place) -> None:
    place.paths.networks.write_bytes(b"damaged")
    plain = replace(VM, networks=())
    assert list(place.networks.findings(plain, POLICY, ())) == []
    assert place.networks.places(plain) == {}


def test_a_policy_that_does_not_name_the_kind_forbids_it(place: Place) -> None:
    place.networks.create(PEERS, "uid 0")
    absent = replace(POLICY, networks=())
    assert place.failed(VM, absent) == [("policy", "network lan", "peers")]
    assert place.failed(VM, replace(POLICY, networks=("nat",))) == [("policy", "network lan", "peers")]


def test_what_is_offered_must_be_known(place: Place) -> None:
    place.networks.create(PEERS, "uid 0")
    place.paths.networks.write_bytes(b"damaged")
    with pytest.raises(DocumentError):
        place.failed()
    assert place.networks.places(VM)["lan"].network is None, "so that the other VMs can still be planned"


@pytest.mark.parametrize("old", ["isolated='yes'", "mode='nat'", "10.77.0.1", "1024", "vmg"])
def test_an_edited_network_is_refused_until_it_is_made_anew(place: Place, old: str) -> None:
    vm = on(NetworkUse(name="out"))
    place.networks.create(NAT, "uid 0")
    assert place.failed(vm) == []
    text = place.shelf.networks["vmgate-out"][0].replace('"', "'")
    assert old in text
    place.shelf.networks["vmgate-out"] = (text.replace(old, old.replace(old[0], "x", 1)), True)
    failed = place.failed(vm)
    assert failed
    assert {check for check, _, _ in failed} == {"network"}
    # A VM is on it: making it anew would cut that one off.
    port = place.plug("out", "vnet3")
    place.shelf.broken = True
    place.networks.restore(["out"])
    place.shelf.broken = False
    assert place.failed(vm) == failed
    port.unlink()
    place.networks.restore(["lan"])
    assert place.failed(vm) == failed, "another's start does not make it anew"
    place.networks.restore(["out"])
    assert place.failed(vm) == []


def test_an_edited_filter_is_refused(place: Place) -> None:
    place.networks.create(PEERS, "uid 0")
    text = place.shelf.filters["vmgate-lan"]
    place.shelf.filters["vmgate-lan"] = text.replace('<rule action="drop"', '<rule action="accept"')
    ((check, subject, found),) = place.failed()
    assert (check, found) == ("network", "accept")
    assert subject.startswith("lan /filter/rule[")


@pytest.mark.parametrize("gone", ["network", "filter", "bridge"])
def test_a_network_that_is_not_there_or_off_is_refused(place: Place, gone: str) -> None:
    place.networks.create(PEERS, "uid 0")
    if gone == "network":
        place.shelf.networks.clear()
    elif gone == "filter":
        place.shelf.filters.clear()
    else:
        place.shelf.stop("vmgate-lan")
    assert place.failed() == [("network", "lan", "not in libvirt, or off")]
    place.networks.restore()
    assert place.failed() == []


def test_something_else_on_the_bridge_is_refused(place: Place) -> None:
    place.networks.create(PEERS, "uid 0")
    place.plug("lan", "vnet0")
    place.plug("lan", "eth0")
    assert place.failed() == [("network", "lan ports", "eth0")]


def test_each_vm_has_an_address_of_its_own_where_nobody_gives_it_one(place: Place) -> None:
    place.networks.create(PEERS, "uid 0")
    place.networks.create(NAT, "uid 0")
    place.networks.create({**NAT, "name": "plain", "subnet": "10.78.0.0/24", "dhcp": False}, "uid 0")
    other = replace(VM, name="vault", uuid="33333333-3333-4333-8333-333333333333")
    assert place.failed(VM, POLICY, other) == [("network", "address on lan", "10.1.0.2, which vault has")]
    assert place.failed(VM, POLICY, replace(other, networks=(NetworkUse(name="wan", address="10.1.0.2"),))) == []
    assert place.failed(on(NetworkUse(name="lan"))) == [("network", "address on lan", "none, on a network of peers")]
    assert place.failed(on(NetworkUse(name="plain"))) == [
        ("network", "address on plain", "none, on a network without DHCP")
    ]
    assert place.failed(on(NetworkUse(name="out", address="10.77.0.1"))) == [("network", "address on out", "10.77.0.1")]
    assert place.failed(on(NetworkUse(name="out"))) == []
    assert place.failed(on(NetworkUse(name="out", address="10.77.0.9"))) == []
