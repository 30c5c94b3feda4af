# SPDX-License-Identifier: Apache-2.0
"""Repairs that take nothing from a VM that it needs: switches set to their safe side, things to add. Pure.

A repair is data, as a rule is. What the guest works with (its disks, networks, shared folders, firmware) is never
removed: those findings stay for a person. This module does not judge; lint again what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from lxml import etree

from hypervisor.untrusted_xml import read_domain, select


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One repair.

    Attributes:
        id: the rule whose findings it mends.
        where: XPath of the elements that it is done to; of none where nothing is wrong.
        child: path below each of them, made where it is not there; empty for the element itself.
        set: attributes that are set on the element or its child.
        text: its new text; None leaves it.
        drop: remove the element (and set nothing).
        unset: attributes that are removed.
    """

    id: str
    where: str
    child: str = ""
    set: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    drop: bool = False
    unset: tuple[str, ...] = ()


_OFF: Final = (("state", "off"),)
_NO: Final = (("model", "none"),)
_SPICE: Final = "/domain/devices/graphics[@type='spice']"
_BRIDGED: Final = "/domain/devices/interface[@type='network' or @type='bridge']"
_OURS: Final = "starts-with(source/@network, 'vmgate-') and filterref/@filter=source/@network"

FIXES: Final = (
    Fix(id="HV010", where="/domain/os/bootmenu[@enable='yes']", set=(("enable", "no"),)),
    Fix(id="HV011", where="/domain/os/smbios[@mode='host']", drop=True),
    Fix(id="HV023", where="/domain/devices/disk[@device='cdrom'][not(readonly)]", child="readonly"),
    Fix(id="HV027", where="/domain/devices/disk/driver[@cache='unsafe']", unset=("cache",)),
    Fix(id="HV027", where="/domain/devices/disk/driver[@copy_on_read='on']", unset=("copy_on_read",)),
    Fix(id="HV031", where=f"{_SPICE}[not(clipboard/@copypaste='no')]", child="clipboard", set=(("copypaste", "no"),)),
    Fix(id="HV031", where="/domain/devices/channel[@type='spicevmc' or @type='qemu-vdagent']", drop=True),
    Fix(id="HV032", where=f"{_SPICE}[not(filetransfer/@enable='no')]", child="filetransfer", set=(("enable", "no"),)),
    Fix(id="HV032", where="/domain/devices/channel[@type='spiceport']", drop=True),
    Fix(id="HV034", where="/domain/devices/graphics[@passwd]", unset=("passwd", "passwdValidTo")),
    Fix(id="HV040", where="/domain/devices/redirdev", drop=True),
    Fix(id="HV044", where="/domain/devices[not(controller[@type='usb'])][not(input[@bus='usb'])]"
        "[not(hostdev[@type='usb'])][not(disk/target[@bus='usb'])][not(redirdev)]",
        child="controller[@type='usb']", set=(("type", "usb"), ("index", "0"), ("model", "none"))),
    Fix(id="HV052", where=f"{_BRIDGED}[not(port/@isolated='yes')][not({_OURS})]", child="port",
        set=(("isolated", "yes"),)),
    Fix(id="HV053", where=f"{_BRIDGED}[not(filterref)]", child="filterref", set=(("filter", "clean-traffic"),)),
    Fix(id="HV054", where="/domain/devices/interface[@trustGuestRxFilters='yes']", unset=("trustGuestRxFilters",)),
    Fix(id="HV063", where="/domain/on_crash[starts-with(., 'coredump-')]", text="destroy"),
    Fix(id="HV063", where="/domain/memory[not(@dumpCore='off')]", set=(("dumpCore", "off"),)),
    Fix(id="HV063", where="/domain/devices/watchdog[@action='dump']", set=(("action", "reset"),)),
    Fix(id="HV063", where="/domain/devices/panic", drop=True),
    Fix(id="HV070", where="/domain/devices[not(rng)]", child="rng", set=(("model", "virtio"),)),
    Fix(id="HV070", where="/domain/devices/rng[not(rate)]", child="rate", set=(("bytes", "4096"), ("period", "1000"))),
    Fix(id="HV070", where="/domain/devices/rng[not(backend)]", child="backend", set=(("model", "random"),),
        text="/dev/urandom"),
    Fix(id="HV072", where="/domain/devices/memballoon[not(@model='none')]", set=_NO,
        unset=("autodeflate", "freePageReporting")),
    Fix(id="HV072", where="/domain/devices[not(memballoon)]", child="memballoon", set=_NO),
    Fix(id="HV073", where="/domain[not(memoryBacking/nosharepages)]", child="memoryBacking/nosharepages"),
    Fix(id="HV080", where="/domain/cpu[not(feature[@name='vmx'])]", child="feature[@name='vmx']",
        set=(("policy", "disable"), ("name", "vmx"))),
    Fix(id="HV080", where="/domain/cpu[not(feature[@name='svm'])]", child="feature[@name='svm']",
        set=(("policy", "disable"), ("name", "svm"))),
    Fix(id="HV080", where="/domain/cpu/feature[@name='vmx' or @name='svm'][not(@policy='disable' or @policy='forbid')]",
        set=(("policy", "disable"),)),
    Fix(id="HV082", where="/domain[not(features/vmport/@state='off')]", child="features/vmport", set=_OFF),
    Fix(id="HV082", where="/domain[not(features/pmu/@state='off')]", child="features/pmu", set=_OFF),
    Fix(id="HV082", where="/domain/features/pvspinlock[@state='on']", drop=True),
)  # fmt: skip
"""All repairs, in the order in which they are made."""


def fix(untrusted_xml: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Make every repair that applies.

    Returns:
        The domain's XML (UTF-8) and the ids of the rules that were mended, sorted. XML that needs none comes back as it
        was, byte for byte.

    Raises:
        UnreadableDomain: see ``read_domain``.
    """
    domain = read_domain(untrusted_xml)
    done: set[str] = set()
    for repair, expression in _compiled():
        for element in select(domain, expression):
            _apply(repair, element)
            done.add(repair.id)
    if not done:
        return untrusted_xml, ()
    etree.indent(domain)
    return etree.tostring(domain, encoding="utf-8") + b"\n", tuple(sorted(done))


def _apply(repair: Fix, element: etree._Element) -> None:
    if repair.drop:
        parent = element.getparent()
        if parent is not None:
            parent.remove(element)
        return
    for step in repair.child.split("/") if repair.child else ():
        found = element.find(step)
        element = etree.SubElement(element, step.partition("[")[0]) if found is None else found
    for name in repair.unset:
        if name in element.attrib:
            del element.attrib[name]
    for name, value in repair.set:
        element.set(name, value)
    if repair.text is not None:
        element.text = repair.text


@cache
def _compiled() -> tuple[tuple[Fix, etree.XPath], ...]:
    return tuple((repair, etree.XPath(repair.where)) for repair in FIXES)
