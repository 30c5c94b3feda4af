# SPDX-License-Identifier: Apache-2.0
"""VM definitions as people write them, in TOML; publisher and host read them by this one reader.

A definition in TOML names its images; the document names their digests. This module reads no file and does not judge
whether a host would accept the VM. ``documents.definition_schema`` describes the same form as a JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from documents.canonical import Json
from documents.definition import (
    BTF,
    DISK_CLASSES,
    IMAGELESS,
    MAX_DISKS,
    MAX_SIZE_MIB,
    MIB,
    RESTARTS,
    Disk,
    VmDefinition,
)
from documents.tables import Table


class NamedImage(Protocol):
    """What is known of an image that has a name."""

    @property
    def fsverity(self) -> str:
        """Its digest."""

    @property
    def length(self) -> int:
        """Its bytes."""


def read_definition(table: Table, images: Mapping[str, NamedImage]) -> VmDefinition:
    """Read a VM definition.

    Its keys are the members of ``VmDefinition``; ``restart`` and the table ``[introspection]`` may be left out. Each
    ``[[disks]]`` has ``name``, ``class``, and ``image`` (a name) or, of a class without one, ``size_mib``.

    Args:
        table: the file, not yet read.
        images: what is known by name.

    Raises:
        DocumentError: of the table's kind: an unknown or missing key, a value out of its bounds, or an unknown image.
    """
    disks: list[Json] = [_disk(disk, images) for disk in table.tables("disks", MAX_DISKS)]
    restart = table.take_choice("restart", RESTARTS) if table.has("restart") else RESTARTS[0]
    whole = table.with_value("disks", disks)
    if restart != RESTARTS[0]:
        whole = whole.with_value("restart", restart)
    if table.has("introspection"):
        inner = table.table("introspection")
        whole = whole.with_value("introspection", {"btf": inner.take_text("btf", BTF, 64)})
        inner.finish()
    definition = VmDefinition.read(whole)
    whole.finish()
    return definition


DEFAULTS: Mapping[str, Json] = MappingProxyType(
    {"title": "", "machine": "pc-q35-7.2", "vcpus": 1, "memory_mib": 1024, "guardians": ["tpm"]}
)
"""What a new VM of a host has where neither its definition nor the host's defaults say otherwise."""


def read_defaults(table: Table) -> dict[str, Json]:
    """Read an administrator's defaults for new VMs: any of the keys of ``DEFAULTS``, and ``restart``.

    Returns:
        Those that are there, in the form of a definition's.

    Raises:
        DocumentError: of the table's kind: an unknown key, or a value that no definition could have.
    """
    found = {name: table.take(name) for name in (*DEFAULTS, "restart") if table.has(name)}
    table.finish()
    image: list[Json] = [{"name": "disk", "image": "none", "class": DISK_CLASSES[0]}]
    trial: dict[str, Json] = {**DEFAULTS, **found, "name": "trial", "uuid": str(UUID(int=0)), "disks": image}
    read_definition(table.completed(trial), {"none": _NoImage()})
    return found


class _NoImage:
    """Stands for an image where none is asked for."""

    fsverity = "0" * 64
    length = 1


def write_definition(definition: VmDefinition, images: Mapping[str, str]) -> dict[str, Json]:
    """What ``read_definition`` would make the definition of, as the values of a table.

    Args:
        definition: as signed.
        images: names of images by their digests.
    """
    members = definition.members()
    return {**members, "disks": [_written(disk, images) for disk in definition.disks]}


def _written(disk: Disk, images: Mapping[str, str]) -> dict[str, Json]:
    made_of: dict[str, Json] = (
        {"image": images.get(disk.image, f"sha256:{disk.image}")} if disk.image else {"size_mib": disk.length // MIB}
    )
    return {"name": disk.name, **made_of, "class": disk.disk_class}


def _disk(table: Table, images: Mapping[str, NamedImage]) -> Json:
    name = table.take_name("name")
    disk_class = table.take_choice("class", DISK_CLASSES)
    if disk_class in IMAGELESS:
        size = table.take_int("size_mib", 1, MAX_SIZE_MIB)
        table.finish()
        return {"name": name, "size_mib": size, "class": disk_class}
    image = table.take_text("image")
    if image not in images:
        raise table.wrong("image", f"names {image!r}, which is no image that is known here")
    table.finish()
    known = images[image]
    return {"name": name, "image": known.fsverity, "length": known.length, "class": disk_class}
