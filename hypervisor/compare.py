# SPDX-License-Identifier: Apache-2.0
"""Is the domain that libvirt is about to start the one that its definition renders to? Pure.

The generation id is another one at each start, and is compared apart (``generation_id``).

What libvirt 9 adds to every q35 domain by itself is a table here, element by element; all else must be equal. With KVM,
libvirt expands ``host-model`` once the guest runs: ``live_differences`` compares what runs. This module does not judge
the expected domain (``hypervisor.lint`` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import islice, zip_longest

from lxml import etree

from hypervisor.errors import UnreadableDomain
from hypervisor.untrusted_xml import read_domain, select

ABSENT = "absent"
MAX_DIFFERENCES = 100
MAX_TEXT = 200

_GENERATION = "/domain/genid[string-length(.)=36][not(*)][not(@*)]"

# What libvirt may add, in this order: a later row sees what an earlier one left. Each row is as narrow as the addition.
_ADDED_ELEMENTS = (
    _GENERATION,
    "/domain/devices/*/alias",
    "/domain/devices/*/address[@type='pci' or @type='drive']",
    "/domain/devices/hostdev[@type='usb']/address[@type='usb']",
    "/domain/resource[count(*)=1][partition='/machine']",
    "/domain/seclabel[@type='dynamic'][@relabel='yes'][not(*[not(self::label or self::imagelabel)])]",
    "/domain/cpu/feature[@policy='require'][@name='hypervisor' or @name='lahf_lm']",
    "/domain/devices/disk/backingStore[not(*)][not(@*)]",
    "/domain/devices/serial[@type='pty']/source[starts-with(@path, '/dev/pts/')][count(@*)=1]",
    "/domain/devices/console[@type='pty']/source[starts-with(@path, '/dev/pts/')][count(@*)=1]",
    "/domain/devices/controller[@type='pci'][@model='pcie-root'][not(*)]",
    (
        "/domain/devices/controller[@type='pci'][@model='pcie-root-port']"
        "[count(*)=count(model[@name='pcie-root-port'][not(*)])+count(target[not(*)])]"
    ),
    "/domain/devices/controller[@type='sata'][@index='0'][count(@*)=2][not(*)]",
    "/domain/devices/input[@bus='ps2'][@type='mouse' or @type='keyboard'][count(@*)=2][not(*)]",
    "/domain/devices/audio[@type='none'][not(*)]",
    "/domain/devices/watchdog[@model='itco'][@action='reset'][not(*)]",
    # The tap device of an interface that runs; a name that somebody chose does not begin so.
    "/domain/devices/interface[@type='network']/target[starts-with(@dev, 'vnet')][count(@*)=1][not(*)]",
)
_ADDED_ATTRIBUTES = (
    ("/domain", "id"),
    ("/domain/cpu", "check"),
    ("/domain/devices/disk/source", "index"),
    ("/domain/devices/disk//backingStore", "index"),
    ("/domain/devices/console", "tty"),
    # Where a running interface is plugged in; libvirt reads neither from a definition.
    ("/domain/devices/interface[@type='network']/source[@network]", "portid"),
    ("/domain/devices/interface[@type='network']/source[@network]", "bridge"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as the definition renders it.

    Attributes:
        xpath: where; an attribute ends in ``/@name``.
        expected: the value, or ``absent``.
        found: the same of what libvirt has. At most some 200 characters.
    """

    xpath: str
    expected: str
    found: str


def differences(expected_xml: str, untrusted_found: bytes) -> tuple[Difference, ...]:
    """All differences, at most ``MAX_DIFFERENCES``; none means that libvirt starts what was signed.

    Args:
        expected_xml: what ``hypervisor.domain.render`` gave.
        untrusted_found: what libvirt has, such as the XML that it gives to the hook.
    """
    expected = read_domain(expected_xml.encode())
    try:
        found = read_domain(untrusted_found)
    except UnreadableDomain as error:
        return (Difference(xpath="/domain", expected="domain XML", found=f"not readable: {error.cause}"[:MAX_TEXT]),)
    for domain in (expected, found):
        _add_console(domain)
        _drop_additions(domain)
    return tuple(islice(compare("/domain", expected, found), MAX_DIFFERENCES))


