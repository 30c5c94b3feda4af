# SPDX-License-Identifier: Apache-2.0
"""Host devices and media as a VM's domain XML has them, and what may be handed out at all. Pure.

What is plugged in comes as values (``agent.hardware`` reads it). Who gets what is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from documents.host_devices import MEDIA, USB, HostDevice

BRIDGES = ("0604", "0600")
"""Classes of PCI bridges (PCI Code and ID Assignment), which are in a group for those behind them and do nothing."""
VFIO = "vfio-pci"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbFound:
    """A USB device that is plugged in.

    Attributes:
        vendor, product: four hexadecimal digits.
        serial: empty where it has none.
        bus, device: its present place.
        hub: whether others are plugged into it.
    """

    vendor: str
    product: str
    serial: str
    bus: int
    device: int
    hub: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PciFound:
    """A PCI function.

    Attributes:
        address: such as ``0000:03:00.0``.
        kind: the first four digits of its class, such as ``0200``.
        driver: that it is bound to; empty for none.
    """

    address: str
    kind: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlace:
    """A device that a VM has, where it is now.

    Attributes:
        device: as it was named.
        medium: path of the image, of media.
        usb: bus and device number, of USB; None where it is not plugged in, or more than one fits.
    """

    device: HostDevice
    medium: Path | None = None
    usb: tuple[int, int] | None = None


def find_usb(found: Iterable[UsbFound], wanted: HostDevice) -> UsbFound | None:
    """The one device that fits; None where none does, or more than one: another of its make is not it."""
    fits = [
        device
        for device in found
        if (device.vendor, device.product) == (wanted.vendor, wanted.product)
        and (not wanted.serial or device.serial == wanted.serial)
        and not device.hub
    ]
    return fits[0] if len(fits) == 1 else None


def group_problems(group: Sequence[PciFound], given: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """Why a PCI function must not be handed out; empty where it may.

    The IOMMU keeps groups apart, not the functions within one: each of a group must go to the same VM, be a bridge, or
    be nobody's.

    Args:
        group: all functions of its IOMMU group, itself among them; empty where there is no group.
        given: addresses of the functions that the same VM has.
        others: of those that other VMs have.
    """
    if not group:
        return ("no IOMMU group: the IOMMU is off, or the device is not there",)
    own, taken = set(given), set(others)
    problems = []
    for function in group:
        if function.address in own or function.kind in BRIDGES:
            continue
        if function.address in taken:
            problems.append(f"{function.address} of the same IOMMU group is another VM's")
        elif function.driver not in ("", VFIO):
            problems.append(f"{function.address} of the same IOMMU group is used by {function.driver}")
    return tuple(problems)


def controllers(places: Sequence[DevicePlace]) -> list[etree._Element]:
    """The controllers that a VM's devices need; without USB devices there is no USB."""
    model = "qemu-xhci" if any(place.device.kind == USB for place in places) else "none"
    made = [etree.Element("controller", type="usb", index="0", model=model)]
    if any(place.device.kind == MEDIA for place in places):
        made.append(etree.Element("controller", type="scsi", index="0", model="virtio-scsi"))
    return made


def elements(places: Sequence[DevicePlace]) -> list[etree._Element]:
    """The devices (libvirt, formatdomain), in their order; one that is not there makes an element that no host has."""
    media = [place for place in places if place.device.kind == MEDIA]
    drives = [_drive(place, number) for number, place in enumerate(media)]
    return drives + [_host_device(place) for place in places if place.device.kind != MEDIA]


def _drive(place: DevicePlace, number: int) -> etree._Element:
    disk = etree.Element("disk", type="file", device="cdrom")
    etree.SubElement(disk, "driver", name="qemu", type="raw")
    source = etree.SubElement(disk, "source", file=str(place.medium))
    etree.SubElement(source, "seclabel", model="dac", relabel="no")
    etree.SubElement(disk, "target", dev=f"sd{'abcdefgh'[number]}", bus="scsi")
    etree.SubElement(disk, "readonly")
    return disk


def _host_device(place: DevicePlace) -> etree._Element:
    usb = place.device.kind == USB
    made = etree.Element("hostdev", mode="subsystem", type="usb" if usb else "pci", managed="yes")
    if usb:
        bus, device = place.usb or (0, 0)
        etree.SubElement(etree.SubElement(made, "source"), "address", bus=str(bus), device=str(device))
        return made
    domain, bus_text, rest = place.device.address.split(":")
    slot, function = rest.split(".")
    etree.SubElement(made, "driver", name="vfio")
    etree.SubElement(
        etree.SubElement(made, "source"), "address",
        domain=f"0x{domain}", bus=f"0x{bus_text}", slot=f"0x{slot}", function=f"0x{function}",
    )  # fmt: skip
    return made
