# SPDX-License-Identifier: Apache-2.0
"""A generation is confirmed only when what worked before works again; one that fails is left and remembered.

The tests are one story in their order: each goes on with the host that the one before left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import AgentSaid
from documents.errors import Exit
from documents.host_state import UpdateJournal
from documents.trial import UpdateTrial
from lab.publisher import Desk
from lab.refusal import newest, unchanged
from lab.world import VM_NAME, World, copied, living, serving
from updater.client.trials import MOST_TRIES

GUARD = 60
"""Seconds after which what should come by itself is taken for hung."""
SETTINGS = "[update]\nhealth_seconds = 5\nhook_seconds = 30\n"


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    with serving(publisher.repository) as url, living("health", publisher, url, SETTINGS) as world:
        world.run("update", "apply")
        yield world
        world.kill_vm()


def _hook(world: World, text: str) -> Path:
    """What the administrator looks at after an update."""
    folder = world.root / "etc/vmgate/hooks/update-health.d"
    folder.mkdir(parents=True, exist_ok=True)
    hook = folder / "look"
    hook.write_text(f"#!/bin/sh\n{text}\n")
    hook.chmod(0o755)
    return hook


def _release(world: World, title: str) -> None:
    """Another workload release, so that nothing of the platform waits for a reboot."""
    world.desk.release(world.desk.write_workload(title=title, image="hello-1.img", accepts=(1, 9)))


def _journal(world: World) -> UpdateJournal:
    return UpdateJournal.parse((world.state_folder / "journal").read_bytes())


def test_a_healthy_update_is_confirmed_and_its_trial_forgotten(world: World) -> None:
    world.ask("vm/start", name=VM_NAME)
    _release(world, "healthy")
    hook = _hook(world, 'echo "$VMGATE_EVENT $VMGATE_RELEASES" > "$(dirname "$0")/../said"')
    world.run("update", "apply")
    assert (hook.parent.parent / "said").read_text() == "update-health platform 1, workload 2\n"
    assert _journal(world).state == "confirmed"
    assert not (world.state_folder / "update-trial").exists()
    assert world.vm_state() == "running"


def test_one_that_a_hook_does_not_call_healthy_is_left_and_not_offered_again(world: World) -> None:
    _release(world, "unhealthy")
    _hook(world, "exit 3")
    before = _journal(world)
    with unchanged(world, "journal", "floor"):
        done = world.host.vmgate("update", "apply")
    assert (done.exit, "error[AG181]: generation 3 was left; " in done.err) == (Exit.REFUSED, True), done.err
    after = _journal(world)
    assert (after.state, after.generation, len(after.refused)) == ("idle", before.generation, 1)
    assert world.generation() == {"platform": 1, "workload": 2}
    failed = newest(world, "update-health")
    assert (failed.outcome, dict(failed.details)["generation"]) == ("failed", "3")
    assert "it exited 3" in dict(failed.details)["cause"]
    assert newest(world, "update-apply").outcome == "refused"
    # It stays away by itself, also once the hook agrees.
    _hook(world, "exit 0")
    assert world.ask("update/unattended")["acted"] is False
    again = world.host.vmgate("update", "apply")
    assert (again.exit, "failed or was rolled back on this host before" in again.err) == (Exit.POLICY, True)


def test_one_under_which_a_vm_that_ran_would_not_start_is_left(world: World) -> None:
    """The release wants more memory than the platform's policy lets a VM have; its publisher was not told of that."""
    desk = world.desk
    desk.release(desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=4096))
    large = desk.write_workload(title="too large", image="hello-1.img", accepts=(1, 9), memory_mib=2000)
    desk.release(large)
    desk.release(desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024))
    with pytest.raises(AgentSaid) as refusal:
        world.ask("update/apply")
    assert "policy of memory in MiB: expected at most 1024, found 2000" in refusal.value.line()
    assert world.generation() == {"platform": 1, "workload": 2}
    assert world.vm_state() == "running"
    world.kill_vm()


def test_a_power_cut_in_a_trial_begins_it_again_and_one_cut_too_often_is_given_up(world: World) -> None:
    world.host.power_cycle()
    world.host.start_agent()
    _release(world, "cut")
    begun = world.folder / "begun"
    _hook(world, f"touch {begun}; exec sleep 20")
    with ThreadPoolExecutor() as pool:
        update = pool.submit(world.host.vmgate, "update", "apply")
        _until(begun.exists)
        world.host.kill_agent()
        update.result(GUARD)
    for tries in range(2, MOST_TRIES + 1):
        begun.unlink()
        world.host.start_agent()
        _until(begun.exists)
        assert UpdateTrial.parse((world.state_folder / "update-trial").read_bytes()).begun == tries
        assert _journal(world).state == "switched"
        world.host.power_cycle()
    refused = len(_journal(world).refused)
    world.host.start_agent()
    assert (_journal(world).state, len(_journal(world).refused)) == ("idle", refused + 1)
    assert newest(world, "update-finish").outcome == "refused"
    assert dict(newest(world, "update-finish").details)["code"] == "AG181"
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    world.kill_vm()


def test_after_a_cut_a_healthy_one_is_confirmed_without_anybody(world: World) -> None:
    _release(world, "cut once")
    begun = world.folder / "begun"
    begun.unlink()
    _hook(world, f"[ -e {begun} ] || {{ touch {begun}; exec sleep 20; }}")
    with ThreadPoolExecutor() as pool:
        update = pool.submit(world.host.vmgate, "update", "apply")
        _until(begun.exists)
        world.host.kill_agent()
        update.result(GUARD)
    world.host.start_agent()
    _until(lambda: _journal(world).state == "confirmed")
    assert not (world.state_folder / "update-trial").exists()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GUARD
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
