# SPDX-License-Identifier: Apache-2.0
"""Devices and media: one owner at a time, what is not there is refused, a PCI function only with its whole group.

There is no USB and no IOMMU on the machines that test this: hardware is a tree of files as the kernel would show it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lxml import etree

from agent import hardware
from agent.audit import AuditTrail, records
from agent.devices import Devices
from agent.errors import NotFound
from agent.paths import HostPaths
from agent.vm_errors import DeviceInUse, DeviceTaken, DeviceWrong
from content.measuring import Digester
from documents.canonical import Json
from documents.definition import Disk, VmDefinition
from documents.errors import DocumentError
from documents.host_devices import HostDevice
from documents.security_policy import SecurityPolicy
from hypervisor.compare import differences
from hypervisor.domain import Placement, render
from hypervisor.host_devices import DevicePlace, PciFound, UsbFound, find_usb, group_problems
from hypervisor.host_lint import lint_host
from hypervisor.lint import lint
from lab.audit_table import require_as_promised

STICK: dict[str, Json] = {"name": "stick", "kind": "usb", "vendor": "0951", "product": "1666", "serial": "A-1"}
CARD: dict[str, Json] = {"name": "card", "kind": "pci", "address": "0000:03:00.0"}
DISC: dict[str, Json] = {"name": "disc", "kind": "media"}
POLICY = SecurityPolicy(allow=(), max_vcpus=4, max_memory_mib=1024, devices=("media", "pci", "usb"))
VM = VmDefinition(
    name="desk",
    uuid="22222222-2222-4222-8222-222222222222",
    title="",
    machine="pc-q35-7.2",
    vcpus=1,
    memory_mib=256,
    disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
    guardians=("tpm",),
    devices=("card", "disc", "stick"),
)
VAULT = dataclasses.replace(VM, name="vault", uuid="33333333-3333-4333-8333-333333333333")


class Tree:
    """A made sysfs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def usb(self, place: str, **values: str) -> None:
        folder = self.root / "bus/usb/devices" / place
        folder.mkdir(parents=True)
        for name, value in values.items():
            (folder / name).write_text(f"{value}\n")

    def stick(self, place: str = "1-2", serial: str = "A-1", device: str = "4") -> None:
        self.usb(place, idVendor="0951", idProduct="1666", serial=serial, busnum="1", devnum=device, bDeviceClass="00")

    def pci(self, group: str, address: str, kind: str = "0x020000", driver: str = "vfio-pci") -> None:
        folder = self.root / "bus/pci/devices" / address
        folder.mkdir(parents=True)
        (folder / "class").write_text(f"{kind}\n")
        if driver:
            bound = self.root / "bus/pci/drivers" / driver
            bound.mkdir(parents=True, exist_ok=True)
            (folder / "driver").symlink_to(bound)
        if group:
            members = self.root / "kernel/iommu_groups" / group / "devices"
            members.mkdir(parents=True, exist_ok=True)
            (members / address).symlink_to(folder)
            (folder / "iommu_group").symlink_to(members.parent)

    def usb_devices(self) -> tuple[UsbFound, ...]:
        return hardware.usb_devices(self.root)

    def pci_group(self, address: str) -> tuple[PciFound, ...]:
        return hardware.pci_group(address, self.root)


