# SPDX-License-Identifier: Apache-2.0
"""A host that updates itself: what it does by itself, what holds it back, and that it says so truthfully.

The tests are one story in their order: each goes on with the host that the one before left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from documents.unattended import UpdateContact
from lab.host import Result
from lab.publisher import Desk
from lab.refusal import unchanged
from lab.world import VM_NAME, World, copied, laid_over, living, serving

DAY = 86_400
SETTINGS = "\n[update]\nnotice_seconds = 0\nhook_seconds = 5\nmetered = 'urgent'\n"
LATE = 'waves = ["60d 100%"]\n'
"""No host is due within the first hour of that."""


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    with serving(publisher.repository) as url, living("unattended", publisher, url, SETTINGS) as world:
        yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()


def _run(world: World) -> Result:
    """What the timer does."""
    return world.host.vmgate("update", "apply", "--unattended")


def _status(world: World) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(world.host.vmgate("status", "-o", "json").out)
    return told


def _vm(world: World) -> dict[str, Any]:
    (vm,) = json.loads(world.run("vm", "list", "-o", "json"))["vms"]
    return dict(vm)


def _events(world: World, *events: str) -> list[tuple[str, str, str]]:
    return [(record.event, record.outcome, record.subject) for record in world.trail() if record.event in events]


def _publish(world: World, title: str, *, terms: str = "", restart: str = "") -> None:
    """Another workload of the same image: its definition differs by its title."""
    recipe = world.desk.write_workload(title=title, image="hello-1.img", accepts=(1, 9))
    recipe.write_text(terms + recipe.read_text())
    if restart:
        definition = world.desk.folder / "hello.toml"
        definition.write_text(f'restart = "{restart}"\n{definition.read_text()}')
    world.desk.release(recipe)


def _held(world: World, said: str) -> None:
    """Require that a run says so, exits 0, and leaves the host as it was, but for what look-ups change."""
    count = len(world.trail())
    with unchanged(world, "floor"):
        done = _run(world)
        assert (done.exit, said in done.out) == (0, True), (done.out, done.err)
    assert len(world.trail()) == count, "what was not done needs no record"


def test_the_first_run_brings_the_first_release(world: World) -> None:
    done = _run(world)
    assert done.exit == 0, done.err
    assert done.out.startswith("an update is due\nplatform: release 1\nworkload: release 1\n")
    assert world.generation() == {"platform": 1, "workload": 1}
    assert _events(world, "update-unattended") == [("update-unattended", o, "host") for o in ("started", "done")]
    assert _status(world)["paused"] == "no"
    assert world.host.vmgate("status").exit == 0


def test_when_nothing_is_new_it_says_so(world: World) -> None:
    _held(world, "up to date\n")


def test_a_pause_holds_until_it_ends_and_outlives_the_agent(world: World) -> None:
    _publish(world, "Two")
    said = world.run("update", "pause", "--days", "3", "--reason", "a fair")
    assert said.startswith("paused until ")
    world.host.stop_agent()
    world.host.start_agent()
    _held(world, f"not now: {said}")
    assert _status(world)["paused"].endswith(": a fair")
    assert world.run("update", "resume") == "resumed\n"
    pauses = _events(world, "update-pause", "update-resume")
    assert [(event, outcome) for event, outcome, _ in pauses] == [
        ("update-pause", "started"),
        ("update-pause", "done"),
        ("update-resume", "started"),
        ("update-resume", "done"),
    ]


@pytest.mark.parametrize(
    ("arguments", "exit_", "code"),
    [
        (["--days", "3"], 2, "VG002"),
        (["--reason", "x"], 2, "VG002"),
        (["--days", "91", "--reason", "x"], 2, "VG002"),
        (["--until", "2199-01-01", "--reason", "x"], 2, "AG021"),
        (["--until", "1999-01-01", "--reason", "x"], 2, "AG021"),
        (["--days", "1", "--reason", ""], 2, "AG021"),
    ],
)
def test_a_pause_without_end_or_reason_is_refused(world: World, arguments: list[str], exit_: int, code: str) -> None:
    done = world.host.vmgate("update", "pause", *arguments)
    assert (done.exit, code in done.err) == (exit_, True), done.err
    assert _status(world)["paused"] == "no"


@contextmanager
def _hook(world: World, event: str, script: str, mode: int = 0o755) -> Iterator[Path]:
    folder = world.root / f"etc/vmgate/hooks/{event}.d"
    for place in (folder.parent, folder):
        place.mkdir(mode=0o755, exist_ok=True)
    hook = folder / "10-site"
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(mode)
    try:
        yield hook
    finally:
        hook.unlink()


@pytest.mark.parametrize(
    ("script", "mode", "exit_", "cause", "outcome"),
    [
        ("exit 3", 0o755, 6, "it exited 3", "failed"),
        ("sleep 600", 0o755, 6, "it was ended after 5 seconds", "failed"),
        ("exit 0", 0o777, 5, "others can write to it", "refused"),
    ],
)
def test_a_hook_before_can_stop_it(world: World, script: str, mode: int, exit_: int, cause: str, outcome: str) -> None:
    with unchanged(world, "floor"), _hook(world, "update-before", script, mode):
        done = _run(world)
        assert (done.exit, cause in done.err) == (exit_, True), done.err
    assert _events(world, "update-hook")[-1][1] == outcome
    assert len(_events(world, "update-unattended")) == 2, "no update was begun"


def test_a_running_vm_and_what_is_installed_differ_until_it_is_restarted(world: World) -> None:
    """Workload 2 leaves it to the next stop, and a hook that fails afterwards rolls nothing back."""
    world.run("vm", "start", VM_NAME)
    image = f"sha256:{world.stored('image').name}"
    before = _vm(world)
    assert (before["running"]["number"], before["installed"]["number"], before["outdated"]) == (1, 1, False)
    said = world.folder / "said"
    script = f'echo "$VMGATE_RELEASES: $VMGATE_RESULT" > {said}; exit 1'
    with _hook(world, "update-after", script):
        done = _run(world)
    assert done.exit == 0, done.err
    assert "warning: error[AG018]: the hook 10-site failed; " in done.out
    assert said.read_text() == "platform 1, workload 2: done\n"
    assert world.generation() == {"platform": 1, "workload": 2}
    assert _events(world, "update-hook")[-1] == ("update-hook", "failed", "update-after/10-site")
    after = _vm(world)
    assert (after["running"]["number"], after["installed"]["number"], after["outdated"]) == (1, 2, True)
    assert "workload 1 on platform 1; restart: at-next-stop" in world.run("vm", "list")
    assert f"runs image  system {image}" in world.run("vm", "show", VM_NAME)
    (told,) = _status(world)["vms"]
    assert (told["running"], told["installed"], told["outdated"]) == (after["running"], after["installed"], True)
    assert "runs workload 1 on platform 1 until it is restarted; installed workload 2 " in world.run("status")
    assert "restarted" not in _run(world).out
    world.host.stop_agent()
    world.host.start_agent()
    assert _vm(world)["running"]["number"] == 1, "another agent knows it too"
    world.kill_vm()
    assert _vm(world)["running"] is None
    world.run("vm", "start", VM_NAME)
    assert (_vm(world)["running"]["number"], _vm(world)["outdated"]) == (2, False)


def test_a_vm_that_is_to_run_it_now_is_told_and_restarted_through_the_gate(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    world.host.console_until("vmgate-guest: ready", VM_NAME)
    _publish(world, "Three", restart="now")
    said = world.folder / "said"
    with _hook(world, "vm-restart", f'echo "$VMGATE_VM $VMGATE_RELEASES $VMGATE_SECONDS" > {said}'):
        done = _run(world)
    assert done.exit == 0, done.err
    assert f"{VM_NAME}: restarted\n" in done.out
    assert said.read_text() == f"{VM_NAME} workload 3 on platform 1 0\n"
    assert (_vm(world)["running"]["number"], _vm(world)["outdated"]) == (3, False)
    assert [o for _, o, s in _events(world, "vm-restart") if s == VM_NAME] == ["started", "done"]
    starts = [subject for _, event, subject in world.events() if event == "vm-start"]
    assert starts.count(VM_NAME) == 4, "each start was measured"


def test_a_wave_holds_a_host_back_but_not_its_administrator(world: World) -> None:
    _publish(world, "Four", terms=LATE)
    checked = json.loads(world.run("update", "check", "-o", "json"))["releases"]
    (offer,) = (item for item in checked if item["channel"] == "workload")
    assert (offer["active"], offer["offered"]) == (3, 4)
    assert time.time() < offer["due"] <= time.time() + 60 * DAY
    due = datetime.fromtimestamp(offer["due"]).astimezone()
    _held(world, f"not now: its wave reaches this host at {due:%Y-%m-%d %H:%M}")
    said = world.run("update", "apply")
    assert "workload 4: its wave reaches this host at " in said
    assert "a command does not wait for it" in said
    assert world.generation()["workload"] == 4


def test_a_bundle_is_not_held_back_by_a_wave(world: World) -> None:
    _publish(world, "Five", terms=LATE)
    stick = world.folder / "stick"
    world.desk.bundle(stick)
    world.run("update", "import", stick)
    assert world.generation()["workload"] == 5


def test_a_metered_connection_holds_it_back(world: World) -> None:
    _publish(world, "Six")
    with laid_over(Path("/usr/bin/busctl"), b"#!/bin/sh\necho u 1\n", world.folder):
        _held(world, "not now: the connection is metered\n")


def test_outside_its_window_only_what_is_urgent_comes_and_a_pause_holds_even_that(world: World) -> None:
    opening = datetime.now().astimezone() + timedelta(hours=3)
    window = f"{opening:%H}:00-{opening + timedelta(hours=1):%H}:00"
    settings = world.root / "etc/vmgate/vmgate.toml"
    settings.write_text(settings.read_text() + f'windows = ["{window}"]\n')
    world.host.power_cycle()
    world.host.start_agent()
    _held(world, f"not now: window opens at {opening:%Y-%m-%d %H}:00")
    _publish(world, "Seven", terms="urgent = true\n")
    assert "now, urgent" in world.run("update", "check")
    world.run("update", "pause", "--days", "1", "--reason", "a fair")
    _held(world, "not now: paused until ")
    world.run("update", "resume")
    with laid_over(Path("/usr/bin/busctl"), b"#!/bin/sh\necho u 1\n", world.folder):
        assert _run(world).exit == 0
    assert world.generation()["workload"] == 7


def test_a_vm_that_is_to_wait_for_its_window_waits_unless_what_is_installed_is_urgent(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    _publish(world, "Eight", restart="window")
    world.run("update", "apply")
    assert _run(world).out == "up to date\n"
    assert "workload 7 on platform 1; restart: window" in world.run("vm", "list")
    world.host.console_until("vmgate-guest: ready", VM_NAME)
    _publish(world, "Nine", terms="urgent = true\n", restart="window")
    done = _run(world)
    assert (done.exit, f"{VM_NAME}: restarted\n" in done.out) == (0, True), (done.out, done.err)
    assert _vm(world)["running"]["number"] == 9


def test_a_vm_that_cannot_be_stopped_goes_on_and_is_told(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    _publish(world, "Ten", terms="urgent = true\n", restart="now")
    world.libvirt.virsh("suspend", VM_NAME)
    done = _run(world)
    assert done.exit == 0, done.err
    assert f"{VM_NAME}: error[HY000]: {VM_NAME} was not stopped; " in done.out
    assert world.vm_state() == "paused", "nothing was switched off"
    assert (_vm(world)["running"]["number"], _vm(world)["outdated"]) == (9, True)
    assert _events(world, "vm-restart")[-1] == ("vm-restart", "failed", VM_NAME)


@pytest.mark.parametrize(("part", "besides"), [("metadata", []), ("blobs", ["floor"])])
def test_a_repository_that_is_kept_from_a_host_becomes_an_alarm(world: World, part: str, besides: list[str]) -> None:
    """Whoever drops its requests breaks nothing: it shows as silence, once in the trail, until the next word.

    Nor does it help to let the look-up through and drop only what is to be fetched.
    """
    _publish(world, f"Without {part}", terms="urgent = true\n")
    kept = world.desk.repository / part
    hidden = kept.rename(world.desk.repository / "hidden")
    before = [record for record in world.trail() if record.event == "update-silence"]
    with unchanged(world, *besides):
        done = _run(world)
        assert (done.exit, "AG020" in done.err) == (3, False), done.err
        assert world.host.vmgate("status").exit == 0, "not for so long yet"
    contact = world.state_folder / "update-contact"
    last = UpdateContact.parse(contact.read_bytes()).time - 8 * DAY
    contact.write_bytes(UpdateContact(time=last, heard=True, told=False).encode())
    with unchanged(world, *besides):
        for _ in range(2):
            done = _run(world)
            assert done.exit == 7
            assert "error[AG020]: updates were out of reach for more than 7 days; " in done.err
        status = world.host.vmgate("status")
        assert status.exit == 7
        assert "ALARM" in status.out
    alarms = [record for record in world.trail() if record.event == "update-silence"]
    assert [dict(record.details) for record in alarms[len(before) :]] == [{"days": "7", "last": str(last)}]
    hidden.rename(kept)
    assert _run(world).exit == 0
    assert world.host.vmgate("status").exit == 0
