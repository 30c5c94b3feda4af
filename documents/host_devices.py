# SPDX-License-Identifier: Apache-2.0
"""Devices and media of a host that VMs may get, and which VM has which: each at most one.

This module does not know what is plugged into the host, and does not say whether a VM may have a device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from documents.attachments import NETWORK
from documents.canonical import Json
from documents.document import Document
from documents.fields import NAME, Fields
from documents.release import MAX_LENGTH

MEDIA, PCI, USB = "media", "pci", "usb"
DEVICE_KINDS = (MEDIA, PCI, USB)
"""``media``: an image that is only read. ``pci``: a function that the IOMMU holds. ``usb``: a device of the host."""

USB_ID = re.compile(r"[0-9a-f]{4}")
SERIAL = re.compile(r"[A-Za-z0-9._:-]+")
PCI_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
MAX_HOST_DEVICES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """One device or medium.

    Attributes:
        name: unique on the host.
        kind: one of ``DEVICE_KINDS``.
        owner: name of the VM that has it; empty for none.
        image, length: of media, its fs-verity digest and bytes; else empty and 0.
        vendor, product: of USB, four hexadecimal digits each; else empty.
        serial: of USB, the device's own; empty where it has none, or it does not matter.
        address: of PCI, such as ``0000:03:00.0``; else empty.
    """

    name: str
    kind: str
    owner: str = ""
    image: str = ""
    length: int = 0
    vendor: str = ""
    product: str = ""
    serial: str = ""
    address: str = ""

    @classmethod
    def read(cls, untrusted: Json) -> HostDevice:
        """Read one."""
        fields = Fields(untrusted, "host device")
        kind = fields.take_choice("kind", DEVICE_KINDS)
        device = cls(
            name=fields.take_text("name", NETWORK, 32),
            kind=kind,
            owner=fields.take_text("owner", NAME, 63) if fields.has("owner") else "",
            image=fields.take_digest("image") if kind == MEDIA else "",
            length=fields.take_int("length", 1, MAX_LENGTH) if kind == MEDIA else 0,
            vendor=fields.take_text("vendor", USB_ID, 4) if kind == USB else "",
            product=fields.take_text("product", USB_ID, 4) if kind == USB else "",
            serial=fields.take_text("serial", SERIAL, 64) if kind == USB and fields.has("serial") else "",
            address=fields.take_text("address", PCI_ADDRESS, 12) if kind == PCI else "",
        )
        fields.finish()
        return device

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        of_kind: dict[str, dict[str, Json]] = {
            MEDIA: {"image": self.image, "length": self.length},
            PCI: {"address": self.address},
            USB: {"vendor": self.vendor, "product": self.product, **({"serial": self.serial} if self.serial else {})},
        }
        owner: dict[str, Json] = {"owner": self.owner} if self.owner else {}
        return {"name": self.name, "kind": self.kind, **owner, **of_kind[self.kind]}

    @property
    def thing(self) -> tuple[str, ...]:
        """What it is, whatever it is called. One medium may be several: nobody writes it."""
        named = self.name if self.kind == MEDIA else ""
        return (self.kind, named, self.vendor, self.product, self.serial, self.address)

    def given_to(self, owner: str) -> HostDevice:
        """The same with another owner."""
        return replace(self, owner=owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevices(Document):
    """All devices of a host that were named.

    Attributes:
        devices: sorted by name.
    """

    TYPE: ClassVar[str] = "vmgate.host-devices"
    LIMIT: ClassVar[int] = 200_000

    devices: tuple[HostDevice, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        found = cls(devices=fields.take_list("devices", HostDevice.read, MAX_HOST_DEVICES))
        names = [device.name for device in found.devices]
        if names != sorted(set(names)):
            raise fields.wrong("devices", "is not sorted by name")
        # Under two names a device would have two owners.
        fields.require_distinct("devices", [device.thing for device in found.devices])
        return found

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"devices": [device.members() for device in self.devices]}

    def find(self, name: str) -> HostDevice | None:
        """The device of a name, or None."""
        return next((device for device in self.devices if device.name == name), None)
