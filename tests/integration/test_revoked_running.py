# SPDX-License-Identifier: Apache-2.0
"""A VM runs, and an update takes its image back: it is suspended, and cannot be resumed, restored or started any more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.publisher import Desk
from lab.refusal import newest, refused_by_libvirt
from lab.world import VM_NAME, World, copied, living, serving

GUARD = 60


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host that follows a publisher of its own."""
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    with serving(publisher.repository) as url, living("revoked", publisher, url) as world:
        world.run("update", "apply")
        yield world


def eventually(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + GUARD
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def _take_back(world: World, digest: str, revocation: str) -> None:
    """A platform release that refuses a digest, and says what becomes of what runs."""
    recipe = world.desk.write_platform(
        firmware_vars="vars-1.fd", max_memory_mib=1024, more=f"\n[security_policy.revocation]\n{revocation}\n"
    )
    recipe.write_text(f'refused = ["{digest}"]\n' + recipe.read_text())
    world.desk.release(recipe)
    world.run("update", "apply")


def test_a_vm_whose_image_is_taken_back_while_it_runs_is_suspended_and_stays_so(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    shown = json.loads(world.run("vm", "show", VM_NAME, "-o", "json"))
    digest = shown["definition"]["disks"][0]["image"]
    _take_back(world, digest, 'act = "suspend"\nseconds = 0\nmessage = "Ask the desk."')
    eventually(lambda: world.vm_state() == "paused")
    eventually(lambda: newest(world, "vm-revoke").outcome == "done")
    told = [record for record in world.trail() if record.event == "vm-revoke"]
    assert [(record.outcome, record.subject) for record in told] == [("started", VM_NAME), ("done", VM_NAME)]
    assert dict(told[1].details) == {"answer": "suspend", "cause": "revoked", "seconds": "0"}

    world.virsh("resume", VM_NAME)
    eventually(lambda: len([record for record in world.trail() if record.event == "vm-revoke"]) > 2)
    eventually(lambda: world.vm_state() == "paused")

    image = world.folder / "saved"
    world.libvirt.virsh("save", VM_NAME, str(image))
    assert world.virsh("restore", str(image)).returncode != 0
    assert world.vm_state() == "shut off"
    assert ("refused-digest", "disk system") in refused_by_libvirt(world, "start", VM_NAME)


def test_what_is_not_taken_back_any_more_starts(world: World) -> None:
    """A corrected release; here, one that refuses something else."""
    _take_back(world, "ab" * 32, 'act = "kill"\nseconds = 0\nmessage = ""')
    world.run("vm", "start", VM_NAME)
    assert world.vm_state() == "running"


def test_a_policy_that_kills_kills_and_without_a_notice_at_once(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    shown = json.loads(world.run("vm", "show", VM_NAME, "-o", "json"))
    _take_back(world, shown["definition"]["disks"][0]["image"], 'act = "kill"\nseconds = 0\nmessage = ""')
    eventually(lambda: world.vm_state() == "shut off")
    eventually(lambda: newest(world, "vm-revoke").outcome == "done")
    assert dict(newest(world, "vm-revoke").details)["answer"] == "kill"
    assert newest(world, "vm-stop").subject == VM_NAME
    assert world.host.vmgate("vm", "start", VM_NAME).exit == 5
