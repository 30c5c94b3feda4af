# SPDX-License-Identifier: Apache-2.0
"""Devices and media that VMs of this host may get: named by its administrator, and given to one VM at a time.

A VM gets what its definition names and the administrator gave it, at its next start. What it names and was not given it
does without: a drive that is not there. What it has must be of a kind that the signed policy allows and be there as it
was named; else the VM does not start. Nothing is plugged into a VM that runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from agent.audit import AuditTrail
from agent.errors import NotFound
from agent.findings import make_finding, told
from agent.paths import HostPaths
from agent.vm_errors import DeviceInUse, DeviceTaken, DeviceWrong
from content import durable
from content.errors import ContentError, Missing
from content.measuring import Digester
from content.store import ContentStore
from documents.canonical import Json
from documents.definition import VmDefinition
from documents.errors import DocumentError, VmgateError
from documents.host_devices import MEDIA, PCI, USB, HostDevice, HostDevices
from documents.security_policy import SecurityPolicy
from documents.verdict import Finding
from hypervisor.host_devices import DevicePlace, PciFound, UsbFound, find_usb, group_problems

CHECK = "device"
"""Of findings."""


class Hardware(Protocol):
    """What is plugged into the host (``agent.hardware``)."""

    def usb_devices(self) -> tuple[UsbFound, ...]:
        """The USB devices."""

    def pci_group(self, address: str) -> tuple[PciFound, ...]:
        """The IOMMU group of a PCI function."""


class Devices:
    """Of one host.

    Args:
        paths, audit: of this host.
        hardware: what is plugged in.
        runs: whether a VM runs.
    """

    def __init__(self, paths: HostPaths, audit: AuditTrail, hardware: Hardware, runs: Callable[[str], bool]) -> None:
        self._path = paths.devices
        self._media = ContentStore(paths.media)
        self._audit = audit
        self._hardware = hardware
        self._runs = runs
        self._lock = threading.Lock()

    def named(self) -> HostDevices:
        """All devices that were named.

        Raises:
            DocumentError: the file is malformed or of a newer vmgate.
            ContentError: it cannot be read.
        """
        try:
            return HostDevices.parse(durable.read_file(self._path, HostDevices.LIMIT))
        except Missing:
            return HostDevices(devices=())

    def list(self) -> dict[str, Json]:
        """All devices, each with whether it is there."""
        return {
            "devices": [{**device.members(), "there": self._missing(device) == ""} for device in self.named().devices]
        }

    def show(self, name: str) -> dict[str, Json]:
        """One device, and what is wrong with it."""
        device = _find(self.named(), name)
        return {"device": device.members(), "problem": self._missing(device)}

    def add(self, untrusted: Mapping[str, Json], medium: str, actor: str) -> dict[str, Json]:
        """Name a device, which then nobody has.

        Args:
            untrusted: members of a ``HostDevice``; of media without image and length.
            medium: path of the image file, for media; it is copied.
            actor: for the record.

        Raises:
            DeviceWrong: it is not in its form, or there already.
            ContentError: the image was not copied.
        """
        with self._lock:
            members = dict(untrusted)
            if members.get("kind") == MEDIA:
                if not Path(medium).is_absolute():
                    raise _wrong("the path of the image is not absolute")
                measured = self._media.add_file(Path(medium))
                members |= {"image": measured.fsverity, "length": measured.length}
            try:
                device = HostDevice.read(members)
                after = _checked(self.named(), device)
            except DocumentError as error:
                raise _wrong(error.cause) from error
            self._recorded("device-add", device, after, actor, kind=device.kind, what=_what(device))
            return {"device": device.members()}

    def remove(self, name: str, actor: str) -> dict[str, Json]:
        """Forget a device that nobody has.

        Raises:
            NotFound: there is none of that name.
            DeviceTaken: a VM has it.
        """
        with self._lock:
            before = self.named()
            device = _find(before, name)
            if device.owner:
                raise _taken(f"the device {name} was not removed", device)
            after = HostDevices(devices=tuple(other for other in before.devices if other != device))
            self._recorded("device-remove", device, after, actor, kind=device.kind, what=_what(device))
            return {"name": name}

    def grant(self, name: str, vm: str, actor: str) -> dict[str, Json]:
        """Give a device to a VM, from its next start on, if its definition names it.

        Raises:
            NotFound: there is none of that name.
            DeviceTaken: a VM has it; it must be ejected first.
            DeviceInUse: the VM runs.
        """
        with self._lock:
            before = self.named()
            device = _find(before, name)
            if device.owner:
                raise _taken(f"the device {name} was not granted", device)
            self._require_off(f"the device {name} was not granted", vm)
            self._recorded("device-grant", device, _owned(before, device, vm), actor, kind=device.kind, vm=vm)
            return {"name": name, "vm": vm}

    def eject(self, name: str, actor: str) -> dict[str, Json]:
        """Take a device back from the VM that has it. Nobody's already is fine.

        Raises:
            NotFound: there is none of that name.
            DeviceInUse: the VM runs.
        """
        with self._lock:
            before = self.named()
            device = _find(before, name)
            if device.owner:
                self._require_off(f"the device {name} was not ejected", device.owner)
                self._recorded(
                    "device-eject", device, _owned(before, device, ""), actor, kind=device.kind, vm=device.owner
                )
            return {"name": name}

    def places(self, definition: VmDefinition) -> tuple[DevicePlace, ...]:
        """The devices that a VM has, where they are now; none where that is not known: then the gate says no."""
        try:
            return tuple(self._place(device) for device in self._of(definition))
        except VmgateError:
            return ()

    def findings(self, definition: VmDefinition, policy: SecurityPolicy, digester: Digester) -> Iterator[Finding]:
        """What stands for and against a VM's devices.

        Raises:
            VmgateError: what was named is not known.
        """
        own = self._of(definition)
        addresses = [device.address for device in own if device.kind == PCI]
        others = [d.address for d in self.named().devices if d.kind == PCI and d.owner not in ("", definition.name)]
        for device in own:
            kinds = ", ".join(policy.devices) or "no device"
            outcome = "pass" if device.kind in policy.devices else "fail"
            yield make_finding("policy", f"device {device.name}", outcome, kinds, device.kind)
            if device.kind == MEDIA:
                yield self._medium(device, digester)
                continue
            problems = (
                group_problems(self._hardware.pci_group(device.address), addresses, others)
                if device.kind == PCI
                else tuple(filter(None, [self._missing(device)]))
            )
            for problem in problems[:10]:
                yield make_finding(CHECK, device.name, "fail", "there, and nobody else's", problem, "local")
            if not problems:
                yield make_finding(CHECK, device.name, "pass", "there, and nobody else's", _what(device), "local")

    def _of(self, definition: VmDefinition) -> tuple[HostDevice, ...]:
        """What a VM was given of what its definition names."""
        if not definition.devices:
            return ()
        named = set(definition.devices)
        return tuple(d for d in self.named().devices if d.owner == definition.name and d.name in named)

    def _place(self, device: HostDevice) -> DevicePlace:
        if device.kind == MEDIA:
            return DevicePlace(device=device, medium=self._media.path(device.image))
        found = find_usb(self._hardware.usb_devices(), device) if device.kind == USB else None
        return DevicePlace(device=device, usb=(found.bus, found.device) if found else None)

    def _medium(self, device: HostDevice, digester: Digester) -> Finding:
        expected = f"sha256:{device.image}"
        try:
            self._media.verify_for_use(device.image, device.length, digester)
        except ContentError as error:
            return make_finding(CHECK, device.name, "fail", expected, told(error), "local")
        return make_finding(CHECK, device.name, "pass", expected, expected, "local")

    def _missing(self, device: HostDevice) -> str:
        """Why a device is not there, as far as a look tells; empty where it is."""
        if device.kind == MEDIA:
            return "" if self._media.contains(device.image, device.length) else "the image is not there"
        if device.kind == PCI:
            return "" if self._hardware.pci_group(device.address) else "no IOMMU group, or no such device"
        if find_usb(self._hardware.usb_devices(), device):
            return ""
        return "none that fits is plugged in, or more than one"

    def _require_off(self, what: str, vm: str) -> None:
        if self._runs(vm):
            raise DeviceInUse(what, cause=f"{vm} runs", remedy=f"stop it first: `vmgate vm stop {vm}`")

    def _recorded(self, event: str, device: HostDevice, after: HostDevices, actor: str, **details: str) -> None:
        self._audit.append(event, "started", device.name, actor, **details)
        try:
            durable.write_file(self._path, after.encode())
        except VmgateError as error:
            self._audit.append(event, "failed", device.name, actor, code=error.code, cause=error.cause, **details)
            raise
        self._audit.append(event, "done", device.name, actor, **details)


def _checked(before: HostDevices, device: HostDevice) -> HostDevices:
    """The devices with one more.

    Raises:
        DocumentError: it is there already.
    """
    ordered = sorted((*before.devices, device.given_to("")), key=lambda one: one.name)
    return HostDevices.parse(HostDevices(devices=tuple(ordered)).encode())


def _owned(before: HostDevices, device: HostDevice, owner: str) -> HostDevices:
    changed = (one.given_to(owner) if one == device else one for one in before.devices)
    return HostDevices(devices=tuple(changed))


def _find(named: HostDevices, name: str) -> HostDevice:
    device = named.find(name)
    if device is None:
        raise NotFound(
            f"there is no device {name[:63]!r}", cause="nobody named one so", remedy="see `vmgate device list`"
        )
    return device


def _what(device: HostDevice) -> str:
    """What a device is, for the record."""
    if device.kind == MEDIA:
        return f"sha256:{device.image}"
    return device.address or ":".join(filter(None, (device.vendor, device.product, device.serial)))


def _wrong(cause: str) -> DeviceWrong:
    return DeviceWrong("the device was not named", cause=cause, remedy="`vmgate explain AG153` says what it may be")


def _taken(what: str, device: HostDevice) -> DeviceTaken:
    return DeviceTaken(what, cause=f"{device.owner} has it", remedy=f"`vmgate device eject {device.name}`")
