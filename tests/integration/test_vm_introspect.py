# SPDX-License-Identifier: Apache-2.0
"""`vmgate vm introspect` on a whole host: only what a VM's signed definition allows, and never without a record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.publisher import Desk
from lab.refusal import newest, unchanged
from lab.world import VM_NAME, VM_UUID, World, copied, folder, living, serving

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(desk: Desk) -> Iterator[World]:
    with folder("publisher-introspect") as below:
        mine = copied(desk, below)
        with serving(mine.repository) as url, living("introspect", mine, url) as world:
            world.run("update", "apply")
            yield world
            world.kill_vm()


def _audited(world: World, count: int) -> list[tuple[str, dict[str, str]]]:
    """Outcome and details of what was recorded of introspection since."""
    return [(r.outcome, dict(r.details)) for r in world.trail()[count:] if r.event == "vm-introspect"]


def _refused(world: World, words: str) -> None:
    count = len(world.trail())
    with unchanged(world):
        done = world.host.vmgate("vm", "introspect", VM_NAME)
    assert done.exit == 5, done.err
    assert done.err.startswith(f"error[HY046]: {VM_NAME} was not read; {words}")
    assert _audited(world, count) == [("refused", {"vm": VM_UUID, "view": "tasks", "why": "HY046"})]
    assert newest(world, "vm-introspect").subject == VM_NAME


def test_a_vm_is_read_where_its_definition_allows_it_and_only_from_then_on(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    _refused(world, "its signed definition does not allow it")

    more = '\n[introspection]\nbtf = "any"\n'
    world.desk.release(world.desk.write_workload(title="Hello", image="hello-1.img", accepts=(1, 9), more=more))
    world.run("update", "apply")
    # It still runs from the definition that says never.
    _refused(world, "it was started from another definition")

    world.run("vm", "kill", VM_NAME)
    off = world.host.vmgate("vm", "introspect", VM_NAME)
    assert (off.exit, "it does not run" in off.err) == (7, True)
    world.run("vm", "start", VM_NAME)
    world.host.console_until("vmgate-guest: ready", VM_NAME)

    count = len(world.trail())
    found = json.loads(world.run("vm", "introspect", VM_NAME, "-o", "json"))
    assert [task["name"] for task in found["tasks"]][:3] == ["swapper/0", "init", "kthreadd"]
    started, finished = _audited(world, count)
    assert started == ("started", {"vm": VM_UUID, "view": "tasks"})
    assert finished == (
        "done", {"vm": VM_UUID, "view": "tasks", "found": f"{len(found['tasks'])} entries, whole"}
    )  # fmt: skip

    assert "virtio_rng" in world.run("vm", "introspect", VM_NAME, "modules")
    assert "first look in this run" in world.run("vm", "introspect", VM_NAME, "integrity")
    again = world.run("vm", "introspect", VM_NAME, "integrity")
    assert "compared with the first look" in again
    assert again.count("none changed") == again.count("none outside the kernel's text") == 2
    assert world.vm_state() == "running"
    assert not _left(world)


def _left(world: World) -> list[str]:
    """Images of memory that any process still holds."""
    links = [link for link in Path("/proc").glob("[0-9]*/fd/*") if link.is_symlink()]
    found = []
    for link in links:
        try:
            target = str(link.readlink())
        except OSError:
            continue
        found += [target] if "vmgate-guest-memory" in target else []
    return found


def test_an_unknown_vm_or_view_is_refused(world: World) -> None:
    assert world.host.vmgate("vm", "introspect", "nobody").exit == 3
    assert world.host.vmgate("vm", "introspect", VM_NAME, "secrets").exit == 2
