# SPDX-License-Identifier: Apache-2.0
"""A repair mends what it says it mends, adds no finding, and takes nothing that the guest works with."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from documents.definition import VmDefinition
from hypervisor.domain import Placement, render
from hypervisor.errors import UnreadableDomain
from hypervisor.fixes import FIXES, fix
from hypervisor.lint import lint
from lab.spoiled_domains import CASES, spoil

KEPT = ("disk", "interface", "filesystem", "hostdev")
"""What the guest works with."""


@pytest.fixture
def clean(definition: VmDefinition, placement: Placement) -> etree._Element:
    return etree.fromstring(render(definition, dataclasses.replace(placement, accelerator="kvm")))


def left(xml: bytes) -> set[tuple[str, str]]:
    return {(found.id, found.level) for found in lint(xml)}


@pytest.mark.parametrize(("rule", "level", "action", "place", "value"), CASES)
def test_no_repair_makes_anything_worse(
    clean: etree._Element, rule: str, level: str, action: str, place: str, value: str
) -> None:
    spoiled = spoil(clean, action, place, value)
    before = left(spoiled)
    fixed, mended = fix(spoiled)
    assert left(fixed) <= before
    assert {identity for identity, _ in before - left(fixed)} <= set(mended)
    old, new = etree.fromstring(spoiled), etree.fromstring(fixed)
    assert all(len(old.findall(f"devices/{kind}")) == len(new.findall(f"devices/{kind}")) for kind in KEPT)
    assert fix(fixed) == (fixed, ())


def test_every_repair_is_shown_to_mend(clean: etree._Element) -> None:
    xml = etree.tostring(clean)
    spoiled = [etree.fromstring(spoil(etree.fromstring(xml), *case[2:])) for case in CASES]
    idle = [repair for repair in FIXES if not any(domain.xpath(repair.where) for domain in spoiled)]
    # The other features and the parts of a new device: no case spoils them alone, and their twins are shown.
    assert [repair.id for repair in idle] == ["HV070", "HV080"]
    mended = {
        case[0]
        for case, domain in zip(CASES, spoiled, strict=True)
        if (case[0], case[1]) not in left(fix(etree.tostring(domain))[0])
    }
    assert mended == {repair.id for repair in FIXES}


def test_what_is_clean_comes_back_byte_for_byte(clean: etree._Element) -> None:
    xml = etree.tostring(clean)
    assert fix(xml) == (xml, ())


def test_a_whole_domain_that_somebody_else_made_is_mended_as_far_as_that_is_safe() -> None:
    untrusted = b"""<domain type='kvm'><name>a</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>
      <os><type machine='pc-q35-7.2'>hvm</type></os><cpu mode='host-model'/>
      <devices><disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/><source file='/a'/>
      <target dev='vda' bus='virtio'/></disk>
      <filesystem type='mount'><source dir='/srv'/></filesystem></devices></domain>"""
    fixed, mended = fix(untrusted)
    assert {"HV027", "HV044", "HV063", "HV070", "HV072", "HV073", "HV080", "HV082"} == set(mended)
    # A shared folder is the VM's work: only a person can say that it may go.
    assert ("HV020", "deny") in left(fixed)
    assert not {identity for identity, _ in left(fixed)} & set(mended)


def test_what_cannot_be_read_is_not_repaired() -> None:
    with pytest.raises(UnreadableDomain):
        fix(b"<!DOCTYPE domain><domain/>")


@given(st.binary(max_size=200))
def test_random_bytes_give_one_error_or_xml(untrusted: bytes) -> None:
    try:
        fixed, _ = fix(untrusted)
    except UnreadableDomain:
        return
    assert etree.fromstring(fixed).tag == "domain"
