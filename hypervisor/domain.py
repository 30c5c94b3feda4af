# SPDX-License-Identifier: Apache-2.0
"""From a signed VM definition and the places on this host to libvirt's domain XML: the least that the VM needs.

What is not written here is absent: no display, no sound, no balloon, no shared memory, no USB where no device was
given, and no network that the definition does not name. Pure: it looks at no file. It does not judge
(``hypervisor.lint`` does) and it starts nothing (``hypervisor.libvirt`` does).
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from documents.definition import Disk, VmDefinition
from hypervisor.host_devices import DevicePlace, controllers, elements
from hypervisor.networks import NetworkPlace, interface

ACCELERATORS = ("kvm", "emulation")
ENTROPY_SOURCE = "/dev/urandom"
ENTROPY_PERIOD_MS = 1000
ENTROPY_BYTES = 1024
"""Most bytes of entropy that a guest gets in a period, so that no guest starves another."""
CPU_PERIOD_US = 100_000
CPU_SHARES = 1024
"""Each VM weighs the same when the processors are busy, however many it has."""
OVERHEAD_MIB = 1024
"""Memory of QEMU, swtpm and the kernel for one VM besides the guest's; a quarter of the guest's where that is more."""

DISK_BYTES_A_SECOND, DISK_REQUESTS_A_SECOND = 500_000_000, 20_000
"""What a guest gets at most of each disk that it writes, so that no guest takes the host's disk from the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the parts of one VM lie on this host.

    Attributes:
        emulator: the QEMU program.
        firmware_code: OVMF's code, built with SMM and Secure Boot.
        firmware_vars: this VM's own variables file.
        disks: the signed image file of each disk that has one, by name. QEMU's user must be able to read it.
        console_log: where virtlogd writes what the guest prints.
        accelerator: ``kvm``, or ``emulation`` (QEMU's TCG, no promise of isolation).
        vtpm_secret: UUID of the libvirt secret that encrypts the state of the VM's TPM.
        own_disks: the VM's own qcow2 file of each disk that the guest can write, by name.
        disk_secrets: UUID of the libvirt secret that encrypts a disk without image, by name.
        networks: the VM's place on each network of the definition, by name.
        devices: the devices and media that the VM has, where they are now.
        generation_id: what tells the guest that this is another start; empty for none.
    """

    emulator: Path
    firmware_code: Path
    firmware_vars: Path
    disks: Mapping[str, Path]
    console_log: Path
    accelerator: str
    vtpm_secret: str
    own_disks: Mapping[str, Path] = field(default_factory=dict)
    disk_secrets: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, NetworkPlace] = field(default_factory=dict)
    devices: tuple[DevicePlace, ...] = ()
    generation_id: str = ""


def render(definition: VmDefinition, placement: Placement) -> str:
    """The domain XML (libvirt, formatdomain).

    Raises:
        ValueError: unknown accelerator, a path that is not absolute, or not exactly the disks and networks of the
            definition.
    """
    _require_fitting(definition, placement)
    kvm = placement.accelerator == "kvm"
    domain = etree.Element("domain", type="kvm" if kvm else "qemu")
    _text(domain, "name", definition.name)
    _text(domain, "uuid", definition.uuid)
    if definition.title:
        _text(domain, "title", definition.title)
    if placement.generation_id:
        _text(domain, "genid", placement.generation_id)
    _text(domain, "memory", str(definition.memory_mib * 1024), unit="KiB", dumpCore="off")
    _text(domain, "currentMemory", str(definition.memory_mib * 1024), unit="KiB")
    _under(domain, "memoryBacking", "nosharepages")
    if kvm:
        _add_caps(domain, definition)
    _text(domain, "vcpu", str(definition.vcpus), placement="static")
    _add_firmware(domain, definition, placement)
    _add_features(domain)
    _add_processor(domain, kvm=kvm)
    # A reboot would start the guest again without passing the gate.
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        _text(domain, event, "destroy")
    power = _under(domain, "pm")
    _under(power, "suspend-to-mem", enabled="no")
    _under(power, "suspend-to-disk", enabled="no")
    _add_devices(domain, definition, placement)
    etree.indent(domain)
    return etree.tostring(domain, encoding="unicode") + "\n"


def _require_fitting(definition: VmDefinition, placement: Placement) -> None:
    if placement.accelerator not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {placement.accelerator!r}")
    written = {disk.name for disk in definition.disks if disk.disk_class != "readonly"}
    bare = {disk.name for disk in definition.disks if not disk.image}
    wanted = ({disk.name for disk in definition.based}, written, bare)
    if (set(placement.disks), set(placement.own_disks), set(placement.disk_secrets)) != wanted:
        raise ValueError("the placement has other disks than the definition")
    if set(placement.networks) != {network.name for network in definition.networks}:
        raise ValueError("the placement has other networks than the definition")
    paths = [placement.emulator, placement.firmware_code, placement.firmware_vars, placement.console_log]
    if not all(path.is_absolute() for path in [*paths, *placement.disks.values(), *placement.own_disks.values()]):
        raise ValueError("the placement has a path that is not absolute")


def _add_caps(domain: etree._Element, definition: VmDefinition) -> None:
    """What a hostile guest can take besides its processors and memory: control groups hold them to it.

    Not in emulation, which promises no isolation and runs where there are no control groups.
    """
    most = definition.memory_mib + max(OVERHEAD_MIB, definition.memory_mib // 4)
    _text(_under(domain, "memtune"), "hard_limit", str(most * 1024), unit="KiB")
    tuning = _under(domain, "cputune")
    _text(tuning, "shares", str(CPU_SHARES))
    # QEMU's own threads, which do what the guest's devices ask for, together as much as one processor.
    _text(tuning, "emulator_period", str(CPU_PERIOD_US))
    _text(tuning, "emulator_quota", str(CPU_PERIOD_US))


def _add_firmware(domain: etree._Element, definition: VmDefinition, placement: Placement) -> None:
    system = _under(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine=definition.machine)
    # Named files, not firmware='efi': which firmware runs is what the release says, not what libvirt finds.
    _text(system, "loader", str(placement.firmware_code), readonly="yes", secure="yes", type="pflash")
    _text(system, "nvram", str(placement.firmware_vars))


def _add_features(domain: etree._Element) -> None:
    features = _under(domain, "features")
    _under(features, "acpi")
    _under(features, "apic")
    _under(features, "pmu", state="off")
    _under(features, "vmport", state="off")
    # Without SMM the guest's kernel could rewrite the Secure Boot variables.
    _under(features, "smm", state="on")


def _add_processor(domain: etree._Element, *, kvm: bool) -> None:
    if kvm:
        cpu = _under(domain, "cpu", mode="host-model", check="partial")
    else:
        cpu = _under(domain, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", "qemu64", fallback="forbid")
    for nested in ("svm", "vmx"):
        _under(cpu, "feature", policy="disable", name=nested)
    _under(domain, "clock", offset="utc")


def _add_devices(domain: etree._Element, definition: VmDefinition, placement: Placement) -> None:
    devices = _under(domain, "devices")
    _text(devices, "emulator", str(placement.emulator))
    for index, disk in enumerate(definition.disks):
        _add_disk(devices, disk, placement, index)
    devices.extend(controllers(placement.devices))
    devices.extend(interface(network, placement.networks[network.name]) for network in definition.networks)
    devices.extend(elements(placement.devices))
    serial = _under(devices, "serial", type="pty")
    _under(serial, "log", file=str(placement.console_log), append="off")
    _under(_under(serial, "target", type="isa-serial", port="0"), "model", name="isa-serial")
    # No active_pcr_banks: with it libvirt reconfigures the TPM at each start, and swtpm_setup 0.7 waits for ever when
    # the key is the wrong one. swtpm makes new TPMs with the SHA-256 bank.
    tpm = _under(devices, "tpm", model="tpm-crb")
    backend = _under(tpm, "backend", type="emulator", version="2.0", persistent_state="yes")
    _under(backend, "encryption", secret=placement.vtpm_secret)
    _under(devices, "memballoon", model="none")
    rng = _under(devices, "rng", model="virtio")
    _under(rng, "rate", bytes=str(ENTROPY_BYTES), period=str(ENTROPY_PERIOD_MS))
    _text(rng, "backend", ENTROPY_SOURCE, model="random")


def _add_disk(devices: etree._Element, disk: Disk, placement: Placement, index: int) -> None:
    element = _under(devices, "disk", type="file", device="disk")
    image, own = placement.disks.get(disk.name), placement.own_disks.get(disk.name)
    if own is None and image is not None:
        _under(element, "driver", name="qemu", type="raw")
        _add_image(element, image)
        _under(element, "readonly")
    else:
        _under(element, "driver", name="qemu", type="qcow2")
        # libvirt gives this file to QEMU's user while the VM runs, and takes it back.
        source = _under(element, "source", file=str(own))
        if image is None:
            encryption = _under(source, "encryption", format="luks", engine="qemu")
            _under(encryption, "secret", type="passphrase", uuid=placement.disk_secrets[disk.name])
            _under(element, "backingStore")
        else:
            # The whole chain is said, down to its end: then libvirt looks into no header for more.
            below = _under(element, "backingStore", type="file")
            _under(below, "format", type="raw")
            _add_image(below, image)
            _under(below, "backingStore")
        limits = _under(element, "iotune")
        _text(limits, "total_bytes_sec", str(DISK_BYTES_A_SECOND))
        _text(limits, "total_iops_sec", str(DISK_REQUESTS_A_SECOND))
    _under(element, "target", dev=f"vd{string.ascii_lowercase[index]}", bus="virtio")
    if index == 0:
        _under(element, "boot", order="1")


def _add_image(parent: etree._Element, path: Path) -> None:
    source = _under(parent, "source", file=str(path))
    # The store's files are readable by all; libvirt must not give them to QEMU's user.
    _under(source, "seclabel", model="dac", relabel="no")


def _under(parent: etree._Element, tag: str, child: str | None = None, **attributes: str) -> etree._Element:
    """Add an element, and one empty element under it if ``child`` names one."""
    element = etree.SubElement(parent, tag, attributes)
    if child is not None:
        etree.SubElement(element, child)
    return element


def _text(parent: etree._Element, tag: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, tag, attributes).text = text
