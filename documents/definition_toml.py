# SPDX-License-Identifier: Apache-2.0
"""VM definitions as people write them, in TOML; publisher and host read them by this one reader.

A definition in TOML names its images; the document names their digests. This module reads no file and does not judge
whether a host would accept the VM. ``documents.definition_schema`` describes the same form as a JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from documents.canonical import Json
from documents.definition import BTF, DISK_CLASSES, MAX_DISKS, RESTARTS, VmDefinition
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
    ``[[disks]]`` has ``name``, ``image`` (a name) and ``class``.

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


def _disk(table: Table, images: Mapping[str, NamedImage]) -> Json:
    name = table.take_name("name")
    image = table.take_text("image")
    if image not in images:
        raise table.wrong("image", f"names {image!r}, which is no image that is known here")
    disk_class = table.take_choice("class", DISK_CLASSES)
    table.finish()
    known = images[image]
    return {"name": name, "image": known.fsverity, "length": known.length, "class": disk_class}
