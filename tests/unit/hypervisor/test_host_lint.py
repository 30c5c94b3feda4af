# SPDX-License-Identifier: Apache-2.0
"""No two VMs of a host share what must be one VM's own, and none can be taken for another."""

from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from documents.definition import VmDefinition
from hypervisor.domain import Placement, render
from hypervisor.host_lint import MAX_FINDINGS, Budget, HostFinding, letters, lint_host, skeleton
from hypervisor.rules.together import SHARED, TOGETHER

OTHER = "99999999-9999-4999-8999-999999999999"
NET = "<interface type='network'><mac address='52:54:00:00:00:0{}'/></interface>"
DISK = "<disk type='file' device='disk'><source file='{}'/>{}</disk>"
OVER = "<disk type='file' device='disk'><source file='{}'/><backingStore><source file='{}'/></backingStore></disk>"
HOSTDEV = "<hostdev type='{}'><source><address bus='1' device='{}'/></source></hostdev>"


@pytest.fixture
def pair(definition: VmDefinition, placement: Placement) -> dict[str, etree._Element]:
    """Two VMs of one host that share nothing but a base image that none can write."""
    first = dataclasses.replace(placement, accelerator="kvm")
    second = dataclasses.replace(
        first,
        firmware_vars=Path("/var/lib/vmgate/vms/other/vars.fd"),
        console_log=Path("/var/lib/vmgate/vms/other/console.log"),
        vtpm_secret=OTHER,
    )
    other = dataclasses.replace(definition, name="other", uuid=OTHER)
    return {
        "first": etree.fromstring(render(definition, first)),
        "second": etree.fromstring(render(other, second)),
    }


def judge(pair: dict[str, etree._Element], budget: Budget | None = None) -> tuple[HostFinding, ...]:
    return lint_host({label: etree.tostring(domain) for label, domain in pair.items()}, budget)


def ids(found: tuple[HostFinding, ...]) -> set[tuple[str, str]]:
    return {(one.finding.id, one.finding.level) for one in found}


def put(domain: etree._Element, where: str, xml: str) -> None:
    (parent,) = domain.xpath(where)
    parent.append(etree.fromstring(xml))


def test_two_vms_over_one_signed_base_share_nothing(pair: dict[str, etree._Element]) -> None:
    assert judge(pair) == ()


def test_one_vm_is_in_nobodys_way(pair: dict[str, etree._Element]) -> None:
    del pair["second"]
    put(pair["first"], "/domain/devices", NET.format(1))
    put(pair["first"], "/domain/devices", NET.format(1))
    assert judge(pair) == ()


@pytest.mark.parametrize(
    ("rule", "where", "one", "two"),
    [
        ("HV005", "/domain", *(["<seclabel type='static' model='dac'><label>+7:+7</label></seclabel>"] * 2)),
        ("HV008", "/domain/os", "<nvram><source file='/v/./a.fd'/></nvram>", "<nvram><source file='/v/a.fd'/></nvram>"),
        ("HV021", "/domain/devices", *(["<filesystem><source dir='/srv/x'/></filesystem>"] * 2)),
        ("HV023", "/domain/devices", DISK.format("/d/a", ""), DISK.format("/d/a", "")),
        ("HV023", "/domain/devices", DISK.format("/d/a", ""), DISK.format("/d//a", "<readonly/>")),
        ("HV023", "/domain/devices", DISK.format("/d/a", ""), OVER.format("/d/b", "/d/a")),
        ("HV041", "/domain/devices", HOSTDEV.format("usb", 2), HOSTDEV.format("usb", 2)),
        ("HV042", "/domain/devices", HOSTDEV.format("pci", 2), HOSTDEV.format("pci", 2)),
        ("HV053", "/domain/devices", NET.format(1), NET.format(1)),
        ("HV060", "/domain/devices", *(["<console><log file='/c.log'/></console>"] * 2)),
        ("HV060", "/domain/devices", *(["<parallel type='file'><source path='/p'/></parallel>"] * 2)),
        ("HV062", "/domain/devices", *(["<vsock><cid auto='no' address='7'/></vsock>"] * 2)),
        ("HV071", "/domain/devices", *(["<tpm><backend><encryption secret='A-b'/></backend></tpm>"] * 2)),
        ("HV090", "/domain", "<genid>1</genid>", "<genid>1</genid>"),
    ],
)
def test_what_two_share_is_found_in_both(
    pair: dict[str, etree._Element], rule: str, where: str, one: str, two: str
) -> None:
    put(pair["first"], where, one)
    put(pair["second"], where, two)
    found = judge(pair)
    assert ids(found) == {(rule, "deny")}
    assert {(one.domain, one.others) for one in found} == {("first", ("second",)), ("second", ("first",))}
    assert all(one.finding.xpath.startswith("/domain") for one in found)


