# SPDX-License-Identifier: Apache-2.0
"""A generation id is drawn for each start, kept until it is used, and compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.gate import _check_domain
from agent.generation_ids import GenerationIds
from agent.paths import HostPaths
from agent.vms import way_out
from documents.definition import Disk, VmDefinition
from documents.verdict import Finding, Verdict
from hypervisor.compare import generation_id
from hypervisor.domain import Placement, render

VM = VmDefinition(
    name="desk",
    uuid="22222222-2222-4222-8222-222222222222",
    title="",
    machine="pc-q35-7.2",
    vcpus=1,
    memory_mib=256,
    disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
    guardians=("tpm",),
)
ONE, OTHER = "6bb25c01-a8b4-4f4b-90d2-5d2b3c0b1a01", "6bb25c01-a8b4-4f4b-90d2-5d2b3c0b1a02"


def rendered(generation: str) -> tuple[Placement, str]:
    place = Placement(
        emulator=Path("/usr/bin/qemu-system-x86_64"),
        firmware_code=Path("/c"),
        firmware_vars=Path("/v"),
        disks={"system": Path("/d")},
        console_log=Path("/l"),
        accelerator="kvm",
        vtpm_secret=ONE,
        generation_id=generation,
    )
    return place, render(VM, place)


def failed(expected: str, found: str) -> list[Finding]:
    placement, xml = rendered(expected)
    vm = cast("Any", SimpleNamespace(definition=VM, placement=placement, xml=xml, programs=None))
    return [one for one in _check_domain(vm, found.encode(), "workload") if one.outcome != "pass"]


def test_it_stays_until_it_is_used_and_never_comes_again(tmp_path: Path) -> None:
    ids = GenerationIds(HostPaths(tmp_path))
    first = ids.next("desk")
    assert ids.next("desk") == GenerationIds(HostPaths(tmp_path)).next("desk") == first
    assert ids.next("vault") != first
    drawn = {ids.draw("desk") for _ in range(20)}
    assert len(drawn | {first}) == 21
    assert ids.next("desk") in drawn


@pytest.mark.parametrize("damaged", [b"", b"x" * 36, ONE.upper().encode(), ONE.encode() + b"\n", bytes(400)])
def test_what_is_no_id_is_drawn_anew(tmp_path: Path, damaged: bytes) -> None:
    paths = HostPaths(tmp_path)
    ids = GenerationIds(paths)
    before = ids.next("desk")
    paths.generation_id("desk").write_bytes(damaged)
    assert ids.next("desk") not in {before, damaged.decode("latin-1")}


def test_the_gate_lets_only_the_one_pass_that_was_drawn_for_this_start() -> None:
    right = rendered(ONE)[1]
    assert failed(ONE, right) == []
    for wrong in (rendered(OTHER)[1], rendered("")[1], right.replace(f"<genid>{ONE}</genid>", "<genid/>")):
        assert "generation-id" in {finding.check for finding in failed(ONE, wrong)}
    assert [finding.check for finding in failed(ONE, rendered(OTHER)[1])] == ["generation-id"], "and nothing else"
    assert "generation-id" in {finding.check for finding in failed("", rendered("")[1])}, "none is not good enough"
    verdict = Verdict(subject="desk", level="L0", time=0, findings=tuple(failed(ONE, rendered(OTHER)[1])))
    assert "vmgate vm start" in way_out(verdict)


def test_two_are_none() -> None:
    xml = rendered(ONE)[1]
    twice = xml.replace(f"<genid>{ONE}</genid>", f"<genid>{ONE}</genid><genid>{ONE}</genid>")
    assert (generation_id(xml.encode()), generation_id(twice.encode()), generation_id(b"<x")) == (ONE, "", "")


def test_an_odd_one_is_a_difference_too() -> None:
    xml = rendered(ONE)[1]
    for odd in (f"<genid a='b'>{ONE}</genid>", f"<genid>{ONE}<x/></genid>", "<genid>short</genid>"):
        checks = {finding.check for finding in failed(ONE, xml.replace(f"<genid>{ONE}</genid>", odd))}
        assert checks >= {"domain", "generation-id"}
    assert dataclasses.replace(rendered(ONE)[0], generation_id="") == rendered("")[0]
