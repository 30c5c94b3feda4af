# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a VM, end to end: what a guest finds after going back, and what nobody can slip it that way.

The tests are one story and run in order.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import AgentSaid
from documents.errors import Exit
from lab.disk_vms import OTHER_NAME, release_disks
from lab.publisher import Desk
from lab.refusal import newest, refused_by_agent, unchanged
from lab.world import VM_NAME, World, copied, folder, living, serving


@pytest.fixture(scope="module")
def world(desk: Desk) -> Iterator[World]:
    with folder("checkpoints") as below:
        copy = copied(desk, below)
        release_disks(copy)
        with serving(copy.repository) as url, living("checkpoints-host", copy, url) as world:
            world.run("update", "apply")
            yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    for name in (VM_NAME, OTHER_NAME):
        world.virsh("destroy", name)


def own(world: World, vm: str = VM_NAME) -> Path:
    return world.state_folder / "vms" / vm


def settled(world: World, vm: str = VM_NAME) -> None:
    """Wait until libvirt knows the VM's next generation id: to be told of it during a start would hold it up."""
    deadline = time.monotonic() + 60
    while (own(world, vm) / "generation-id").read_text() not in world.virsh("dumpxml", "--inactive", vm).stdout:
        assert time.monotonic() < deadline, "libvirt was never told"
        time.sleep(0.2)


def start_paused(world: World, vm: str = VM_NAME) -> None:
    settled(world, vm)
    done = world.virsh("start", "--paused", vm)
    assert done.returncode == 0, done.stderr


def pass_gate(world: World, vm: str = VM_NAME) -> None:
    start_paused(world, vm)
    settled(world, vm)
    assert world.virsh("destroy", vm).returncode == 0


def boot(world: World) -> tuple[dict[str, str], str, str]:
    """Boot the guest, and stop it: what it found on each disk, what it drew, and with which generation id it ran."""
    generation = (own(world) / "generation-id").read_text()
    world.run("vm", "start", VM_NAME)
    text = world.host.console_until("vmgate-guest: ready", VM_NAME)
    world.run("vm", "stop", VM_NAME)
    (drawn,) = re.findall(r"vmgate-guest: hwrng=([0-9a-f]{32})", text)
    return dict(re.findall(r"vmgate-guest: disk (vd[a-z]) had=(\S*)", text)), drawn, generation


def refused(world: World, number: int = 1, code: str = "AG205", name: str = VM_NAME) -> str:
    """Try to go back, and require a refusal that is recorded and leaves everything as it was."""
    kept = {path: path.read_bytes() for path in sorted(own(world, name).rglob("*")) if path.is_file()}
    with unchanged(world), pytest.raises(AgentSaid) as refusal:
        world.ask("vm/restore", name=name, number=str(number))
    said = refusal.value.line()
    assert (said.startswith(f"error[{code}]"), refusal.value.status) == (True, Exit.REFUSED), said
    record = newest(world, "vm-restore")
    assert (record.outcome, dict(record.details)["code"], dict(record.details)["number"]) == (
        "refused", code, str(number),
    )  # fmt: skip
    assert kept == {path: path.read_bytes() for path in sorted(own(world, name).rglob("*")) if path.is_file()}
    return said


