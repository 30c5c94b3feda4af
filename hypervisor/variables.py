# SPDX-License-Identifier: Apache-2.0
"""Where a domain's firmware variables lie, which tells whose it is. This module opens nothing."""

from __future__ import annotations

from lxml import etree

from hypervisor.errors import UnreadableDomain
from hypervisor.untrusted_xml import read_domain, select

_NVRAM = etree.XPath("/domain/os/nvram[not(@type) or @type='file']")


def variables_of(untrusted_xml: bytes) -> str:
    """The path of a domain's firmware variables; empty where it has none, or more than one, or cannot be read."""
    try:
        found = select(read_domain(untrusted_xml), _NVRAM)
    except UnreadableDomain:
        return ""
    return (found[0].text or "").strip() if len(found) == 1 else ""
