# SPDX-License-Identifier: Apache-2.0
"""Checks the VMs of one host against each other: what they share, whom they can be taken for, what they take together.

It sees XML only, so two names of one file (a link, a mount) are two files to it; the gate's own folders have none. This
module does not check a VM by itself (``hypervisor.lint`` does), and XML that cannot be read is that module's finding.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from lxml import etree

from hypervisor.errors import UnreadableDomain
from hypervisor.lint import LintFinding, found_at
from hypervisor.rules.rule import Rule
from hypervisor.rules.together import ALIKE_NAME, BUDGET, DISKS, SAME_NAME, SHARED, SharedRule
from hypervisor.untrusted_xml import read_domain

MAX_FINDINGS: Final = 500
"""Findings that are listed; one is enough to be refused."""

_ALIKE: Final = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "2": "z"})
_KIB: Final = {"b": 1 / 1024, "bytes": 1 / 1024, "KB": 1000 / 1024, "k": 1, "KiB": 1, "M": 1024, "MiB": 1024}
_KIB_LARGE: Final = {"MB": 1e6 / 1024, "G": 2**20, "GiB": 2**20, "GB": 1e9 / 1024, "T": 2**30, "TiB": 2**30}
_UNITS: Final = {**_KIB, **_KIB_LARGE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a host has for all its VMs together.

    Attributes:
        vcpus: virtual processors.
        memory_mib: memory in MiB.
    """

    vcpus: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFinding:
    """A place that breaks a rule because of another VM.

    Attributes:
        domain: label of the VM, as the caller named it.
        others: labels of the VMs that it is in conflict with.
        finding: the rule and the place.
    """

    domain: str
    others: tuple[str, ...]
    finding: LintFinding


def lint_host(untrusted_domains: Mapping[str, bytes], budget: Budget | None = None) -> tuple[HostFinding, ...]:
    """All that is wrong with several domains together, at most ``MAX_FINDINGS``.

    Args:
        untrusted_domains: the XML of each domain, by a label such as its name or its file.
        budget: what they may take together; None does not compare.
    """
    domains: dict[str, etree._Element] = {}
    for label, untrusted_xml in untrusted_domains.items():
        try:
            domains[label] = read_domain(untrusted_xml)
        except UnreadableDomain:
            continue
    found = [*_shared(domains), *_names(domains), *_disks(domains), *_over(domains, budget)]
    return tuple(found[:MAX_FINDINGS])


def _shared(domains: Mapping[str, etree._Element]) -> Iterator[HostFinding]:
    for shared, expressions in _compiled():
        places: dict[str, list[tuple[str, etree._Element]]] = {}
        for label, domain in domains.items():
            for expression in expressions:
                for value, element in _values(domain, expression, path=shared.path):
                    places.setdefault(value, []).append((label, element))
        yield from _conflicts(shared.rule, places)


def _conflicts(rule: Rule, places: Mapping[str, list[tuple[str, etree._Element]]]) -> Iterator[HostFinding]:
    """A finding at each place whose value stands in more than one VM."""
    for value in sorted(places):
        labels = {label for label, _ in places[value]}
        if len(labels) < 2:
            continue
        for label, element in places[value]:
            yield _finding(rule, label, labels - {label}, element)


def _values(domain: etree._Element, where: etree.XPath, *, path: bool) -> Iterator[tuple[str, etree._Element]]:
    """What stands at each place: an attribute's value, or an element's text and attributes; nothing says nothing."""
    found = where(domain)
    for item in found if isinstance(found, list) else ():
        if isinstance(item, etree._ElementUnicodeResult):  # noqa: SLF001 (its name in the stubs)
            value, element = item.strip(), item.getparent()
        elif isinstance(item, etree._Element):  # noqa: SLF001
            attributes = " ".join(f"{name}={item.get(name)}" for name in sorted(map(str, item.attrib)))
            value, element = (item.text or "").strip() or attributes, item
        else:
            continue
        if value and element is not None:
            yield (posixpath.normpath(value) if path else value.casefold()), element


def _names(domains: Mapping[str, etree._Element]) -> Iterator[HostFinding]:
    same: dict[str, list[tuple[str, etree._Element]]] = {}
    alike: dict[str, list[tuple[str, etree._Element]]] = {}
    for label, domain in domains.items():
        name = domain.find("name")
        if name is not None and name.text:
            same.setdefault(letters(name.text), []).append((label, name))
            alike.setdefault(skeleton(name.text), []).append((label, name))
    yield from _conflicts(SAME_NAME, same)
    yield from _conflicts(ALIKE_NAME, {key: places for key, places in alike.items() if places not in same.values()})


def letters(name: str) -> str:
    """A name without case, accents and separators. One without any letter or digit is left as it is."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(c for c in plain if c.isalnum()) or name


def skeleton(name: str) -> str:
    """What is left of a name for an eye that is not looking closely; equal skeletons can be taken for each other.

    The letters that people mix up most in Latin script are one (compare Unicode TR 39, of which this is the small part
    that names on a host need).
    """
    return letters(name).translate(_ALIKE).replace("rn", "m").replace("vv", "w")


def _disks(domains: Mapping[str, etree._Element]) -> Iterator[HostFinding]:
    """A file that one VM can write may be in no other, whether it reads or writes it there, alone or below another."""
    places: dict[str, list[tuple[str, etree._Element, bool]]] = {}
    for label, domain in domains.items():
        for disk in domain.iterfind("devices/disk"):
            writable = disk.find("readonly") is None and disk.get("device") != "cdrom"
            for source in disk.iter("source"):
                top = source.getparent() is disk
                for name in ("file", "dev", "dir", "name"):
                    if value := source.get(name):
                        place = posixpath.normpath(value) if value.startswith("/") else value
                        places.setdefault(place, []).append((label, source, writable and top))
    for place in sorted(places):
        labels = {label for label, _, _ in places[place]}
        if len(labels) < 2 or not any(writes for _, _, writes in places[place]):
            continue
        for label, source, _ in places[place]:
            yield _finding(DISKS, label, labels - {label}, source)


def _over(domains: Mapping[str, etree._Element], budget: Budget | None) -> Iterator[HostFinding]:
    if budget is None or not domains:
        return
    memory = sum(_mebibytes(domain.find("memory")) for domain in domains.values())
    processors = sum(_number(domain.findtext("vcpu")) for domain in domains.values())
    for where, taken, most in (("memory", memory, budget.memory_mib), ("vcpu", processors, budget.vcpus)):
        if taken <= most:
            continue
        for label, domain in domains.items():
            element = domain.find(where)
            yield _finding(BUDGET, label, domains.keys() - {label}, domain if element is None else element)


def _mebibytes(element: etree._Element | None) -> float:
    if element is None:
        return 0
    # A unit that is not known counts as the largest: nobody gets in by it.
    return _number(element.text) * _UNITS.get(element.get("unit", "KiB"), 2**30) / 1024


def _number(text: str | None) -> int:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _finding(rule: Rule, label: str, others: set[str], element: etree._Element) -> HostFinding:
    return HostFinding(domain=label, others=tuple(sorted(others)), finding=found_at(rule, element))


@cache
def _compiled() -> tuple[tuple[SharedRule, tuple[etree.XPath, ...]], ...]:
    return tuple((shared, tuple(etree.XPath(where) for where in shared.rule.where)) for shared in SHARED)
