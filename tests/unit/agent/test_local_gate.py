# SPDX-License-Identifier: Apache-2.0
"""What the gate asks of a VM that was made on the host: each question with its yes and its no."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.local_gate import Published, displaced, local_findings
from documents.definition import Disk, VmDefinition
from documents.local_set import LocalImage, LocalSet, LocalVm
from documents.security_policy import SecurityPolicy
from documents.verdict import Verdict
from lab.measuring import POLICY

UUID = "00000000-0000-4000-8000-000000000001"
IMAGE = LocalImage(name="debian", fsverity="ab" * 32, length=4096, source="raw")
DISK = Disk(name="disk0", image=IMAGE.fsverity, length=IMAGE.length, disk_class="readonly")
DEFINITION = VmDefinition(
    name="mine", uuid=UUID, title="", machine="pc-q35-7.2", vcpus=1, memory_mib=512, disks=(DISK,), guardians=("tpm",)
)
VM = LocalVm(name="mine", uuid=UUID, fsverity="cd" * 32, length=400, number=1, salt=bytes(32))
SET = LocalSet(number=3, time=0, actor="root", images=(IMAGE,), vms=(VM,))
ALLOWED = replace(POLICY, allow=("AllowLocal",))
NOBODY = Published(names={}, uuids={}, images={})


def failed(
    definition: VmDefinition = DEFINITION,
    policy: SecurityPolicy = ALLOWED,
    content: LocalSet = SET,
    theirs: Published = NOBODY,
) -> list[tuple[str, str]]:
    found = tuple(local_findings(VM, definition, content, policy, theirs))
    assert {finding.authority for finding in found} == {"local"}
    verdict = Verdict(subject="mine", level="L2", time=0, findings=found)
    assert verdict.status != "affirming", "never better than a warning"
    return [(finding.check, finding.subject) for finding in found if finding.outcome == "fail"]


def test_one_that_is_allowed_and_in_nobodys_way_is_a_warning() -> None:
    assert failed() == []


@pytest.mark.parametrize("allow", [(), ("AllowEmulation", "AllowSelfMeasured", "AllowSoftwareTpm")])
def test_a_policy_that_says_nothing_of_it_says_no(allow: tuple[str, ...]) -> None:
    assert failed(policy=replace(POLICY, allow=allow)) == [("local-vm", "mine")]


def test_a_definition_says_of_itself_what_the_set_says() -> None:
    assert failed(replace(DEFINITION, name="other")) == [("local-name", "mine")]
    assert failed(replace(DEFINITION, uuid=UUID.replace("1", "2"))) == [("local-name", "mine")]


def test_no_key_of_a_fleet_is_given_for_it() -> None:
    assert failed(replace(DEFINITION, guardians=("tpm", "recovery"))) == []
    assert failed(replace(DEFINITION, guardians=("tpm", "fleet"))) == [("local-guardians", "mine")]


@pytest.mark.parametrize("what", ["names", "uuids"])
def test_what_a_release_has_a_local_vm_has_not(what: str) -> None:
    value = {"names": "mine", "uuids": UUID}[what]
    theirs = replace(NOBODY, **{what: {value: "desk of work 1"}})
    assert failed(theirs=theirs) == [("local-place", "mine")]
    assert "desk of work 1" in displaced(VM, theirs)
    assert displaced(VM, NOBODY) == ""


def test_an_image_of_a_release_is_no_local_ones() -> None:
    theirs = replace(NOBODY, images={IMAGE.fsverity: "desk of work 1"})
    assert failed(theirs=theirs) == [("local-place", "disk disk0")]


def test_an_image_that_nobody_imported_is_refused() -> None:
    assert failed(content=replace(SET, images=())) == [("local-image", "disk disk0")]
    longer = replace(IMAGE, length=8192)
    assert failed(content=replace(SET, images=(longer,))) == [("local-image", "disk disk0")]
