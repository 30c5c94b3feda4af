# SPDX-License-Identifier: Apache-2.0
"""Updates of a whole host, and what they forbid: repairs, refusals, revocations, the way back, and power cuts.

The tests are one story in their order: each goes on with the host that the one before left.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from documents.host_state import Floor, UpdateJournal
from lab.publisher import Desk
from lab.refusal import refused_by_agent, unchanged
from lab.world import VM_NAME, World, copied, living, serving

GUARD = 60
"""Seconds after which an update that does not get on is taken for hung."""
EXTRA = "usr/share/qemu/never-installed.rom"


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    with serving(publisher.repository) as url, living("update", publisher, url) as world:
        world.run("update", "apply")
        yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()


def _starts(world: World) -> None:
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    world.kill_vm()


def _outcomes(world: World, event: str, last: int = 2) -> list[str]:
    return [record.outcome for record in world.trail() if record.event == event][-last:]


def _platform(world: World, change: tuple[str, str] = ("", ""), refused: str = "", memory: int = 1024) -> int:
    """Publish another platform release; gives its number."""
    recipe = world.desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=memory)
    text = recipe.read_text().replace(*change)
    recipe.write_text((f'refused = ["{refused}"]\n' if refused else "") + text)
    world.desk.release(recipe)
    newest = world.desk.repository / "targets/releases/platform"
    return max(int(path.name.split(".")[-2]) for path in newest.glob("*.[0-9]*.json"))


def test_nothing_new_changes_nothing(world: World) -> None:
    # The floor keeps the time of the newest look-up.
    with unchanged(world, "floor"):
        assert world.run("update", "apply") == "up to date\nplatform: release 1\nworkload: release 1\n"
    assert _outcomes(world, "update-apply") == ["started", "done"]
    assert world.ask("update/progress") == {"running": False, "done": 0, "total": 0}


def test_a_damaged_image_is_fetched_again_although_nothing_is_new(world: World) -> None:
    image = world.stored("image")
    good = image.read_bytes()
    image.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert refused_by_agent(world) == [("image", "disk system")]
    assert "`vmgate update apply` fetches it again" in world.run("vm", "why", VM_NAME)
    assert world.run("update", "apply").startswith("up to date\n")
    assert image.read_bytes() == good
    _starts(world)


def test_wherever_the_agent_is_killed_the_host_has_one_whole_generation(world: World) -> None:
    assert _platform(world, memory=2048) == 2
    seen = [_killed_at(world, state) for state in ("fetched", "staged", "switched")]
    assert world.generation() == {"platform": 2, "workload": 1}, seen
    assert world.run("update", "apply").startswith("up to date\n")
    _starts(world)
    world.host.power_cycle()
    world.host.start_agent()


def _killed_at(world: World, wanted: str) -> str:
    """Kill the agent when the journal says so, and start it again; gives where it really was."""
    journal = world.state_folder / "journal"
    with ThreadPoolExecutor() as pool:
        update = pool.submit(world.host.vmgate, "update", "apply")
        deadline = time.monotonic() + GUARD
        while _state(journal) != wanted and not update.done():
            assert time.monotonic() < deadline
        world.host.kill_agent()
        update.result(GUARD)
    state = _state(journal)
    world.host.start_agent()
    switched = state in ("switched", "confirmed")
    # What was switched to is confirmed once the agent found it healthy.
    while _state(journal) == "switched":
        assert time.monotonic() < deadline + GUARD
    assert world.generation() == {"platform": 2 if switched else 1, "workload": 1}
    assert _state(journal) == ("confirmed" if switched else "idle")
    switches = [subject for pcr, event, subject in world.events() if (pcr, event) == (13, "vmm-switch")]
    assert switches == (["platform/2"] if switched else [])
    return state


def _state(journal: Path) -> str:
    return UpdateJournal.parse(journal.read_bytes()).state


def test_a_release_with_a_file_that_this_host_lacks_is_refused_before_the_switch(world: World) -> None:
    package = world.desk.folder / "extra"
    (package / EXTRA).parent.mkdir(parents=True)
    (package / EXTRA).write_text("a file of a package that is not installed here\n")
    (package / "DEBIAN").mkdir()
    control = "Package: extra\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: x\n"
    (package / "DEBIAN/control").write_text(control)
    deb = world.desk.folder / "extra_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", package, deb], check=True, capture_output=True)
    assert _platform(world, ("packages = [", f'packages = ["{deb}", ')) == 3
    # The journal tells that an update was begun and abandoned.
    with unchanged(world, "floor", "journal"):
        done = world.host.vmgate("update", "apply")
        assert done.exit == 5
        assert f"platform 3 was not activated; component-now of vmm/host-files /{EXTRA}" in done.err
        assert "found nothing there" in done.err
    assert world.generation() == {"platform": 2, "workload": 1}
    assert _outcomes(world, "update-apply") == ["started", "refused"]
    _starts(world)


def test_a_revoked_image_and_one_that_is_beyond_the_policy_do_not_start(world: World) -> None:
    """The platform's publisher revokes the image and lowers the limits; the workload's publisher does nothing."""
    revoked = world.stored("image").name
    assert _platform(world, refused=revoked, memory=256) == 4
    world.run("update", "apply")
    assert world.generation() == {"platform": 4, "workload": 1}
    with unchanged(world):
        assert refused_by_agent(world) == [("refused-digest", "disk system"), ("policy", "memory in MiB")]
    done = world.host.vmgate("vm", "start", VM_NAME)
    assert done.exit == 5
    assert "refused-digest of disk system: expected not on a release's refused list" in done.err
    assert f"found sha256:{revoked}" in done.err
    why = world.run("vm", "why", VM_NAME, "-o", "json")
    findings = [f for f in json.loads(why)["verdict"]["findings"] if f["outcome"] == "fail"]
    assert [(f["expected"], f["found"]) for f in findings if f["check"] == "policy"] == [("at most 256", "512")]


def test_after_a_way_back_that_nobody_signed_the_key_stays_shut_until_a_reboot(world: World) -> None:
    said = world.run("update", "rollback")
    assert "this takes effect at the next boot; until then no VM starts" in said
    assert world.generation() == {"platform": 2, "workload": 1}
    with unchanged(world):
        assert refused_by_agent(world)[0][0] == "vmm-switch"
        assert "way out: reboot" in world.run("vm", "why", VM_NAME)
    assert _outcomes(world, "update-rollback") == ["started", "done"]
    again = world.host.vmgate("update", "apply")
    assert (again.exit, "platform 4: failed or was rolled back on this host before" in again.err) == (6, True)
    world.host.power_cycle()
    world.host.start_agent()
    _starts(world)


def test_a_release_that_is_too_far_ahead_for_a_live_switch_comes_with_the_next_boot(world: World) -> None:
    """This host left out releases 3 and 4, and a release has signed switches only from the two before it."""
    assert _platform(world, memory=1024) == 5
    said = world.run("update", "apply")
    assert "generation 4 is switched\nthis takes effect at the next boot; until then no VM starts\n" in said
    vmm = [entry for entry in world.events() if entry[0] == 13]
    for _ in range(2):
        with unchanged(world):
            assert refused_by_agent(world)[0][0] == "component-digest"
            assert "way out: reboot" in world.run("vm", "why", VM_NAME)
        assert world.host.vmgate("update", "apply").exit == 7
        # Starting the agent again within the boot changes nothing.
        world.host.kill_agent()
        world.host.start_agent()
    assert [entry for entry in world.events() if entry[0] == 13] == vmm
    world.host.power_cycle()
    world.host.start_agent()
    assert _state(world.state_folder / "journal") == "confirmed"
    assert world.generation() == {"platform": 5, "workload": 1}
    assert _outcomes(world, "update-finish") == ["started", "done"]
    _starts(world)


def test_a_floor_that_was_driven_into_the_future_sinks_with_a_rotation_and_the_trail_says_so(world: World) -> None:
    floor = world.state_folder / "floor"
    found = Floor.parse(floor.read_bytes())
    floor.write_bytes(replace(found, time=found.time + 200 * 86_400).encode())
    refusal = world.host.vmgate("update", "check")
    assert (refusal.exit, "this host has already seen" in refusal.err) == (7, True)
    world.desk.vmgate("repo", "rotate", world.desk.repository, "timestamp", "--keys", world.desk.keys)
    world.run("update", "check")
    sunk = Floor.parse(floor.read_bytes())
    assert (sunk.time <= time.time(), sunk.root, sunk.releases) == (True, found.root + 2, found.releases)
    assert _outcomes(world, "floor-time") == ["done"]
