# SPDX-License-Identifier: Apache-2.0
"""Whom a guest can reach: shown in guests, on real libvirt, bridges and filters, in a network namespace of the test's.

One story in the order of the evaluator's five steps (FDP_VMS_EXT.1): neither VM has a network; one has; both have; one
has not any more. While both have, every frame that a guest should not be able to send, or to hear, is tried.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from lxml import etree

from agent.audit import AuditTrail
from agent.networks import Networks
from agent.paths import HostPaths
from documents.attachments import NetworkUse
from documents.definition import Disk, VmDefinition
from documents.security_policy import SecurityPolicy
from hypervisor.compare import differences
from hypervisor.domain import ENTROPY_BYTES, Placement, render
from hypervisor.libvirt import Hypervisor
from hypervisor.lint import lint
from hypervisor.networks import bridge_name, libvirt_name
from lab import frames as f
from lab import guest_image, guest_shell
from lab.frames import Ear
from lab.guest_shell import Shell
from lab.libvirt_host import LibvirtHost, running
from lab.own_network import WORLD, ip, own_network

pytestmark = pytest.mark.timeout(240)

LOADER = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
# A busy machine gives an emulated timer its ticks too late for the kernel's taste.
COMMAND_LINE = f"{guest_image.COMMAND_LINE} no_timer_check"
POLICY = SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=256, networks=("nat", "peers"))
GATEWAY = "10.77.0.1"
ANN = (NetworkUse(name="lan", address="10.1.0.2"), NetworkUse(name="out", address="10.77.0.2"))
BEN = (
    NetworkUse(name="lan", address="10.1.0.3"),
    NetworkUse(name="out", address="10.77.0.3"),
    NetworkUse(name="other", address="10.2.0.3"),
)


@dataclass(kw_only=True)
class Place:
    """A host with networks, and what its VMs are made of."""

    folder: Path
    host: LibvirtHost
    hypervisor: Hypervisor
    networks: Networks
    boot: tuple[Path, Path]

    def vm(self, name: str, number: int, uses: tuple[NetworkUse, ...]) -> VmDefinition:
        return VmDefinition(
            name=name,
            uuid=f"22222222-2222-4222-8222-{number:012d}",
            title="",
            machine="pc-q35-7.2",
            vcpus=1,
            memory_mib=256,
            disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
            guardians=("tpm",),
            networks=uses,
        )

    def start(self, definition: VmDefinition) -> None:
        """As the agent does, but for the gate: it is judged here that it would let the networks pass."""
        name = definition.name
        xml = render(definition, self.placement(definition))
        assert [one for one in self.networks.findings(definition, POLICY, ()) if one.outcome != "pass"] == []
        self.hypervisor.define(xml)
        assert differences(xml, self.hypervisor.xml(name)) == ()
        assert [one.id for one in lint(self.hypervisor.xml(name)) if one.level == "deny"] == ["HV001"]
        # It runs without firmware, TPM and disk, which only take time here; all else is what was rendered.
        bare = self._bare(xml)
        self.hypervisor.define(bare)
        self.hypervisor.start(name)
        assert differences(bare, self.hypervisor.xml(name, live=True)) == ()

    def placement(self, definition: VmDefinition) -> Placement:
        folder = self.folder / "vms" / definition.name
        folder.mkdir(parents=True, exist_ok=True)
        return Placement(
            emulator=Path("/usr/bin/qemu-system-x86_64"),
            firmware_code=LOADER,
            firmware_vars=folder / "vars.fd",
            disks={"system": self.folder / "disk.img"},
            console_log=folder / "console.log",
            accelerator="emulation",
            vtpm_secret=definition.uuid,
            networks=self.networks.places(definition),
        )

    def _bare(self, xml: str) -> str:
        domain = etree.fromstring(xml)
        system = domain.find("os")
        for gone in ("os/loader", "os/nvram", "devices/disk", "devices/tpm"):
            element = domain.find(gone)
            element.getparent().remove(element)
        for name, text in zip(("kernel", "initrd", "cmdline"), (*self.boot, COMMAND_LINE), strict=True):
            etree.SubElement(system, name).text = str(text)
        etree.SubElement(system, "boot", dev="hd")  # as libvirt adds it where no disk says that it is booted
        return etree.tostring(domain, encoding="unicode")

    def shell(self, name: str) -> Shell:
        return Shell.of(self.host, name, self.folder / "vms" / name / "console.log")

    def restart(self, definition: VmDefinition) -> None:
        self.hypervisor.kill(definition.name)
        self.start(definition)

    def mac(self, definition: VmDefinition, network: str) -> str:
        return self.networks.places(definition)[network].mac


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="vmgate-isolation-"))
    folder.chmod(0o755)
    kernel = guest_image.cached_kernel()
    boot = guest_image.bare(folder / "image", kernel_deb=kernel, contents=guest_shell.contents(folder))
    try:
        with own_network(), running(folder / "libvirt") as host:
            # libvirt keeps a file there for each network with addresses; the package makes the folder.
            Path("/var/lib/libvirt/dnsmasq").mkdir()
            hypervisor = Hypervisor.open()
            paths = HostPaths(folder / "root")
            paths.state.mkdir(parents=True)
            trail = AuditTrail(paths.audit, lambda: 0, "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f")
            networks = Networks(paths, trail, hypervisor.networks)
            networks.create({"name": "lan", "kind": "peers"}, "test")
            networks.create({"name": "other", "kind": "peers"}, "test")
            networks.create({"name": "out", "kind": "nat", "subnet": "10.77.0.0/24", "dhcp": False}, "test")
            yield Place(folder=folder, host=host, hypervisor=hypervisor, networks=networks, boot=boot)
    finally:
        shutil.rmtree(folder)


def up(shell: Shell, *cards: tuple[str, str]) -> None:
    """Give a guest's cards their addresses; a guest could give them any."""
    for number, (address, gateway) in enumerate(cards):
        shell.output(f"ifconfig eth{number} {address} netmask 255.255.255.0 up")
        if gateway:
            shell.output(f"route add default gw {gateway}")


