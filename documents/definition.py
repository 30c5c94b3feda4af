# SPDX-License-Identifier: Apache-2.0
"""What a VM is made of, as its publisher signs it.

People write TOML; the publisher turns it into this. A definition names no path of a host. This module does not make
domain XML (``hypervisor`` does) and does not judge whether a host's policy allows the VM (``agent.gate`` does).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.attachments import NetworkUse, read_devices, read_networks
from documents.canonical import Json
from documents.document import Document
from documents.fields import NAME, UUID, Fields
from documents.release import MAX_LENGTH

MACHINE = re.compile(r"pc-q35-[0-9]{1,2}\.[0-9]{1,2}")
BTF = re.compile(r"any|[0-9a-f]{64}")
"""What `introspection` says of the BTF of the guest's kernel."""
DISK_CLASSES = ("readonly", "ephemeral", "persistent", "sealed")
"""What a guest can do with a disk. ``readonly``: read the signed image and write nothing. ``ephemeral``: write over it
until it stops. ``sealed``: write over it and find that again, as long as nobody else wrote there. ``persistent``: keep
data of its own, on a disk that no image stands below and nothing boots from."""

IMAGELESS = ("persistent",)
"""Classes of disks that have no signed image below them."""

MIB = 2**20
MAX_SIZE_MIB = 2**26
"""64 TiB."""

GUARDIANS = ("tpm", "recovery")
"""Who can open a VM's key. ``tpm`` is always named: without it no start would open one."""

VCPUS = (1, 255)
MEMORY_MIB = (64, 2**22)
MAX_TITLE = 120
MAX_DISKS = 16

RESTARTS = ("at-next-stop", "now", "window")
"""When a running VM comes to run what an update brought; the first is the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk: a base image by digest, or a size.

    Attributes:
        name: unique in the definition.
        image: fs-verity digest of the base image; empty for a class of ``IMAGELESS``.
        length: bytes of the base image; without one, of the disk, in whole MiB (the member ``size_mib``).
        disk_class: one of ``DISK_CLASSES``.
    """

    name: str
    image: str
    length: int
    disk_class: str

    @classmethod
    def read(cls, untrusted: Json) -> Disk:
        """Read one disk."""
        fields = Fields(untrusted, "disk")
        disk_class = fields.take_choice("class", DISK_CLASSES)
        based = disk_class not in IMAGELESS
        disk = cls(
            name=fields.take_name("name"),
            image=fields.take_digest("image") if based else "",
            length=fields.take_int("length", 1, MAX_LENGTH)
            if based
            else fields.take_int("size_mib", 1, MAX_SIZE_MIB) * MIB,
            disk_class=disk_class,
        )
        fields.finish()
        return disk

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        if not self.image:
            return {"name": self.name, "size_mib": self.length // MIB, "class": self.disk_class}
        return {"name": self.name, "image": self.image, "length": self.length, "class": self.disk_class}


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDefinition(Document):
    """One VM.

    Attributes:
        name: the domain's name.
        uuid: the domain's UUID, lower case.
        title: for people.
        machine: versioned QEMU machine type, such as ``pc-q35-7.2``.
        vcpus: virtual processors.
        memory_mib: guest memory in MiB.
        disks: in boot order.
        guardians: who can open the VM's key; any one of them.
        restart: one of ``RESTARTS``, for hosts that update themselves; absent where it is the default.
        introspection: whether the guest may be read from its memory: None (absent) for never, empty for a kernel with
            whatever BTF, or the SHA-256 of the BTF that its kernel must have.
        networks: of the host, that the VM stands on; absent for none.
        devices: names of the host's devices and media that the VM may have; absent for none.
    """

    TYPE: ClassVar[str] = "vmgate.vm-definition"
    LIMIT: ClassVar[int] = 100_000

    name: str
    uuid: str
    title: str
    machine: str
    vcpus: int
    memory_mib: int
    disks: tuple[Disk, ...]
    guardians: tuple[str, ...]
    restart: str = RESTARTS[0]
    introspection: str | None = None
    networks: tuple[NetworkUse, ...] = ()
    devices: tuple[str, ...] = ()

    @property
    def based(self) -> tuple[Disk, ...]:
        """The disks that a signed image stands below, or is."""
        return tuple(disk for disk in self.disks if disk.image)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        definition = cls(
            name=fields.take_name("name"),
            uuid=fields.take_text("uuid", UUID, 36),
            title=fields.take_text("title", limit=MAX_TITLE, empty=True),
            machine=fields.take_text("machine", MACHINE, 14),
            vcpus=fields.take_int("vcpus", *VCPUS),
            memory_mib=fields.take_int("memory_mib", *MEMORY_MIB),
            disks=fields.take_list("disks", Disk.read, MAX_DISKS),
            guardians=fields.take_texts("guardians", NAME, 3),
            # One form for each meaning: the default is not written.
            restart=fields.take_choice("restart", RESTARTS[1:]) if fields.has("restart") else RESTARTS[0],
            introspection=_introspection(fields.take("introspection")) if fields.has("introspection") else None,
            networks=read_networks(fields),
            devices=read_devices(fields),
        )
        fields.require_distinct("disks", [disk.name for disk in definition.disks])
        if not definition.disks:
            raise fields.wrong("disks", "is empty")
        if definition.disks[0].disk_class in IMAGELESS:
            raise fields.wrong("disks", "begins with a disk that nothing may boot from")
        if not definition.guardians or not set(definition.guardians) <= set(GUARDIANS):
            raise fields.wrong("guardians", "is empty or names an unknown guardian")
        if "tpm" not in definition.guardians:
            raise fields.wrong("guardians", "does not name tpm")
        return definition

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "name": self.name,
            "uuid": self.uuid,
            "title": self.title,
            "machine": self.machine,
            "vcpus": self.vcpus,
            "memory_mib": self.memory_mib,
            "disks": [disk.members() for disk in self.disks],
            "guardians": list(self.guardians),
            **({"restart": self.restart} if self.restart != RESTARTS[0] else {}),
            **({} if self.introspection is None else {"introspection": {"btf": self.introspection or "any"}}),
            **({"networks": [network.members() for network in self.networks]} if self.networks else {}),
            **({"devices": list(self.devices)} if self.devices else {}),
        }


def _introspection(untrusted: Json) -> str:
    """The digest in ``{"btf": DIGEST}``; empty for ``any``."""
    fields = Fields(untrusted, "introspection")
    digest = fields.take_text("btf", BTF, 64)
    fields.finish()
    return "" if digest == "any" else digest
