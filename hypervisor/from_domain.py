# SPDX-License-Identifier: Apache-2.0
"""What of an existing libvirt domain goes into a VM definition: processors, memory, title. All else is left, and named.

A domain's disks are files of somebody's; they become a VM's by being imported. Its UUID stays its own. Pure: it looks
at no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from documents.canonical import Json
from documents.definition import MAX_TITLE
from documents.fields import TEXT
from hypervisor.errors import UnreadableDomain
from hypervisor.untrusted_xml import read_domain

_UNITS = {"b": 1, "bytes": 1, "k": 2**10, "KiB": 2**10, "KB": 1000, "M": 2**20, "MiB": 2**20, "MB": 10**6,
          "G": 2**30, "GiB": 2**30, "GB": 10**9, "T": 2**40, "TiB": 2**40, "TB": 10**12}  # fmt: skip
"""Bytes of libvirt's units (formatdomain, "Memory Allocation"); without one it means KiB."""

MADE_ANEW = frozenset(
    {"name", "uuid", "memory", "currentMemory", "vcpu", "title", "on_poweroff", "on_reboot", "on_crash"}
)
"""Elements that a definition has in its own way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What was taken.

    Attributes:
        values: keys of a definition.
        left: elements that were not taken, sorted; devices by their kind.
    """

    values: Mapping[str, Json]
    left: tuple[str, ...]


def take_over(untrusted_xml: bytes) -> TakenOver:
    """Read a domain.

    Raises:
        UnreadableDomain: it is none, or its memory or processors are no numbers.
    """
    domain = read_domain(untrusted_xml)
    values: dict[str, Json] = {}
    memory = domain.find("memory")
    if memory is not None:
        unit = _UNITS.get(memory.get("unit", "KiB"))
        if unit is None:
            raise _unreadable("its memory has a unit that is not known")
        values["memory_mib"] = -(-_number(memory.text, "memory") * unit // 2**20)
    vcpu = domain.find("vcpu")
    if vcpu is not None:
        values["vcpus"] = _number(vcpu.text, "vcpu")
    title = domain.findtext("title") or ""
    if title and len(title) <= MAX_TITLE and TEXT.fullmatch(title):
        values["title"] = title
    left = {str(child.tag) for child in domain if child.tag not in MADE_ANEW | {"devices"}}
    left |= {f"devices/{child.tag}" for child in domain.iterfind("devices/*")}
    return TakenOver(values=values, left=tuple(sorted(left))[:50])


def _number(untrusted: str | None, what: str) -> int:
    text = (untrusted or "").strip()
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise _unreadable(f"its {what} is no number")
    return int(text)


def _unreadable(cause: str) -> UnreadableDomain:
    return UnreadableDomain("the domain was not taken over", cause=cause, remedy="say it by options instead")
