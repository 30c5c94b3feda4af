# SPDX-License-Identifier: Apache-2.0
"""Domain XML from outside, parsed without following anything that it names.

Bounded, UTF-8 only, no document type, no entities, no network, no comments. This module does not judge what the XML
says (``hypervisor.lint`` and ``hypervisor.compare`` do).
"""

from __future__ import annotations

from lxml import etree

from hypervisor.errors import UnreadableDomain

MAX_XML = 1_000_000
"""Bytes of one domain's XML. libvirt's own output for a large VM has some 20,000."""

MAX_ELEMENTS = 10_000


def read_domain(untrusted_xml: bytes) -> etree._Element:
    """Parse the XML of one domain; see ``read_xml``."""
    return read_xml(untrusted_xml, "domain")


def read_xml(untrusted_xml: bytes, root: str) -> etree._Element:
    """Parse the XML of one thing of libvirt's.

    Args:
        untrusted_xml: as libvirt gave it.
        root: the name of its outermost element, such as ``domain``.

    Returns:
        That element, without comments and processing instructions.

    Raises:
        UnreadableDomain: anything that is not well-formed, bounded, plain XML with that root.
    """
    if len(untrusted_xml) > MAX_XML:
        raise _unreadable(f"it has more than {MAX_XML} bytes")
    # Looked for before parsing, too: a document type is the only way to entities.
    if b"<!DOCTYPE" in untrusted_xml or b"<!ENTITY" in untrusted_xml:
        raise _unreadable("it has a document type")
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False,
        huge_tree=False, remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        domain = etree.fromstring(untrusted_xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _unreadable(f"it is not well-formed: {error}"[:300]) from error
    if domain.getroottree().docinfo.internalDTD is not None:
        raise _unreadable("it has a document type")
    if domain.tag != root:
        raise _unreadable(f"it describes {str(domain.tag)[:60]!r} and no {root}")
    for count, element in enumerate(domain.iter()):
        if count >= MAX_ELEMENTS:
            raise _unreadable(f"it has more than {MAX_ELEMENTS} elements")
        if not isinstance(element.tag, str):
            raise _unreadable("it has an entity")
    return domain


def select(domain: etree._Element, where: etree.XPath) -> list[etree._Element]:
    """The elements that an XPath expression selects."""
    found = where(domain)
    if not isinstance(found, list):
        return []
    return [element for element in found if isinstance(element, etree._Element)]  # noqa: SLF001 (its name in the stubs)


def _unreadable(cause: str) -> UnreadableDomain:
    return UnreadableDomain(
        "the domain XML was not read", cause=cause, remedy="define the VM again from its definition"
    )
