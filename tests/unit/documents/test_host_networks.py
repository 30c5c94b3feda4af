# SPDX-License-Identifier: Apache-2.0
"""What a host may offer as a network, and what a definition may ask for."""

from __future__ import annotations

import pytest

from documents.attachments import NetworkUse, read_devices, read_networks
from documents.canonical import Json
from documents.errors import DocumentError
from documents.fields import Fields
from documents.host_networks import HostNetwork, HostNetworks

NAT: dict[str, Json] = {"name": "out", "kind": "nat", "subnet": "10.77.0.0/24", "dhcp": True}


def test_the_host_has_the_first_address() -> None:
    network = HostNetwork.read(NAT)
    assert network.gateway == "10.77.0.1"
    admitted = {"10.77.0.2": True, "10.77.0.254": True}
    refused = dict.fromkeys(("10.77.0.0", "10.77.0.1", "10.77.0.255", "10.78.0.2", "192.168.1.1"), False)
    assert {address: network.admits(address) for address in admitted | refused} == admitted | refused
    assert HostNetwork(name="lan", kind="peers").admits("10.1.0.1")


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": "Lan"}, {"name": "a" * 33}, {"name": "a_b"}, {"name": "../x"}, {"name": 7},
        {"kind": "bridge"}, {"kind": ""},
        {"subnet": "8.8.8.0/24"}, {"subnet": "10.0.0.0/8"}, {"subnet": "10.77.0.0/30"}, {"subnet": "10.77.0.1/24"},
        {"subnet": "10.77.0.0"}, {"subnet": "10.077.0.0/24"}, {"subnet": "300.1.1.0/24"}, {"subnet": "fd00::/64"},
        {"subnet": ""}, {"subnet": "169.254.0.0/16"}, {"subnet": "127.0.0.0/16"}, {"dhcp": "yes"},
        {"kind": "peers"}, {"isolated": False},
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused(change: dict[str, Json]) -> None:
    with pytest.raises(DocumentError):
        HostNetwork.read({**NAT, **change})


def test_networks_that_overlap_or_are_not_sorted_are_refused() -> None:
    def parsed(*networks: HostNetwork) -> HostNetworks:
        return HostNetworks.parse(HostNetworks(seed="ab" * 32, networks=networks).encode())

    wide = HostNetwork(name="a", kind="nat", subnet="10.77.0.0/16")
    narrow = HostNetwork(name="b", kind="nat", subnet="10.77.3.0/24")
    peers = HostNetwork(name="c", kind="peers")
    assert parsed(wide, peers).find("c") == peers
    assert parsed(wide).find("c") is None
    for wrong in ((wide, narrow), (peers, wide), (wide, wide)):
        with pytest.raises(DocumentError):
            parsed(*wrong)


@pytest.mark.parametrize(
    "untrusted",
    [
        [], None, ["lan"], [{"name": "lan"}, {"name": "lan"}], [{"name": "LAN"}], [{"name": "lan", "address": ""}],
        [{"name": "lan", "address": "224.0.0.1"}], [{"name": "lan", "address": "127.0.0.1"}],
        [{"name": "lan", "address": "0.0.0.0"}], [{"name": "lan", "address": "255.255.255.255"}],
        [{"name": "lan", "address": "10.1.0.256"}], [{"name": "lan", "address": "10.01.0.2"}],
        [{"name": "lan", "address": "$IP"}], [{"name": "lan", "mac": "02:00:00:00:00:01"}],
        [{"name": f"n{number}"} for number in range(9)],
    ],
)  # fmt: skip
def test_what_is_no_list_of_networks_is_refused(untrusted: Json) -> None:
    with pytest.raises(DocumentError):
        read_networks(Fields({"networks": untrusted}, "test"))


def test_absent_is_none_and_there_is_no_other_way_to_say_so() -> None:
    assert read_networks(Fields({}, "test")) == ()
    assert read_devices(Fields({}, "test")) == ()
    given: Json = [{"name": "lan", "address": "10.1.0.2"}, {"name": "out"}]
    assert read_networks(Fields({"networks": given}, "test")) == (
        NetworkUse(name="lan", address="10.1.0.2"), NetworkUse(name="out"),
    )  # fmt: skip
    for untrusted in ([], ["b", "a"], ["a", "a"], ["A"], [7], None):
        with pytest.raises(DocumentError):
            read_devices(Fields({"devices": untrusted}, "test"))
