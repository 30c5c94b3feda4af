# SPDX-License-Identifier: Apache-2.0
"""Disks that guests write, end to end: what a guest finds again after a stop, and what nobody else can slip it.

The guest of ``lab.guest_image`` tells at each boot what it finds on each disk, and leaves a word on those it can write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from documents.state_record import StateRecord
from lab.disk_vms import release_disks
from lab.publisher import Desk
from lab.world import VM_NAME, World, copied, folder, living, serving


@pytest.fixture(scope="module")
def world(desk: Desk) -> Iterator[World]:
    with folder("disks") as below:
        copy = copied(desk, below)
        release_disks(copy)
        with serving(copy.repository) as url, living("disks-host", copy, url) as world:
            world.run("update", "apply")
            yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()


def disks(world: World) -> Path:
    return world.state_folder / "vms" / VM_NAME / "disks"


def records(world: World) -> dict[str, tuple[str, int]]:
    """State and number of each record."""
    found = (StateRecord.parse(path.read_bytes()) for path in disks(world).glob("*.json"))
    return {record.disk: (record.state, record.number) for record in found}


def boot(world: World) -> dict[str, str]:
    """Boot the guest; what it found on each disk."""
    world.run("vm", "start", VM_NAME)
    text = world.host.console_until("vmgate-guest: ready", VM_NAME)
    return dict(re.findall(r"vmgate-guest: disk (vd[a-z]) had=(\S*)", text))


@pytest.mark.timeout(600)
def test_a_guest_finds_again_what_it_keeps_and_nothing_else(world: World) -> None:
    assert boot(world) == {"vda": "", "vdb": "", "vdc": ""}, "new disks are empty, and zeroed"
    assert records(world) == {"setup": ("open", 1), "data": ("open", 1)}
    world.run("vm", "stop", VM_NAME)
    assert records(world) == {"setup": ("closed", 2), "data": ("closed", 2)}
    assert sorted(path.name for path in disks(world).iterdir()) == [
        "data.persistent.json", "data.persistent.qcow2", "setup.sealed.json", "setup.sealed.qcow2",
    ], "what is ephemeral is gone"  # fmt: skip
    assert boot(world) == {"vda": "", "vdb": "written-here", "vdc": "written-here"}
    world.run("vm", "stop", VM_NAME)
    assert records(world) == {"setup": ("closed", 3), "data": ("closed", 3)}
