# SPDX-License-Identifier: Apache-2.0
"""What USB devices and PCI functions the kernel shows in sysfs. Read with bounds; this module judges nothing.

Names and values in sysfs come from devices, too: what is not in its form is taken for not there.
"""

from __future__ import annotations

from pathlib import Path

from documents.host_devices import PCI_ADDRESS, SERIAL, USB_ID
from hypervisor.host_devices import PciFound, UsbFound

SYS = Path("/sys")
MAX_VALUE = 256
"""Bytes of a value; longer ones are taken for not there."""
MAX_DEVICES = 4_096
HUB = "09"
"""Class of USB hubs."""


def usb_devices(sys: Path = SYS) -> tuple[UsbFound, ...]:
    """The USB devices that are plugged in, by bus and number (kernel: Documentation/ABI/testing/sysfs-bus-usb)."""
    found = []
    for folder in _listed(sys / "bus/usb/devices"):
        vendor, product = _value(folder / "idVendor"), _value(folder / "idProduct")
        bus, device = _number(folder / "busnum"), _number(folder / "devnum")
        if not USB_ID.fullmatch(vendor) or not USB_ID.fullmatch(product) or bus < 1 or device < 1:
            continue  # an interface of a device, or none that can be named
        serial = _value(folder / "serial")
        found.append(
            UsbFound(
                vendor=vendor,
                product=product,
                serial=serial if SERIAL.fullmatch(serial) else "",
                bus=bus,
                device=device,
                hub=_value(folder / "bDeviceClass") == HUB,
            )
        )
    return tuple(sorted(found, key=lambda one: (one.bus, one.device)))


def pci_group(address: str, sys: Path = SYS) -> tuple[PciFound, ...]:
    """All functions of the IOMMU group of a PCI function; empty where it has none.

    Args:
        address: in the form of ``PCI_ADDRESS``.
        sys: where sysfs is.
    """
    members = _listed(sys / "bus/pci/devices" / address / "iommu_group/devices")
    functions = [_function(folder) for folder in members if PCI_ADDRESS.fullmatch(folder.name)]
    if len(functions) != len(members) or address not in {function.address for function in functions}:
        return ()
    return tuple(sorted(functions, key=lambda one: one.address))


def _function(folder: Path) -> PciFound:
    kind = _value(folder / "class").removeprefix("0x")[:4]
    driver = folder / "driver"
    try:
        bound = driver.resolve(strict=True).name if driver.exists() else ""
    except OSError:
        bound = "unknown"
    return PciFound(address=folder.name, kind=kind, driver=bound)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:MAX_DEVICES]
    except OSError:
        return []


def _value(path: Path) -> str:
    try:
        with path.open("rb") as file:
            value = file.read(MAX_VALUE + 1)
    except OSError:
        return ""
    return value.decode("utf-8", "replace").strip() if len(value) <= MAX_VALUE else ""


def _number(path: Path) -> int:
    text = _value(path)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
