# SPDX-License-Identifier: Apache-2.0
"""A VM runs and an update takes back what it was started from: it ends as policy says, and does not come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.audit import AuditTrail
from agent.leases import Leases, Moment, Terms
from agent.paths import HostPaths
from content.locks import BOOT_ID
from documents.audit import AuditRecord
from lab.publisher import VM_UUID, Desk
from lab.refusal import refused_by_agent
from lab.world import VM_NAME, World, copied, living, serving
from measure.tpm import Tpm

GUARD = 60


@pytest.fixture(scope="module", params=["suspend", pytest.param("kill", marks=pytest.mark.long)])
def act(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory, act: str) -> Iterator[World]:
    """A host whose policy gives no notice, and that follows a publisher of its own."""
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    more = f'\n[security_policy.revocation]\nact = "{act}"\nseconds = 0\nmessage = "Ask the desk."\n'
    publisher.release(publisher.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more=more))
    with serving(publisher.repository) as url, living("revoked", publisher, url) as world:
        world.run("update", "apply")
        yield world


def eventually(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + GUARD
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def _told(world: World) -> list[AuditRecord]:
    return [record for record in world.trail() if record.event == "vm-revoke"]


def test_what_is_taken_back_while_it_runs_ends_as_policy_says(world: World, act: str) -> None:
    world.run("vm", "start", VM_NAME)
    started = next(r for r in reversed(world.ask("measure/log")["records"]) if r["event"] == "vm-start")
    assert _told(world) == []
    recipe = world.desk.write_workload(title="Hello again", image="hello-1.img", accepts=(1, 9))
    recipe.write_text(f'refused = ["{started["fsverity"]}"]\n' + recipe.read_text())
    world.desk.release(recipe)
    world.run("update", "apply")
    eventually(lambda: world.vm_state() == {"suspend": "paused", "kill": "shut off"}[act])
    eventually(lambda: _told(world) and _told(world)[-1].outcome == "done")
    assert [(record.outcome, record.subject) for record in _told(world)] == [("started", VM_NAME), ("done", VM_NAME)]
    assert dict(_told(world)[-1].details) == {"answer": act, "cause": "revoked", "seconds": "0"}


def test_it_is_neither_resumed_nor_restored(world: World, act: str) -> None:
    if act == "suspend":
        count = len(_told(world))
        world.virsh("resume", VM_NAME)
        eventually(lambda: len(_told(world)) > count)
        eventually(lambda: world.vm_state() == "paused")
        image = world.folder / "saved"
        world.libvirt.virsh("save", VM_NAME, str(image))
        done = world.virsh("restore", str(image))
        assert done.returncode != 0
        assert "error[AG011]" in done.stderr
    assert world.vm_state() == "shut off"
    eventually(lambda: [r for r in world.trail() if r.event == "vm-stop"])


def test_what_took_its_place_starts_and_goes_on(world: World) -> None:
    count = len(_told(world))
    world.run("vm", "start", VM_NAME)
    world.host.kill_agent()
    world.host.start_agent()
    assert world.ask("status")["faults"] == []
    assert world.vm_state() == "running"
    assert len(_told(world)) == count


def grant(world: World, terms: Terms) -> None:
    """What a fleet's word would do, between two agents."""
    world.host.stop_agent()
    paths = HostPaths(world.root)
    with Tpm.open(world.host.tpm.tcti) as tpm:
        clock = tpm.clock()
        now = Moment(clock=clock.clock, resets=clock.reset_count, time=int(time.time()))
        audit = AuditTrail(paths.audit, lambda: now.time, BOOT_ID.read_text().strip())
        Leases(paths, audit, lambda: now).grant(VM_NAME, VM_UUID, terms, "test")
    world.host.start_agent()


def test_a_lease_that_is_over_takes_a_vm_back_and_another_gives_it_again(world: World, act: str) -> None:
    count = len(_told(world))
    grant(world, Terms(seconds=100_000, boots=2))
    assert world.vm_state() == "running"
    assert len(_told(world)) == count
    grant(world, Terms(seconds=0, boots=2))
    eventually(lambda: world.vm_state() == {"suspend": "paused", "kill": "shut off"}[act])
    eventually(lambda: len(_told(world)) == count + 2)
    assert dict(_told(world)[-1].details) == {"answer": act, "cause": "lease", "seconds": "0"}
    world.kill_vm()
    eventually(lambda: world.vm_state() == "shut off")
    assert refused_by_agent(world) == [("taken-back", VM_NAME)]
    count = len(_told(world))
    grant(world, Terms(seconds=100_000, boots=2, until=int(time.time()) - 1))
    eventually(
        lambda: len(_told(world)) > count and _told(world)[-1].outcome == "done"
    )  # what a new agent finds over, it drops the keys of
    assert refused_by_agent(world) == [("taken-back", VM_NAME)]
    grant(world, Terms(seconds=100_000, boots=0))
    world.run("vm", "start", VM_NAME)
    world.kill_vm()


@pytest.mark.long
def test_a_lease_ends_with_its_boots(world: World) -> None:
    count = len(_told(world))
    world.host.power_cycle()
    world.libvirt.restart_libvirtd()
    world.host.start_agent()
    eventually(lambda: len(_told(world)) > count and _told(world)[-1].outcome == "done")
    assert refused_by_agent(world) == [("taken-back", VM_NAME)]