def live_differences(expected_xml: str, untrusted_live: bytes) -> tuple[Difference, ...]:
    """The same for a domain that runs.

    A processor that ``host-model`` became is taken for it if it is one of libvirt's own making, without what the
    definition switches off. Nobody can exchange the processor of a domain that runs.

    Args:
        expected_xml: what it was started as.
        untrusted_live: its live XML.
    """
    try:
        expected, found = read_domain(expected_xml.encode()), read_domain(untrusted_live)
    except UnreadableDomain:
        return differences(expected_xml, untrusted_live)
    asked, got = expected.find("cpu"), found.find("cpu")
    if asked is not None and got is not None and asked.get("mode") == "host-model" and got.get("mode") == "custom":
        required = {str(one.get("name")) for one in got.findall("feature") if one.get("policy") != "disable"}
        forbidden = {str(one.get("name")) for one in asked.findall("feature[@policy='disable']")}
        if not required & forbidden:
            found.replace(got, deepcopy(asked))
    return differences(expected_xml, etree.tostring(found, encoding="utf-8"))


def generation_id(untrusted_xml: bytes) -> str:
    """The generation id of a domain; empty where there is none, or more than one, or the XML cannot be read."""
    try:
        found = select(read_domain(untrusted_xml), etree.XPath(_GENERATION))
    except UnreadableDomain:
        return ""
    return found[0].text or "" if len(found) == 1 else ""


def _add_console(domain: etree._Element) -> None:
    """As libvirt does, show the first serial port a second time as the console."""
    serial = domain.find("devices/serial")
    if serial is None or domain.find("devices/console") is not None:
        return
    console = etree.Element("console", {"type": serial.get("type", "")})
    console.extend(deepcopy(log) for log in serial.findall("log"))
    etree.SubElement(console, "target", {"type": "serial", "port": "0"})
    serial.addnext(console)


def _drop_additions(domain: etree._Element) -> None:
    elements, attributes = _compiled()
    for where in elements:
        for element in select(domain, where):
            parent = element.getparent()
            if parent is not None:
                parent.remove(element)
    for where, name in attributes:
        for element in select(domain, where):
            if name in element.attrib:
                del element.attrib[name]


@cache
def _compiled() -> tuple[tuple[etree.XPath, ...], tuple[tuple[etree.XPath, str], ...]]:
    attributes = tuple((etree.XPath(where), name) for where, name in _ADDED_ATTRIBUTES)
    return tuple(etree.XPath(where) for where in _ADDED_ELEMENTS), attributes


def compare(path: str, expected: etree._Element, found: etree._Element) -> Iterator[Difference]:
    """All that differs at or below two elements; ``path`` is where they stand."""
    for name in sorted({*map(str, expected.attrib), *map(str, found.attrib)}):
        if expected.get(name) != found.get(name):
            yield _difference(f"{path}/@{name}", expected.get(name, ABSENT), found.get(name, ABSENT))
    if _text(expected) != _text(found):
        yield _difference(path, _text(expected), _text(found))
    # libvirt sorts devices by their kind and keeps the order within one kind.
    for tag in sorted({str(child.tag) for parent in (expected, found) for child in parent}):
        pairs = zip_longest(_named(expected, tag), _named(found, tag))
        for position, (left, right) in enumerate(pairs, 1):
            place = f"{path}/{tag}[{position}]"
            if left is None or right is None:
                yield _difference(place, _shown(left), _shown(right))
            else:
                yield from compare(place, left, right)


def _named(parent: etree._Element, tag: str) -> list[etree._Element]:
    return [child for child in parent if child.tag == tag]


def _text(element: etree._Element) -> str:
    """All text directly in an element; between children, too."""
    return "".join([element.text or "", *(child.tail or "" for child in element)]).strip()


def _shown(element: etree._Element | None) -> str:
    if element is None:
        return ABSENT
    return " ".join(etree.tostring(element, encoding="unicode", with_tail=False).split())


def _difference(xpath: str, expected: str, found: str) -> Difference:
    return Difference(xpath=xpath[:MAX_TEXT], expected=expected[:MAX_TEXT], found=found[:MAX_TEXT])
