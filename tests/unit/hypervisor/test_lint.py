# SPDX-License-Identifier: Apache-2.0
"""Each rule finds what it is for, and nothing unknown or unreadable passes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from documents.definition import VmDefinition
from hypervisor.domain import Placement, render
from hypervisor.elements import KNOWN
from hypervisor.lint import MAX_XML, RULES, lint
from hypervisor.rules.rule import LEVELS
from lab.spoiled_domains import CASES, NET, spoil


@pytest.fixture
def clean(definition: VmDefinition, placement: Placement) -> etree._Element:
    xml = render(definition, dataclasses.replace(placement, accelerator="kvm"))
    assert lint(xml.encode()) == ()
    return etree.fromstring(xml)


@pytest.mark.parametrize(("rule", "level", "action", "place", "value"), CASES)
def test_a_rule_finds_what_it_is_for(
    clean: etree._Element, rule: str, level: str, action: str, place: str, value: str
) -> None:
    found = lint(spoil(clean, action, place, value))
    assert (rule, level) in {(f.id, f.level) for f in found}
    # What a rule is about is known: it is judged by that rule, and not for being unknown.
    assert rule == "HV000" or "HV000" not in {f.id for f in found if "commandline" not in value}
    assert all(f.why and f.fix and f.sfr and f.xpath.startswith("/domain") for f in found)


def test_every_expression_of_every_rule_is_shown_to_work(definition: VmDefinition, placement: Placement) -> None:
    xml = render(definition, dataclasses.replace(placement, accelerator="kvm"))
    spoiled = [etree.fromstring(spoil(etree.fromstring(xml), *case[2:])) for case in CASES]
    names = {"re": "http://exslt.org/regular-expressions"}
    silent = [
        where
        for rule in RULES
        for where in rule.where
        if not any(domain.xpath(where, namespaces=names) for domain in spoiled)
    ]
    assert not silent


def test_rules_are_complete_and_have_a_known_level() -> None:
    assert {rule.level for rule in RULES} == set(LEVELS)
    assert all(rule.why and rule.fix and rule.sfr for rule in RULES)
    assert len({(rule.id, rule.level) for rule in RULES}) == len(RULES)


def test_what_libvirt_made_of_a_definition_is_clean_but_for_the_emulation(captured: bytes) -> None:
    assert [(f.id, f.xpath) for f in lint(captured)] == [("HV001", "/domain")]


def test_loopback_and_agent_channels_are_not_denied(clean: etree._Element) -> None:
    found = lint(spoil(clean, "add", "/domain/devices", NET.format("")))
    assert found == ()


@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        b"<domain",
        b"<network/>",
        b"\xff\xfe<\0d\0",
        b"<!DOCTYPE domain><domain/>",
        b"<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><domain>&b;</domain>",
        b"<domain>&undefined;</domain>",
        "<!DOCTYPE domain><domain/>".encode("utf-16"),
        b"<domain>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</domain>",
        b"<domain>" + b"<a/>" * 20_000 + b"</domain>",
        b"<domain>" + b" " * MAX_XML + b"</domain>",
    ],
)
def test_what_cannot_be_read_safely_is_denied(untrusted: bytes) -> None:
    found = lint(untrusted)
    assert [(f.id, f.level, f.xpath) for f in found] == [("HV000", "deny", "/")]


@given(st.binary(max_size=200))
@example(b"<domain/>")
def test_nothing_random_is_clean(untrusted: bytes) -> None:
    assert any(f.level == "deny" for f in lint(untrusted))


@given(st.text("abcdefghijklmnopqrstuvwxyz-_", min_size=1, max_size=12), st.sampled_from(sorted(KNOWN)))
def test_an_unlisted_element_anywhere_is_denied_and_found(name: str, path: str) -> None:
    if f"{path}/{name}" in KNOWN or "*" in KNOWN[path] or name.startswith("-"):
        return
    parts = [*path.split("/"), name]
    xml = "".join(f"<{part}>" for part in parts) + "".join(f"</{part}>" for part in reversed(parts))
    assert ("HV000", f"/{path}/{name}") in {(f.id, f.xpath) for f in lint(xml.encode())}


def test_a_flood_of_findings_has_an_end(clean: etree._Element) -> None:
    flood = b"<domain>" + b"<invented/>" * 9000 + b"</domain>"
    assert len(lint(flood)) < 100