@pytest.mark.parametrize(
    ("where", "one", "two"),
    [
        ("/domain/devices", DISK.format("/d/a", "<readonly/>"), DISK.format("/d/a", "<readonly/>")),
        ("/domain/devices", OVER.format("/d/a", "/base"), OVER.format("/d/b", "/base")),
        ("/domain/devices", NET.format(1), NET.format(2)),
        ("/domain/devices", HOSTDEV.format("usb", 2), HOSTDEV.format("usb", 3)),
        ("/domain", "<genid/>", "<genid/>"),
        ("/domain/devices", *(["<serial type='pty'><source path='/dev/pts/1'/></serial>"] * 2)),
    ],
)  # fmt: skip
def test_what_may_be_the_same_is_let_be(pair: dict[str, etree._Element], where: str, one: str, two: str) -> None:
    put(pair["first"], where, one)
    put(pair["second"], where, two)
    assert judge(pair) == ()


def test_the_same_uuid_in_another_case_is_the_same(pair: dict[str, etree._Element]) -> None:
    pair["first"].find("uuid").text = "ABCDEFAB-0000-4000-8000-000000000000"
    pair["second"].find("uuid").text = "abcdefab-0000-4000-8000-000000000000"
    assert ids(judge(pair)) == {("HV090", "deny")}


@pytest.mark.parametrize("name", ["Web-1", "web1", "web_1", "wéb 1", "\uff57eb1"])
def test_a_name_that_differs_in_nothing_that_counts_is_denied(pair: dict[str, etree._Element], name: str) -> None:
    pair["first"].find("name").text, pair["second"].find("name").text = "web-1", name
    assert ids(judge(pair)) == {("HV090", "deny")}


@pytest.mark.parametrize(("one", "other"), [("web1", "webl"), ("b00t", "boot"), ("modem", "modern"), ("vvin", "win")])
def test_a_name_that_looks_like_another_is_told(pair: dict[str, etree._Element], one: str, other: str) -> None:
    pair["first"].find("name").text, pair["second"].find("name").text = one, other
    assert ids(judge(pair)) == {("HV090", "warn")}


@pytest.mark.parametrize("names", [("web1", "web2"), ("-", "_"), ("mail", "mall2")])
def test_names_that_differ_do_not_clash(pair: dict[str, etree._Element], names: tuple[str, str]) -> None:
    pair["first"].find("name").text, pair["second"].find("name").text = names
    assert judge(pair) == ()


def test_all_together_may_not_take_more_than_the_host_has(pair: dict[str, etree._Element]) -> None:
    pair["first"].find("vcpu").text = pair["second"].find("vcpu").text = "2"
    for domain, unit, text in ((pair["first"], "MiB", "512"), (pair["second"], "KiB", str(512 * 1024))):
        domain.find("memory").set("unit", unit)
        domain.find("memory").text = text
    assert judge(pair, Budget(vcpus=4, memory_mib=1024)) == ()
    for budget, place in ((Budget(vcpus=3, memory_mib=1024), "vcpu"), (Budget(vcpus=4, memory_mib=1023), "memory")):
        found = judge(pair, budget)
        assert ids(found) == {("HV083", "deny")}
        assert {one.finding.xpath for one in found} == {f"/domain/{place}"}


def test_a_unit_that_nobody_knows_is_over_every_budget(pair: dict[str, etree._Element]) -> None:
    pair["first"].find("memory").set("unit", "furlong")
    assert ids(judge(pair, Budget(vcpus=255, memory_mib=2**22))) == {("HV083", "deny")}


def test_xml_that_cannot_be_read_hides_nothing_of_the_others(pair: dict[str, etree._Element]) -> None:
    put(pair["first"], "/domain/devices", NET.format(1))
    put(pair["second"], "/domain/devices", NET.format(1))
    xml = {label: etree.tostring(domain) for label, domain in pair.items()} | {"third": b"<domain"}
    assert {one.domain for one in lint_host(xml)} == {"first", "second"}


def test_a_flood_has_an_end(pair: dict[str, etree._Element]) -> None:
    for domain in pair.values():
        for _ in range(2 * MAX_FINDINGS):
            put(domain, "/domain/devices", NET.format(1))
    assert len(judge(pair)) == MAX_FINDINGS


@given(st.text(max_size=30))
def test_a_name_looks_like_itself_in_every_normal_form(name: str) -> None:
    assert letters(unicodedata.normalize("NFD", name)) == letters(unicodedata.normalize("NFC", name)) or not letters(
        name
    )
    assert skeleton(name.upper().lower()) == skeleton(name.lower())


def test_rules_about_several_are_whole() -> None:
    assert all(rule.id and rule.why and rule.fix and rule.sfr for rule in TOGETHER)
    assert all(shared.rule.where and shared.rule.level == "deny" for shared in SHARED)
