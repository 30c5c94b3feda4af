# SPDX-License-Identifier: Apache-2.0
"""VM definitions and security policies: from the TOML that people write to the documents that are signed.

A definition names its images; the document names their digests. This module does not read files and does not judge
whether a host would accept the VM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from content.fsverity import Measured
from documents.canonical import Json
from documents.definition import BTF, DISK_CLASSES, RESTARTS, VmDefinition
from documents.security_policy import DIGESTS, DRIFT, SecurityPolicy
from publisher.tables import Table, read_table

MAX_DISKS = 16


def read_definition(untrusted_bytes: bytes, source: PurePath, images: Mapping[str, Measured]) -> VmDefinition:
    """Read a VM definition.

    Its keys are the members of ``VmDefinition``; ``restart`` and the table ``[introspection]`` may be left out. Each
    ``[[disks]]`` has ``name``, ``image`` (a name) and ``class``.

    Args:
        untrusted_bytes: TOML.
        source: the file, for messages.
        images: what is known by name.

    Raises:
        RecipeWrong: not TOML, an unknown or missing key, a value out of its bounds, or an unknown image.
        DocumentError: two disks of one name.
    """
    table = read_table(untrusted_bytes, source)
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


def read_policy(table: Table) -> SecurityPolicy:
    """Read a security policy; the order of ``allow`` does not matter, and what may be left out may be the default.

    Raises:
        RecipeWrong: an unknown or missing key, or a value out of its bounds.
    """
    allow = table.take_list("allow", lambda part: part, 100)
    texts: list[Json] = [*sorted(part for part in allow if isinstance(part, str))]
    rest: list[Json] = [part for part in allow if not isinstance(part, str)]
    chosen: dict[str, Json] = {}
    for name, choices in (("digests", DIGESTS), ("drift", DRIFT)):
        choice = table.take_choice(name, choices) if table.has(name) else choices[0]
        if choice != choices[0]:
            chosen[name] = choice
    whole = table.with_value("allow", texts + rest)
    for name, value in chosen.items():
        whole = whole.with_value(name, value)
    policy = SecurityPolicy.read(whole)
    whole.finish()
    return policy


def _disk(table: Table, images: Mapping[str, Measured]) -> Json:
    name = table.take_name("name")
    image = table.take_text("image")
    if image not in images:
        raise table.wrong("image", f"names {image!r}, which is no image of this release")
    disk_class = table.take_choice("class", DISK_CLASSES)
    table.finish()
    measured = images[image]
    return {"name": name, "image": measured.fsverity, "length": measured.length, "class": disk_class}
