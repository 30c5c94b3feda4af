# SPDX-License-Identifier: Apache-2.0
"""What dies while VMs start and run: agent, libvirtd, swtpm; and a clock that jumps.

What runs goes on, nothing starts ungated, and the audit trail has it all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import cut_agent
from lab.refusal import newest
from lab.world import VM_NAME, VM_UUID, World

GUARD = 60
CUT = (sys.executable, "-P", str(Path(cut_agent.__file__)))
SOME = ("measured", "told")
"""Before libvirt has the key, and after; the rest takes longer."""
MEASURED = ("measured", "variables", "noted", "given", "told")
"""Steps at which the TPM was told of the start."""


def eventually(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + GUARD
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


@pytest.fixture
def agent(world: World) -> Iterator[Callable[[str], None]]:
    """Start the agent with one difference (``lab.cut_agent``); afterwards the plain one runs."""

    def start(what: str) -> None:
        world.host.stop_agent()
        world.host.start_agent(*CUT, what)

    yield start
    world.host.kill_agent()
    world.host.start_agent()


@pytest.mark.parametrize(
    "step", [step if step in SOME else pytest.param(step, marks=pytest.mark.long) for step in cut_agent.STEPS]
)
def test_an_agent_that_dies_at_a_step_of_a_start_leaves_nothing_running(
    world: World, agent: Callable[[str], None], step: str
) -> None:
    agent(step)
    count, recorded = len(world.events()), len(world.trail())
    done = world.virsh("start", VM_NAME)
    assert done.returncode != 0
    assert "error[AG003]" in done.stderr
    assert world.vm_state() == "shut off"
    world.host.kill_agent()
    world.host.start_agent()
    assert world.secrets() == ""
    events = [(event, subject) for _, event, subject in world.events()[count:] if subject == VM_NAME]
    expected = [("vm-start", VM_NAME), ("vm-stop", VM_NAME)] if step in MEASURED else []
    assert [event for event in events if event[0] != "key-drop"] == expected
    outcomes = [record.outcome for record in world.trail()[recorded:] if record.event == "vm-start"]
    assert outcomes == ([] if step == "judged" else ["started"])
    assert world.ask("status")["faults"] == []
    world.run("vm", "start", VM_NAME)
    assert world.vm_state() == "running"


def test_libvirtd_that_is_killed_leaves_the_vm_running_and_watched(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    count = len(world.trail())
    world.libvirt.kill_libvirtd()
    assert world.ask("measure/show")["pcrs"], "the agent answers"
    world.libvirt.start_libvirtd()
    assert world.vm_state() == "running"
    eventually(lambda: [r.outcome for r in world.trail()[count:] if r.event == "vm-reconnect"] == ["done"])
    assert world.ask("status")["faults"] == []
    world.libvirt.virsh("desc", VM_NAME, "--title", "Another", "--live")
    eventually(lambda: world.vm_state() == "paused")


def test_a_tpm_that_is_killed_ends_nothing_but_itself(world: World) -> None:
    """The guest has no TPM any more. That is no start, so nobody has to say yes; the next start is judged."""
    world.run("vm", "start", VM_NAME)
    (pid,) = Path("/run/libvirt/qemu/swtpm").glob("*-swtpm.pid")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert world.vm_state() in {"running", "paused"}
    before = len([record for record in world.trail() if record.event == "vm-start"])
    world.kill_vm()
    world.run("vm", "start", VM_NAME)
    assert [record.outcome for record in world.trail() if record.event == "vm-start"][before:] == ["started", "done"]


@pytest.mark.parametrize("seconds", [-400 * 86_400, pytest.param(4_000 * 86_400, marks=pytest.mark.long)])
def test_a_clock_that_jumps_ends_no_vm_and_loses_no_record(
    world: World, agent: Callable[[str], None], seconds: int
) -> None:
    world.run("vm", "start", VM_NAME)
    count = len(world.trail())
    agent(f"clock={seconds}")
    assert world.vm_state() == "running"
    assert world.ask("status")["faults"] == []
    world.kill_vm()
    world.run("vm", "start", VM_NAME)
    records = world.trail()
    assert [(r.event, r.outcome) for r in records[count:] if r.event == "vm-start"] == [
        ("vm-start", "started"),
        ("vm-start", "done"),
    ]


def test_a_hook_that_is_called_by_hand_starts_nothing_and_leaves_no_key(world: World) -> None:
    """Root asks the gate about a VM that libvirt does not start: the yes is taken back."""
    xml = world.virsh("dumpxml", "--inactive", "--security-info", VM_NAME).stdout
    count = len(world.events())
    command = [world.libvirt.hook, VM_NAME, "prepare", "begin", "-"]
    done = subprocess.run(command, input=xml, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    eventually(lambda: VM_UUID not in world.secrets())
    eventually(lambda: world.events()[-1] == (12, "vm-stop", VM_NAME))
    assert [event for _, event, _ in world.events()[count:]] == ["vm-start", "key-drop", "vm-stop"]
    assert world.vm_state() == "shut off"
    assert newest(world, "vm-stop").outcome == "done"
    world.run("vm", "start", VM_NAME)
    assert world.ask("status")["faults"] == []


def test_the_administrators_own_hooks_run_after_ours_and_change_no_domain(world: World) -> None:
    folder = Path("/etc/libvirt/hooks/qemu.d")
    said = world.folder / "said"
    folder.mkdir()
    hook = folder / "50-site"
    hook.write_text(f'#!/bin/sh\necho "$1 $2" >> {said}\nsed s/Hello/Another/\n')
    hook.chmod(0o755)
    try:
        world.libvirt.restart_libvirtd()
        world.run("vm", "start", VM_NAME)
        assert said.read_text().splitlines() == [f"{VM_NAME} prepare", f"{VM_NAME} start", f"{VM_NAME} started"]
        assert "Another" not in world.virsh("dumpxml", VM_NAME).stdout
        assert world.ask("status")["faults"] == []
        hooks = [r for r in world.ask("measure/log")["records"] if r["subject"] == "host/libvirt-hooks"]
        assert len(hooks) > 1, "what is there now was measured before the VM"
    finally:
        hook.unlink()
        folder.rmdir()
        world.kill_vm()
        world.libvirt.restart_libvirtd()