@contextmanager
def with_file(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    yield
    path.write_bytes(before)


@pytest.mark.timeout(900)
def test_two_runs_from_one_checkpoint_find_the_same_and_draw_nothing_alike(world: World) -> None:
    with pytest.raises(AgentSaid, match="never started"):
        world.ask("vm/checkpoint", name=VM_NAME)
    pass_gate(world)
    assert world.run("vm", "checkpoint", VM_NAME) == f"checkpoint 1 of {VM_NAME} made\n"
    note = (own(world) / "vtpm.json").read_bytes()
    first, drawn, generation = boot(world)
    assert world.ask("vm/checkpoint", name=VM_NAME)["number"] == 2

    assert world.run("vm", "restore", VM_NAME, "1", "-y") == f"{VM_NAME} is as it was at checkpoint 1\n"
    again, drawn_again, generation_again = boot(world)
    assert first == again == {"vda": "", "vdb": "", "vdc": ""}, "what the first run wrote is gone"
    assert drawn != drawn_again
    assert generation != generation_again
    assert (own(world) / "vtpm.json").read_bytes() == note, "its TPM is the one that it had"
    done = newest(world, "vm-restore")
    assert (done.outcome, dict(done.details)["number"]) == ("done", "1")


def test_each_way_back_shuts_out_what_was_before(world: World, tmp_path: Path) -> None:
    """Whoever copies back the disks of before a restore, records and all, is found by their numbers."""
    shutil.copytree(own(world) / "disks", tmp_path / "before")
    world.ask("vm/restore", name=VM_NAME, number="2")
    shutil.copytree(own(world) / "disks", tmp_path / "after")
    shutil.rmtree(own(world) / "disks")
    shutil.copytree(tmp_path / "before", own(world) / "disks")
    with unchanged(world):
        assert refused_by_agent(world) == [("disk-state", "disk setup"), ("disk-state", "disk data")]
    shutil.rmtree(own(world) / "disks")
    shutil.copytree(tmp_path / "after", own(world) / "disks")
    pass_gate(world)


def test_a_checkpoint_that_was_changed_brings_nothing_back(world: World, tmp_path: Path) -> None:
    place = own(world) / "checkpoints/1"
    for name in ("disk@setup", "disk@data", "record@data", "vtpm"):
        content = (place / name).read_bytes()
        with with_file(place / name, content[:-1] + bytes([content[-1] ^ 1])):
            assert name.replace("@", "/") in refused(world)
    listed = (place / "checkpoint.json").read_bytes()
    second = (own(world) / "checkpoints/2/checkpoint.json").read_bytes()
    with with_file(place / "checkpoint.json", listed.replace(b'"time":1', b'"time":2')):
        assert "not written by this host" in refused(world)
    with with_file(place / "checkpoint.json", second):
        assert "not the checkpoint 1" in refused(world)
    pass_gate(world, OTHER_NAME)
    world.ask("vm/checkpoint", name=OTHER_NAME)
    shutil.copytree(own(world, OTHER_NAME) / "checkpoints/1", tmp_path / "other")
    place.rename(tmp_path / "own")
    shutil.copytree(tmp_path / "other", place)
    assert "not written by this host for this VM" in refused(world)
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "own", place)
    world.ask("vm/restore", name=VM_NAME, number="1")
    pass_gate(world)


def test_a_way_back_that_was_cut_off_keeps_the_vm_off_until_it_is_gone_again(world: World) -> None:
    (own(world) / "restoring").write_text("2")
    with unchanged(world):
        assert refused_by_agent(world) == [("vm-tpm", VM_NAME)]
    world.ask("vm/restore", name=VM_NAME, number="2")
    pass_gate(world)


def test_a_vm_that_runs_has_neither_made(world: World) -> None:
    start_paused(world)
    for verb, more in (("vm/checkpoint", {}), ("vm/restore", {"number": "1"})):
        with pytest.raises(AgentSaid, match="it runs"):
            world.ask(verb, name=VM_NAME, **more)


def test_one_that_was_given_up_is_gone_and_its_number_does_not_come_again(world: World) -> None:
    world.run("vm", "checkpoint", VM_NAME, "--remove", "2")
    assert [one["number"] for one in world.ask("vm/checkpoints", name=VM_NAME)["checkpoints"]] == [1]
    with pytest.raises(AgentSaid, match="no checkpoint 2"):
        world.ask("vm/restore", name=VM_NAME, number="2")
    assert world.ask("vm/checkpoint", name=VM_NAME)["number"] == 3
    assert "NUMBER" in world.run("vm", "checkpoints", VM_NAME)