def reaches(shell: Shell, address: str) -> bool:
    return shell.run(f"ping -c 1 -W 2 {address}")[0] == 0


def cards(shell: Shell) -> list[str]:
    return sorted(set(shell.output("ls /sys/class/net").split()) - {"lo"})


def test_who_reaches_whom(place: Place) -> None:
    """Off and off, on and off, on and on, and off again."""
    ann, ben = place.vm("ann", 1, ANN), place.vm("ben", 2, BEN)
    # Neither has a network: there is no card to talk through.
    without = [replace(one, networks=()) for one in (ann, ben)]
    for one in without:
        place.start(one)
    shells = [place.shell(one.name) for one in without]
    assert [cards(shell) for shell in shells] == [[], []]
    # One has.
    place.restart(ann)
    first = place.shell("ann")
    assert len(cards(first)) == 2
    up(first, ("10.1.0.2", ""), ("10.77.0.2", GATEWAY))
    assert not reaches(first, "10.1.0.3")
    assert reaches(first, WORLD)
    # Both have.
    place.restart(ben)
    second = place.shell("ben")
    up(second, ("10.1.0.3", ""), ("10.77.0.3", GATEWAY), ("10.2.0.3", ""))
    assert reaches(first, "10.1.0.3")
    assert reaches(second, "10.1.0.2")
    assert reaches(second, WORLD)
    # By the way out they do not reach each other, nor the host, even with each other's hardware address.
    assert not reaches(first, "10.77.0.3")
    assert not reaches(first, GATEWAY)
    _attack(place, (ann, ben), (first, second))
    _draw(first, second)
    # One has not any more.
    place.restart(without[1])
    assert cards(place.shell("ben")) == []
    assert not reaches(first, "10.1.0.3")
    for name in ("ann", "ben"):
        place.hypervisor.kill(name)


