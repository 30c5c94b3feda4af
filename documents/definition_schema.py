# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema (draft 2020-12) of a VM definition as people write it, for editors and other programs.

It is made from the same bounds and forms that the reader has (``documents.definition``, ``documents.fields``), and a
test holds both against each other. A schema cannot say all: that names differ, that an image is known and which
addresses a machine can have is the reader's word alone. This module reads nothing.
"""

from __future__ import annotations

import re

from documents.attachments import ADDRESS, MAX_DEVICES, MAX_NETWORKS, NETWORK
from documents.canonical import Json
from documents.definition import (
    BTF,
    DISK_CLASSES,
    GUARDIANS,
    IMAGELESS,
    MACHINE,
    MAX_DISKS,
    MAX_SIZE_MIB,
    MAX_TITLE,
    MEMORY_MIB,
    RESTARTS,
    VCPUS,
)
from documents.fields import NAME, TEXT, UUID

IDENTIFIER = "urn:vmgate:schema:vm-definition:1"
MAX_NAME, MAX_IMAGE = 63, 256


def definition_schema() -> dict[str, Json]:
    """The schema, as a JSON object."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": IDENTIFIER,
        "title": "vmgate VM definition (TOML)",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "uuid", "title", "machine", "vcpus", "memory_mib", "guardians", "disks"],
        "properties": {
            "name": _text(NAME, MAX_NAME, "Name of the domain, unique on a host."),
            "uuid": _text(UUID, 36, "UUID of the domain, lower case. It names the VM's key: keep it."),
            "title": _text(TEXT, MAX_TITLE, "For people; may be empty.", empty=True),
            "machine": _text(MACHINE, 14, "Versioned QEMU machine type, such as pc-q35-7.2."),
            "vcpus": _number(VCPUS, "Virtual processors."),
            "memory_mib": _number(MEMORY_MIB, "Memory of the guest in MiB."),
            "guardians": {
                "description": "Who can open the VM's key; tpm is always among them.",
                "type": "array",
                "items": {"enum": list(GUARDIANS)},
                "uniqueItems": True,
                "contains": {"const": "tpm"},
            },
            "restart": {
                "description": f"When a running VM comes to run what an update brought; absent means {RESTARTS[0]}.",
                "enum": list(RESTARTS),
            },
            "introspection": {
                "description": "Allows the guest to be read from its memory; absent means never.",
                "type": "object",
                "additionalProperties": False,
                "required": ["btf"],
                "properties": {"btf": _text(BTF, 64, "any, or the SHA-256 of the BTF of the guest's kernel.")},
            },
            "networks": {
                "description": "Networks of the host that the VM stands on, in the order of its cards; else none.",
                "type": "array",
                "items": _network(),
                "minItems": 1,
                "maxItems": MAX_NETWORKS,
            },
            "devices": {
                "description": "Names of devices and media of the host that the VM may have, sorted; absent for none.",
                "type": "array",
                "items": _text(NETWORK, 32, "As the host calls it."),
                "uniqueItems": True,
                "minItems": 1,
                "maxItems": MAX_DEVICES,
            },
            "disks": {
                "description": "In boot order. The first one has an image: nothing boots from a disk without.",
                "type": "array",
                "prefixItems": [_based_disk()],
                "items": {"anyOf": [_based_disk(), _own_disk()]},
                "minItems": 1,
                "maxItems": MAX_DISKS,
            },
        },
    }


def _network() -> dict[str, Json]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": _text(NETWORK, 32, "As `vmgate net list` names it."),
            "address": _text(ADDRESS, 15, "IPv4 address that the VM must use there; without it the network gives one."),
        },
    }


def _based_disk() -> dict[str, Json]:
    """A disk that a signed image stands below, or is."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "image", "class"],
        "properties": {
            "name": _text(NAME, MAX_NAME, "Unique in the definition."),
            "image": _text(TEXT, MAX_IMAGE, "Name of an image of the release, or of this host (vmgate image list)."),
            "class": {"enum": [name for name in DISK_CLASSES if name not in IMAGELESS]},
        },
    }


def _own_disk() -> dict[str, Json]:
    """A disk that only the guest writes to."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "size_mib", "class"],
        "properties": {
            "name": _text(NAME, MAX_NAME, "Unique in the definition."),
            "size_mib": _number((1, MAX_SIZE_MIB), "Size of the disk in MiB."),
            "class": {"enum": list(IMAGELESS)},
        },
    }


def _text(pattern: re.Pattern[str], limit: int, description: str, *, empty: bool = False) -> dict[str, Json]:
    return {
        "description": description,
        "type": "string",
        # The whole text: in some languages `$` also fits before a line feed at the end.
        "pattern": f"^(?:{pattern.pattern})$(?!\\n)",
        "maxLength": limit,
        **({} if empty else {"minLength": 1}),
    }


def _number(bounds: tuple[int, int], description: str) -> dict[str, Json]:
    low, high = bounds
    return {"description": description, "type": "integer", "minimum": low, "maximum": high}
