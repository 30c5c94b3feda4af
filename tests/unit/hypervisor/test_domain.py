# SPDX-License-Identifier: Apache-2.0
"""A definition renders to a domain that the linter has nothing against, whatever the definition says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from documents.definition import DISK_CLASSES, Disk, VmDefinition
from hypervisor.compare import differences
from hypervisor.domain import Placement, render
from hypervisor.lint import lint

BARE = "persistent"


def test_the_same_definition_and_placement_give_the_same_text(
    definition: VmDefinition, placement: Placement, rendered: str
) -> None:
    assert render(definition, placement) == rendered


def test_with_kvm_the_linter_finds_nothing(definition: VmDefinition, placement: Placement) -> None:
    kvm = dataclasses.replace(placement, accelerator="kvm")
    assert lint(render(definition, kvm).encode()) == ()


def test_in_emulation_the_linter_finds_only_the_emulation(rendered: str) -> None:
    assert [(f.id, f.xpath) for f in lint(rendered.encode())] == [("HV001", "/domain")]


@pytest.mark.parametrize(("memory", "most"), [(256, 1280), (4096, 5120), (65_536, 81_920)])
def test_with_kvm_a_guest_is_held_to_what_it_was_given(
    definition: VmDefinition, placement: Placement, memory: int, most: int
) -> None:
    vm = dataclasses.replace(definition, memory_mib=memory)
    domain = etree.fromstring(render(vm, dataclasses.replace(placement, accelerator="kvm")))
    assert domain.findtext("memtune/hard_limit") == str(most * 1024)
    assert {part.tag: part.text for part in domain.find("cputune")} == {
        "shares": "1024", "emulator_period": "100000", "emulator_quota": "100000",
    }  # fmt: skip


def test_a_guest_gets_only_the_devices_it_needs(rendered: str) -> None:
    devices = etree.fromstring(rendered).find("devices")
    assert devices is not None
    tags = ["emulator", "disk", "controller", "serial", "tpm", "memballoon", "rng"]
    assert [child.tag for child in devices] == tags


def test_the_first_disk_is_booted_and_none_is_written(definition: VmDefinition, placement: Placement) -> None:
    disks = tuple(Disk(name=name, image="0" * 64, length=1, disk_class="readonly") for name in ("system", "tools"))
    two = dataclasses.replace(definition, disks=disks)
    places = dataclasses.replace(placement, disks={"tools": Path("/t"), "system": Path("/s")})
    found = etree.fromstring(render(two, places)).findall("devices/disk")
    assert [disk.find("source").get("file") for disk in found] == ["/s", "/t"]
    assert [disk.find("target").get("dev") for disk in found] == ["vda", "vdb"]
    assert [disk.find("boot") is not None for disk in found] == [True, False]
    assert all(disk.find("readonly") is not None for disk in found)


def of_each_class(definition: VmDefinition, placement: Placement) -> tuple[VmDefinition, Placement]:
    """A VM with one disk of each class, on KVM."""
    based = [Disk(name=name, image="0" * 64, length=4096, disk_class=name) for name in DISK_CLASSES if name != BARE]
    disks = (*based, Disk(name=BARE, image="", length=2**20, disk_class=BARE))
    places = dataclasses.replace(
        placement,
        accelerator="kvm",
        disks={disk.name: Path("/store/base") for disk in based},
        own_disks={name: Path(f"/vms/demo/disks/{name}.qcow2") for name in DISK_CLASSES if name != "readonly"},
        disk_secrets={BARE: "33333333-3333-4333-8333-333333333333"},
    )
    return dataclasses.replace(definition, disks=disks), places


def test_disks_of_every_class_are_what_the_linter_asks_for(definition: VmDefinition, placement: Placement) -> None:
    assert lint(render(*of_each_class(definition, placement)).encode()) == ()


def test_the_chain_of_a_disk_is_said_down_to_its_end(definition: VmDefinition, placement: Placement) -> None:
    found = etree.fromstring(render(*of_each_class(definition, placement))).findall("devices/disk")
    chains = [[element.get("file") for element in disk.iter("source")] for disk in found]
    own, base = "/vms/demo/disks/{}.qcow2", "/store/base"
    assert chains == [[base], [own.format("ephemeral"), base], [own.format("sealed"), base], [own.format(BARE)]]
    assert [disk.find("driver").get("type") for disk in found] == ["raw", "qcow2", "qcow2", "qcow2"]
    ends = [list(disk.iter("backingStore"))[-1:] for disk in found]
    assert ends[0] == []
    assert all(len(end) == 1 and len(end[0]) == 0 for end in ends[1:]), "nothing is left for libvirt to look up"
    assert [disk.find("readonly") is not None for disk in found] == [True, False, False, False]
    assert [disk.find("source/encryption/secret") is not None for disk in found] == [False, False, False, True]


@pytest.mark.parametrize("missing", ["own_disks", "disk_secrets"])
def test_a_placement_without_a_disk_that_the_guest_writes_is_a_mistake(
    definition: VmDefinition, placement: Placement, missing: str
) -> None:
    disks, places = of_each_class(definition, placement)
    places = (
        dataclasses.replace(places, disk_secrets={})
        if missing == "disk_secrets"
        else dataclasses.replace(places, own_disks={})
    )
    with pytest.raises(ValueError, match="other disks"):
        render(disks, places)


EDITS = {
    "another base": ("backingStore/source", "file", "/etc/shadow"),
    "another format below": ("backingStore/format", "type", "qcow2"),
    "another overlay": ("source", "file", "/vms/other/disks/sealed.qcow2"),
    "raw instead of qcow2": ("driver", "type", "raw"),
    "no limit": ("iotune/total_iops_sec", "unit", "none"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_chain_that_was_edited_is_another_domain(definition: VmDefinition, placement: Placement, edit: str) -> None:
    rendered = render(*of_each_class(definition, placement))
    assert differences(rendered, rendered.encode()) == ()
    where, attribute, value = EDITS[edit]
    domain = etree.fromstring(rendered)
    domain.findall("devices/disk")[2].find(where).set(attribute, value)
    assert differences(rendered, etree.tostring(domain))


def test_a_chain_whose_end_was_taken_away_is_refused(definition: VmDefinition, placement: Placement) -> None:
    """libvirt would look into the image below for what it stands on."""
    rendered = render(*of_each_class(definition, placement))
    for number, expected in ((2, "difference"), (3, "lint")):
        domain = etree.fromstring(rendered)
        end = list(domain.findall("devices/disk")[number].iter("backingStore"))[-1]
        end.getparent().remove(end)
        changed = etree.tostring(domain)
        found = {"difference": differences(rendered, changed), "lint": [f for f in lint(changed) if f.id == "HV024"]}
        assert found[expected]


@pytest.mark.parametrize(
    "change",
    [
        {"accelerator": "none"},
        {"emulator": Path("qemu")},
        {"firmware_vars": Path("vars.fd")},
        {"disks": {}},
        {"disks": {"system": Path("disk.img")}},
        {"disks": {"system": Path("/a"), "other": Path("/b")}},
    ],
)
def test_a_placement_that_does_not_fit_is_a_bug(
    definition: VmDefinition, placement: Placement, change: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"placement|accelerator"):
        render(definition, dataclasses.replace(placement, **change))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), codec="utf-8"), max_size=120),
    folder=st.text(st.characters(categories=("L", "N", "P", "S"), codec="utf-8"), max_size=40),
    vcpus=st.integers(1, 255),
    memory=st.integers(64, 2**22),
)
def test_nothing_in_a_definition_escapes_its_element(
    definition: VmDefinition, placement: Placement, title: str, folder: str, vcpus: int, memory: int
) -> None:
    changed = dataclasses.replace(definition, title=title, vcpus=vcpus, memory_mib=memory)
    place = dataclasses.replace(placement, console_log=Path(f"/{folder}"))
    xml = render(changed, place)
    domain = etree.fromstring(xml)
    assert (domain.findtext("title") or "") == title
    assert domain.find("devices/serial/log").get("file") == str(place.console_log)
    assert [f.id for f in lint(xml.encode())] == ["HV001"]