def _attack(place: Place, vms: tuple[VmDefinition, VmDefinition], shells: tuple[Shell, Shell]) -> None:
    """The first guest sends what it should not; the second listens at all its cards, and the host at all bridges."""
    (ann, ben), (first, second) = vms, shells
    for card in ("eth0", "eth1", "eth2"):
        second.hear(card)
    ears = {name: Ear(bridge_name(name)) for name in ("lan", "out", "other")} | {"world": Ear("outside")}
    lan = _forged(place.mac(ann, "lan"), "10.1.0.2", place.mac(ben, "lan"), "10.1.0.3", b"lan")
    out = _forged(place.mac(ann, "out"), "10.77.0.2", place.mac(ben, "out"), "10.77.0.3", b"out")
    bridge = Path("/sys/class/net", bridge_name("out"), "address").read_text().strip()
    me = place.mac(ann, "out")
    # To the host's bridge, which routes: back into the same network, to the host itself, and to another network.
    out |= {
        name: f.ethernet(bridge, me, f.IPV4, f.ipv4("10.77.0.2", to, b"out:" + name.encode()))
        for name, to in {"routed-back": "10.77.0.3", "to-the-host": GATEWAY, "to-the-other": "10.2.0.3"}.items()
    }
    first.send("eth0", *lan.values())
    first.send("eth1", *out.values())
    # What may pass goes last, so that all that passed has come when it does.
    mine, theirs = place.mac(ann, "lan"), place.mac(ben, "lan")
    first.send(
        "eth0",
        f.ethernet(f.BROADCAST, mine, f.ARP, f.arp(1, mine, "10.1.0.2", "10.1.0.3", b"lan:asks")),
        f.ethernet(f.BROADCAST, mine, f.IPV4, f.ipv4("10.1.0.2", "10.1.0.255", b"lan:to-all")),
        f.ethernet(theirs, mine, f.IPV4, f.ipv4("10.1.0.2", "10.1.0.3", b"lan:to-one")),
    )
    second.wait_for("eth0", b"lan:to-one")
    # The other cards are alive: what the host sends there is heard, and it was sent last.
    first.send("eth1", f.ethernet(bridge, me, f.IPV4, f.ipv4("10.77.0.2", WORLD, b"out:to-world")))
    assert reaches(first, WORLD)
    assert reaches(second, WORLD)
    heard = {card: second.heard(card) for card in ("eth0", "eth1", "eth2")}
    on_lan = {name for name in (*lan, "asks", "to-all", "to-one") if b"lan:" + name.encode() in heard["eth0"]}
    assert on_lan == {"asks", "to-all", "to-one"}
    for card in ("eth1", "eth2"):
        assert b"lan:" not in heard[card]
    assert not [name for name in out if any(b"out:" + name.encode() in each for each in heard.values())]
    # On the host: what was forged did not even reach the bridge; a peer's odd addressee is stopped at the other VM.
    seen = {name: ear.heard() for name, ear in ears.items()}
    assert {name for name in lan if b"lan:" + name.encode() in seen["lan"]} <= {"unknown-unicast", "multicast"}
    there = {name: {one for one in out if b"out:" + one.encode() in each} for name, each in seen.items()}
    # A network of peers is nowhere that the host routes to: what is for it ends at the host.
    assert there == {"lan": set(), "out": {"to-the-other"}, "other": set(), "world": set()}
    assert b"out:to-world" in seen["world"]
    assert b"lan:" not in seen["out"] + seen["other"] + seen["world"]
    for ear in ears.values():
        ear.close()


def _draw(*shells: Shell) -> None:
    """Entropy comes, is each guest's own, never comes twice, and only so fast."""
    began = time.monotonic()
    for shell in shells:
        shell.output("dd if=/dev/hwrng of=/drawn bs=32 2>/dev/null & reader=$!; sleep 4; kill $reader")
    drawn = [bytes.fromhex("".join(shell.output("head -c 64 /drawn | od -An -v -tx1").split())) for shell in shells]
    counts = [int(shell.output("wc -c </drawn")) for shell in shells]
    # Each had at most what its rate lets through in all that time, the moment before it included.
    most = ENTROPY_BYTES * (time.monotonic() - began + 2)
    assert all(64 <= count <= most for count in counts), (counts, most)
    pieces = [whole[at : at + 16] for whole in drawn for at in range(0, 64, 16)]
    assert len(set(pieces)) == len(pieces) == 4 * len(shells)