class Place:
    """A host."""

    def __init__(self, folder: Path) -> None:
        self.paths = HostPaths(folder)
        self.paths.state.mkdir(parents=True)
        self.tree = Tree(folder / "sys")
        self.running: set[str] = set()
        trail = AuditTrail(self.paths.audit, lambda: 0, "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f")
        self.devices = Devices(self.paths, trail, self.tree, lambda vm: vm in self.running)
        self.image = folder / "disc.iso"
        self.image.write_bytes(b"CD001" * 1000)

    def add_all(self) -> None:
        self.tree.stick()
        self.tree.pci("7", "0000:03:00.0")
        self.devices.add(STICK, "", "uid 0")
        self.devices.add(CARD, "", "uid 0")
        self.devices.add(DISC, str(self.image), "uid 0")

    def events(self) -> list[tuple[str, str]]:
        trail = list(records(self.paths.audit))
        require_as_promised(trail)
        return [(record.event, record.outcome) for record in trail]

    def failed(self, vm: VmDefinition = VM, policy: SecurityPolicy = POLICY) -> list[tuple[str, str, str]]:
        found = self.devices.findings(vm, policy, Digester())
        return [(f.check, f.subject, f.found) for f in found if f.outcome != "pass"]

    def names(self, vm: VmDefinition = VM) -> list[str]:
        return [place.device.name for place in self.devices.places(vm)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.add_all()
    return made


def test_a_vm_has_what_it_names_and_was_given_and_nothing_else(place: Place) -> None:
    assert place.names() == []
    for name in ("disc", "stick"):
        place.devices.grant(name, "desk", "uid 0")
    assert place.names() == ["disc", "stick"]
    assert place.failed() == []
    assert place.names(dataclasses.replace(VM, devices=("disc",))) == ["disc"]
    assert place.names(dataclasses.replace(VM, devices=())) == []
    assert place.names(VAULT) == []
    shown = {device["name"]: device.get("owner") for device in cast("Any", place.devices.list())["devices"]}
    assert shown == {"card": None, "disc": "desk", "stick": "desk"}


def test_a_device_has_one_owner_and_is_ejected_before_another_gets_it(place: Place) -> None:
    place.devices.grant("stick", "desk", "uid 0")
    before, events = place.paths.devices.read_bytes(), place.events()
    for refused in (lambda: place.devices.grant("stick", "vault", "x"), lambda: place.devices.remove("stick", "x")):
        with pytest.raises(DeviceTaken):
            refused()
    place.running.add("desk")
    with pytest.raises(DeviceInUse):
        place.devices.eject("stick", "uid 0")
    assert (place.paths.devices.read_bytes(), place.events()) == (before, events)
    place.running.clear()
    place.devices.eject("stick", "uid 0")
    place.devices.eject("stick", "uid 0")
    place.running.add("vault")
    with pytest.raises(DeviceInUse):
        place.devices.grant("stick", "vault", "uid 0")
    place.running.clear()
    place.devices.grant("stick", "vault", "uid 0")
    assert (place.names(), place.names(VAULT)) == ([], ["stick"])
    place.devices.eject("stick", "uid 0")
    place.devices.remove("stick", "uid 0")
    with pytest.raises(NotFound):
        place.devices.show("stick")
    done = [event for event, outcome in place.events() if outcome == "done"]
    assert done[3:] == ["device-grant", "device-eject", "device-grant", "device-eject", "device-remove"]


@pytest.mark.parametrize(
    "untrusted",
    [
        STICK, {**STICK, "name": "again"}, {**CARD, "name": "again"}, {**STICK, "name": "x y"},
        {**STICK, "name": "other", "vendor": "951"}, {**STICK, "name": "other", "serial": "a b"},
        {**CARD, "name": "other", "address": "03:00.0"}, {**CARD, "name": "other", "address": "0000:03:40.0"},
        {**CARD, "name": "other", "vendor": "0951"}, {**DISC, "name": "other", "address": "0000:04:00.0"},
        {"name": "other", "kind": "mdev"},
    ],
)  # fmt: skip
def test_what_is_no_new_device_changes_nothing(place: Place, untrusted: dict[str, Json]) -> None:
    before, events = place.paths.devices.read_bytes(), place.events()
    with pytest.raises(DeviceWrong):
        place.devices.add(untrusted, str(place.image), "uid 0")
    assert (place.paths.devices.read_bytes(), place.events()) == (before, events)


def test_whoever_names_a_device_does_not_give_it_away_at_once(place: Place) -> None:
    place.devices.add({**DISC, "name": "second", "owner": "desk"}, str(place.image), "uid 0")
    found = place.devices.named().find("second")
    assert found is not None
    assert found.owner == ""
    with pytest.raises(DeviceWrong):
        place.devices.add({**DISC, "name": "third"}, "relative.iso", "uid 0")


def test_the_policy_must_name_the_kind(place: Place) -> None:
    place.devices.grant("disc", "desk", "uid 0")
    assert place.failed(VM, dataclasses.replace(POLICY, devices=())) == [("policy", "device disc", "media")]
    assert place.failed(VM, dataclasses.replace(POLICY, devices=("usb",))) == [("policy", "device disc", "media")]


def test_a_medium_that_was_changed_or_lost_is_refused(place: Place) -> None:
    place.devices.grant("disc", "desk", "uid 0")
    (disc,) = place.devices.places(VM)
    assert disc.medium is not None
    content = disc.medium.read_bytes()
    disc.medium.unlink()
    assert [check for check, _, _ in place.failed()] == ["device"]
    disc.medium.write_bytes(content[:-1] + b"x")
    assert [check for check, _, _ in place.failed()] == ["device"]


def test_a_damaged_file_gives_nobody_anything(place: Place) -> None:
    place.devices.grant("disc", "desk", "uid 0")
    place.paths.devices.write_bytes(b"damaged")
    assert place.devices.places(VM) == ()
    with pytest.raises(DocumentError):
        place.failed()


def test_a_usb_device_is_found_where_it_is_now_and_none_else_is_taken_for_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.devices.add(STICK, "", "uid 0")
    place.devices.grant("stick", "desk", "uid 0")
    assert [found for _, _, found in place.failed()] == ["none that fits is plugged in, or more than one"]
    place.tree.stick("1-1", serial="B-2", device="3")
    assert place.failed() != [], "another of its make"
    place.tree.usb("1-1:1.0", bInterfaceClass="08")
    place.tree.usb("usb1", idVendor="1d6b", idProduct="0002", busnum="1", devnum="1", bDeviceClass="09")
    place.tree.stick("1-2", device="4")
    assert place.failed() == []
    assert [one.usb for one in place.devices.places(VM)] == [(1, 4)]
    place.tree.stick("1-3", device="5")
    assert place.failed() != [], "two that say the same number"


@pytest.mark.parametrize("value", ["", "x", "0951 ", "09510", "\xff", "0" * 5000])
def test_what_a_usb_device_says_of_itself_is_not_believed_beyond_its_form(tmp_path: Path, value: str) -> None:
    tree = Tree(tmp_path)
    tree.usb("1-1", idVendor=value, idProduct="1666", busnum="1", devnum="3", serial="$(id)")
    tree.usb("1-2", idVendor="0951", idProduct="1666", busnum="1", devnum="4", serial=f"{value} ;")
    assert [device.serial for device in tree.usb_devices() if device.device == 4] == [""]
    assert len(tree.usb_devices()) == (2 if value.strip() == "0951" else 1)


def test_a_hub_is_never_handed_out() -> None:
    hub = UsbFound(vendor="1d6b", product="0002", serial="", bus=1, device=1, hub=True)
    wanted = HostDevice(name="hub", kind="usb", vendor="1d6b", product="0002")
    assert find_usb([hub], wanted) is None
    assert find_usb([dataclasses.replace(hub, hub=False)], wanted) is not None


GROUPS = {
    "alone": ([("0000:03:00.0", "0x020000", "vfio-pci")], []),
    "alone, still the host's": ([("0000:03:00.0", "0x020000", "e1000e")], []),
    "below a bridge": ([("0000:03:00.0", "0x020000", ""), ("0000:00:1c.0", "0x060400", "pcieport")], []),
    "beside nobody's": ([("0000:03:00.0", "0x020000", ""), ("0000:03:00.1", "0x040300", "")], []),
    "beside the host's": (
        [("0000:03:00.0", "0x020000", ""), ("0000:03:00.1", "0x040300", "snd_hda_intel")],
        ["0000:03:00.1 of the same IOMMU group is used by snd_hda_intel"],
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_pci_function_goes_with_its_whole_iommu_group(tmp_path: Path, name: str) -> None:
    functions, problems = GROUPS[name]
    place = Place(tmp_path)
    for address, kind, driver in functions:
        place.tree.pci("7", address, kind, driver)
    place.tree.pci("8", "0000:05:00.0", driver="nvme")
    place.devices.add(CARD, "", "uid 0")
    place.devices.grant("card", "desk", "uid 0")
    assert [found for _, _, found in place.failed()] == problems


def test_the_other_function_may_be_the_same_vms_and_not_another_ones(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.tree.pci("7", "0000:03:00.0")
    place.tree.pci("7", "0000:03:00.1")
    place.devices.add(CARD, "", "uid 0")
    place.devices.add({**CARD, "name": "stick", "address": "0000:03:00.1"}, "", "uid 0")
    place.devices.grant("card", "desk", "uid 0")
    place.devices.grant("stick", "vault", "uid 0")
    assert [found for _, _, found in place.failed()] == ["0000:03:00.1 of the same IOMMU group is another VM's"]
    assert [found for _, _, found in place.failed(VAULT)] == ["0000:03:00.0 of the same IOMMU group is another VM's"]
    place.devices.eject("stick", "uid 0")
    place.devices.grant("stick", "desk", "uid 0")
    assert place.failed() == []


@pytest.mark.parametrize("group", ["", "absent", "without itself", "odd"])
def test_without_an_iommu_no_pci_function_is_handed_out(tmp_path: Path, group: str) -> None:
    place = Place(tmp_path)
    if group != "absent":
        place.tree.pci("" if group == "" else "7", "0000:03:00.0")
    members = tmp_path / "sys/kernel/iommu_groups/7/devices"
    if group == "without itself":
        (members / "0000:03:00.0").unlink()
    elif group == "odd":
        (members / "something").mkdir()
    place.devices.add(CARD, "", "uid 0")
    place.devices.grant("card", "desk", "uid 0")
    assert [found for _, _, found in place.failed()] == [group_problems((), (), ())[0]]


def placed(*places: DevicePlace) -> Placement:
    return Placement(
        emulator=Path("/usr/bin/qemu-system-x86_64"),
        firmware_code=Path("/c"),
        firmware_vars=Path("/v"),
        disks={"system": Path("/d")},
        console_log=Path("/l"),
        accelerator="kvm",
        vtpm_secret=VM.uuid,
        devices=places,
    )


def test_what_is_rendered_is_granted_and_never_denied(place: Place) -> None:
    for name in ("card", "disc", "stick"):
        place.devices.grant(name, "desk", "uid 0")
    places = place.devices.places(VM)
    xml = render(VM, placed(*places))
    found = {(finding.id, finding.level) for finding in lint(xml.encode())}
    assert found == {("HV028", "grant"), ("HV041", "grant"), ("HV042", "grant"), ("HV044", "grant")}
    domain = etree.fromstring(xml)
    drive = domain.find("devices/disk[@device='cdrom']")
    assert drive.find("readonly") is not None
    assert drive.find("source").get("file") == str(places[1].medium)
    usb, pci = (domain.find(f"devices/hostdev[@type='{kind}']/source/address") for kind in ("usb", "pci"))
    assert dict(usb.attrib) == {"bus": "1", "device": "4"}
    assert dict(pci.attrib) == {"domain": "0x0000", "bus": "0x03", "slot": "0x00", "function": "0x0"}
    assert lint(render(VM, placed()).encode()) == ()
    # Given to nobody, it is in no domain; and a domain that has it all the same is named.
    plain = render(VM, placed())
    assert {"hostdev", "disk"} <= {d.xpath.split("/")[-1].split("[")[0] for d in differences(plain, xml.encode())}
    other = xml.replace(VM.uuid, VAULT.uuid).replace(">desk<", ">vault<")
    assert {"HV041", "HV042"} <= {one.finding.id for one in lint_host({"a": xml.encode(), "b": other.encode()})}


def test_libvirts_own_address_for_a_usb_device_is_no_difference(place: Place) -> None:
    place.devices.grant("stick", "desk", "uid 0")
    xml = render(VM, placed(*place.devices.places(VM)))
    live = xml.replace("</hostdev>", "<alias name='hostdev0'/><address type='usb' bus='0' port='1'/></hostdev>")
    assert differences(xml, live.encode()) == ()
    assert differences(xml, live.replace('device="4"', 'device="5"').encode()) != ()


def test_a_device_that_went_away_makes_no_wrong_domain(place: Place) -> None:
    gone = SimpleNamespace(usb_devices=tuple, pci_group=lambda _: ())
    place.devices.grant("stick", "desk", "uid 0")
    place.devices._hardware = cast("Any", gone)
    (found,) = place.devices.places(VM)
    assert found.usb is None
    assert etree.fromstring(render(VM, placed(found))).find("devices/hostdev/source/address").get("bus") == "0"
