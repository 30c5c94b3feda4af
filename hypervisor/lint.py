# SPDX-License-Identifier: Apache-2.0
"""Checks domain XML against the hardening rules, by what the XML says alone. Pure.

It sees one domain: what two VMs share (``hypervisor.host_lint``), and whether the host has what a VM names, are not its
questions. It is strict about what it does not know: an unlisted element or attribute is denied. It does not repair
anything (``hypervisor.fixes`` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from lxml import etree

from hypervisor.elements import unknown
from hypervisor.errors import UnreadableDomain
from hypervisor.rules.connections import CONNECTIONS
from hypervisor.rules.devices import DISPLAY, HOST_DEVICES, PARTS, STORAGE
from hypervisor.rules.machine import MACHINE, UNKNOWN
from hypervisor.rules.rule import Rule
from hypervisor.untrusted_xml import MAX_XML, read_domain, select

__all__ = ["MAX_XML", "RULES", "LintFinding", "lint"]

RULES: tuple[Rule, ...] = tuple(
    sorted((UNKNOWN, *MACHINE, *STORAGE, *DISPLAY, *HOST_DEVICES, *PARTS, *CONNECTIONS), key=lambda rule: rule.id)
)
"""All rules by their ids."""

MAX_PER_RULE = 20
"""Places of one rule that are listed; one is enough to be refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """A place that breaks a rule.

    Attributes:
        id: the rule, ``HV`` and three digits.
        level: ``deny``, ``grant`` or ``warn``.
        xpath: where.
        why: the risk.
        fix: the safe form.
        sfr: requirements that the rule serves.
        line: in the XML, from 1; 0 where there is none.
    """

    id: str
    level: str
    xpath: str
    why: str
    fix: str
    sfr: str
    line: int = 0


def lint(untrusted_xml: bytes) -> tuple[LintFinding, ...]:
    """All that is wrong with one domain, by the ids of the rules.

    XML that cannot be read safely is one finding ``HV000``, so every outcome of this function can be shown.
    """
    try:
        domain = read_domain(untrusted_xml)
    except UnreadableDomain as error:
        return (_finding(UNKNOWN, "/", why=f"The XML cannot be read: {error.cause}."),)
    found = [found_at(UNKNOWN, element) for element in unknown(domain)[:MAX_PER_RULE]]
    for rule, expressions in _compiled():
        for expression in expressions:
            places = select(domain, expression)[:MAX_PER_RULE]
            found += [found_at(rule, element) for element in places]
    return tuple(found)


@cache
def _compiled() -> tuple[tuple[Rule, tuple[etree.XPath, ...]], ...]:
    names = {"re": "http://exslt.org/regular-expressions"}
    return tuple((rule, tuple(etree.XPath(where, namespaces=names) for where in rule.where)) for rule in RULES)


def found_at(rule: Rule, element: etree._Element) -> LintFinding:
    """The finding that an element breaks a rule."""
    # None where the element was made and not read; the stubs do not know its type.
    line: Any = element.sourceline
    return _finding(rule, str(element.getroottree().getpath(element)), line=line or 0)


def _finding(rule: Rule, xpath: str, why: str = "", line: int = 0) -> LintFinding:
    return LintFinding(
        id=rule.id, level=rule.level, xpath=xpath, why=why or rule.why, fix=rule.fix, sfr=rule.sfr, line=line
    )