def _forged(me: str, address: str, victim: str, its: str, where: bytes) -> dict[str, bytes]:
    """What a guest should not be able to send, or another to hear, each with its name in it."""

    def mark(name: str) -> bytes:
        return where + b":" + name.encode()

    def ip4(name: str, source: str = address, to: str = its) -> bytes:
        return f.ipv4(source, to, mark(name))

    return {
        "unknown-unicast": f.ethernet(f.UNKNOWN, me, f.IPV4, ip4("unknown-unicast")),
        "multicast": f.ethernet("01:00:5e:00:00:fb", me, f.IPV4, ip4("multicast", to="224.0.0.251")),
        "unknown-mac": f.ethernet(f.BROADCAST, f.UNKNOWN, f.IPV4, ip4("unknown-mac")),
        "victims-mac": f.ethernet(f.BROADCAST, victim, f.IPV4, ip4("victims-mac")),
        "victims-ip": f.ethernet(victim, me, f.IPV4, ip4("victims-ip", source="10.1.0.9")),
        "no-ip": f.ethernet(victim, me, f.IPV4, ip4("no-ip", source="0.0.0.0")),
        "vlan": f.ethernet(victim, me, f.VLAN, f.tagged(7, f.IPV4, ip4("vlan"))),
        "priority-tag": f.ethernet(victim, me, f.VLAN, f.tagged(0, f.IPV4, ip4("priority-tag"))),
        "two-vlans": f.ethernet(victim, me, f.SERVICE_VLAN, f.tagged(7, f.VLAN, f.tagged(8, f.IPV4, ip4("two-vlans")))),
        "arp-of-victim": f.ethernet(f.BROADCAST, me, f.ARP, f.arp(2, me, its, its, mark("arp-of-victim"))),
        "arp-mac": f.ethernet(f.BROADCAST, me, f.ARP, f.arp(2, victim, address, its, mark("arp-mac"))),
        "arp-from": f.ethernet(f.BROADCAST, victim, f.ARP, f.arp(2, victim, its, its, mark("arp-from"))),
        "advertisement": f.ethernet("33:33:00:00:00:01", me, f.IPV6, f.router_advertisement(mark("advertisement"))),
        "ipv6": f.ethernet(victim, me, f.IPV6, f.router_advertisement(mark("ipv6"))),
        "spanning-tree": f.ethernet("01:80:c2:00:00:00", me, 0x0026, b"\x42\x42\x03" + mark("spanning-tree")),
        "neighbours": f.ethernet("01:80:c2:00:00:0e", me, 0x88CC, mark("neighbours")),
        "another-kind": f.ethernet(f.BROADCAST, me, 0x9000, mark("another-kind")),
    }


def test_libvirt_takes_the_caps_as_they_are_rendered(place: Place) -> None:
    """They are for KVM and need control groups, which this libvirt has not: it is asked to read them, and no more."""
    vm = place.vm("ann", 1, ())
    plain = place.placement(vm)
    domain = etree.fromstring(render(vm, plain))
    kvm = etree.fromstring(render(vm, replace(plain, accelerator="kvm")))
    for name in ("memtune", "cputune"):
        domain.append(kvm.find(name))
    xml = etree.tostring(domain, encoding="unicode")
    place.hypervisor.define(xml)
    assert differences(xml, place.hypervisor.xml("ann")) == ()


@pytest.mark.parametrize("edit", ["network", "filter", "port", "off"])
def test_a_network_that_somebody_edited_is_seen_and_made_anew(place: Place, edit: str) -> None:
    vm = place.vm("ann", 1, ANN[:1])

    def failed() -> list[str]:
        return [one.subject for one in place.networks.findings(vm, POLICY, ()) if one.outcome == "fail"]

    assert failed() == []
    name, edited = libvirt_name("lan"), place.folder / "edited.xml"
    virsh = place.host.virsh
    if edit == "network":
        text = virsh("net-dumpxml", name).stdout
        edited.write_text(text.replace("</network>", "<ip address='10.1.0.1' netmask='255.255.255.0'/></network>"))
        virsh("net-define", str(edited))
    elif edit == "filter":
        edited.write_text(virsh("nwfilter-dumpxml", name).stdout.replace("action='drop'", "action='accept'"))
        virsh("nwfilter-define", str(edited))
    elif edit == "port":
        ip("link", "add", "bypass", "type", "veth", "peer", "name", "bypass-end")
        ip("link", "set", "bypass", "master", bridge_name("lan"))
    else:
        virsh("net-destroy", name)
    assert failed() != []
    place.networks.restore(["lan"])
    if edit == "port":
        # Root plugged it in, and has to take it out: nothing of it is the agent's to remove.
        assert failed() == ["lan ports"]
        ip("link", "delete", "bypass")
    assert failed() == []
    assert list(Path(f"/sys/class/net/{bridge_name('lan')}/brif").iterdir()) == []
