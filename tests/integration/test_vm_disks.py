# SPDX-License-Identifier: Apache-2.0
"""Disks that guests write, end to end: what a guest finds again after a stop, and what nobody else can slip it.

The guest of ``lab.guest_image`` tells at each boot what it finds on each disk, and leaves a word on those it can write.
Where only the gate is asked, the VM is started paused: then the guest writes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import AgentSaid
from documents.errors import Exit
from documents.state_record import StateRecord
from hypervisor.qcow2 import DIRTY, parse_header
from lab.disk_vms import DISKS, OTHER_NAME, release_disks
from lab.publisher import Desk
from lab.refusal import newest, refused_by_agent, refused_by_libvirt, unchanged
from lab.world import VM_NAME, World, copied, folder, living, serving

SEALED, DATA = "setup.sealed", "data.persistent"


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
    for name in (VM_NAME, OTHER_NAME):
        world.virsh("destroy", name)


def disks(world: World, vm: str = VM_NAME) -> Path:
    return world.state_folder / "vms" / vm / "disks"


def records(world: World) -> dict[str, tuple[str, int]]:
    """State and number of each record."""
    found = (StateRecord.parse(path.read_bytes()) for path in disks(world).glob("*.json"))
    return {record.disk: (record.state, record.number) for record in found}


def boot(world: World) -> dict[str, str]:
    """Boot the guest; what it found on each disk."""
    world.run("vm", "start", VM_NAME)
    text = world.host.console_until("vmgate-guest: ready", VM_NAME)
    return dict(re.findall(r"vmgate-guest: disk (vd[a-z]) had=(\S*)", text))


def pass_gate(world: World, vm: str = VM_NAME) -> None:
    """Start the VM without letting the guest run, and switch it off."""
    done = world.virsh("start", "--paused", vm)
    assert done.returncode == 0, done.stderr
    assert world.virsh("destroy", vm).returncode == 0


def kill_qemu(vm: str = VM_NAME) -> None:
    os.kill(int(Path(f"/run/libvirt/qemu/{vm}.pid").read_text()), signal.SIGKILL)


def crashes(world: World) -> list[tuple[str, dict[str, str]]]:
    """What was recorded of disks that were not closed."""
    found = [dict(record.details) for record in world.trail() if record.event == "disk-crash"]
    return [(details["disk"], details) for details in found]


def everything(world: World) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(disks(world).iterdir()) if path.is_file()}


@pytest.mark.timeout(900)
def test_a_guest_finds_again_what_it_keeps_and_nothing_else(world: World) -> None:
    assert boot(world) == {"vda": "", "vdb": "", "vdc": ""}, "new disks are empty, and zeroed"
    assert records(world) == {"setup": ("open", 1), "data": ("open", 1)}
    assert (disks(world) / "system.ephemeral.qcow2").stat().st_mode & 0o777 == 0o600
    assert world.secrets() == "", "the keys of TPM and disk are gone from libvirt"
    assert b"written-here" not in (disks(world) / f"{DATA}.qcow2").read_bytes()
    assert b"written-here" in (disks(world) / f"{SEALED}.qcow2").read_bytes()

    kill_qemu()
    while world.vm_state() != "shut off":
        time.sleep(0.1)
    assert parse_header((disks(world) / f"{SEALED}.qcow2").read_bytes()[:65536]).incompatible & DIRTY
    assert records(world) == {"setup": ("open", 1), "data": ("open", 1)}
    assert "system.ephemeral.qcow2" not in everything(world), "what is ephemeral is gone"
    with unchanged(world):
        assert refused_by_agent(world) == [("disk-state", "disk setup")]
    assert f"`vmgate vm accept {VM_NAME}`" in world.run("vm", "why", VM_NAME)
    assert world.run("vm", "accept", VM_NAME).startswith("accepted disk setup as it is now; ")
    assert dict(newest(world, "disk-accept").details)["disk"] == "setup"

    assert boot(world) == {"vda": "", "vdb": "written-here", "vdc": "written-here"}
    assert [disk for disk, details in crashes(world)] == ["data"], "allowed, and recorded"
    world.run("vm", "stop", VM_NAME)
    assert {state for state, _ in records(world).values()} == {"closed"}
    told = [r for r in world.trail() if (r.event, r.outcome, r.subject) == ("disk-state", "done", VM_NAME)]
    assert {(dict(r.details)["disk"], int(dict(r.details)["number"])) for r in told} == {
        (disk, number) for disk, (_, number) in records(world).items()
    }
    pass_gate(world)


def test_a_good_host_starts_both(world: World) -> None:
    """The story before the attacks: two runs of each VM, so that there is an older state to copy back."""
    pass_gate(world)
    shutil.copytree(disks(world), world.folder / "older")
    pass_gate(world)
    pass_gate(world, OTHER_NAME)
    assert {state for state, _ in records(world).values()} == {"closed"}


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def _name_another_base(world: World, place: Path) -> None:
    path = place / f"{SEALED}.qcow2"
    data = path.read_bytes()
    name = parse_header(data[:65536]).backing_file or ""
    path.write_bytes(data.replace(name.encode(), b"/etc/shadow".ljust(len(name), b"/"), 1))


def _by_link(world: World, place: Path) -> None:
    path = place / f"{SEALED}.qcow2"
    path.rename(world.folder / "moved.qcow2")
    path.symlink_to(world.folder / "moved.qcow2")


def _second_name(world: World, place: Path) -> None:
    os.link(place / f"{SEALED}.qcow2", world.folder / "second-name.qcow2")


def _folder_by_link(world: World, place: Path) -> None:
    place.rename(world.folder / "moved")
    place.symlink_to(world.folder / "moved")


def _grafted(world: World, place: Path) -> None:
    """The key area of another VM's disk, and so its key, over the data of this one."""
    mine, theirs = place / f"{DATA}.qcow2", disks(world, OTHER_NAME) / f"{DATA}.qcow2"
    head, tail = theirs.read_bytes(), mine.read_bytes()
    mine.write_bytes(head[: 36 * 65536] + tail[36 * 65536 :])


def _older(*names: str) -> Callable[[World, Path], None]:
    def attack(world: World, place: Path) -> None:
        for name in names:
            shutil.copy2(world.folder / "older" / name, place / name)

    return attack


def _others(name: str) -> Callable[[World, Path], None]:
    return lambda world, place: shutil.copy2(disks(world, OTHER_NAME) / name, place / name)


def _gone(*names: str) -> Callable[[World, Path], None]:
    def attack(_: World, place: Path) -> None:
        for name in names:
            (place / name).unlink()

    return attack


SETUP, STORED = "disk setup", "disk data"
ATTACKS: dict[str, tuple[Callable[[World, Path], None], list[tuple[str, str]]]] = {
    "a byte of the overlay": (lambda _, place: _flip(place / f"{SEALED}.qcow2", -1), [("disk-state", SETUP)]),
    "another image named in the overlay": (_name_another_base, [("disk-chain", SETUP)]),
    "the overlay is a link": (_by_link, [("disk-chain", SETUP)]),
    "the overlay has a second name": (_second_name, [("disk-chain", SETUP)]),
    "the overlay is open to all": (lambda _, place: (place / f"{SEALED}.qcow2").chmod(0o666), [("disk-chain", SETUP)]),
    "the data disk is open to all": (lambda _, place: (place / f"{DATA}.qcow2").chmod(0o644), [("disk-chain", STORED)]),
    "the folder is a link": (
        _folder_by_link,
        [("disk-chain", "disk system"), ("disk-chain", SETUP), ("disk-chain", STORED)],
    ),
    "the record is gone": (_gone(f"{SEALED}.json"), [("disk-state", SETUP)]),
    "the record of the data disk is gone": (_gone(f"{DATA}.json"), [("disk-state", STORED)]),
    "the disk is gone": (_gone(f"{DATA}.qcow2"), [("disk-state", STORED)]),
    "disk and record are gone": (_gone(f"{SEALED}.json", f"{SEALED}.qcow2"), [("disk-state", SETUP)]),
    "the record of another VM": (_others(f"{SEALED}.json"), [("disk-state", SETUP)]),
    "the data disk of another VM": (_others(f"{DATA}.qcow2"), [("disk-state", STORED)]),
    "disk and record of another VM": (
        lambda world, place: [_others(name)(world, place) for name in (f"{DATA}.qcow2", f"{DATA}.json")],
        [("disk-state", STORED)],
    ),
    "the key area of another VM": (_grafted, [("disk-state", STORED)]),
    "an older record": (_older(f"{SEALED}.json"), [("disk-state", SETUP)]),
    "an older data disk": (_older(f"{DATA}.qcow2"), [("disk-state", STORED)]),
    "an older disk with its record": (_older(f"{DATA}.qcow2", f"{DATA}.json"), [("disk-state", STORED)]),
    "an older state of all": (
        _older(f"{DATA}.qcow2", f"{DATA}.json", f"{SEALED}.qcow2", f"{SEALED}.json"),
        [("disk-state", SETUP), ("disk-state", STORED)],
    ),
    "a record that is none": (lambda _, place: (place / f"{SEALED}.json").write_bytes(b"{}"), [("disk-state", SETUP)]),
    "a record that was edited": (
        lambda _, place: (place / f"{SEALED}.json").write_bytes(
            (place / f"{SEALED}.json").read_bytes().replace(b'"number":', b'"number":9')
        ),
        [("disk-state", SETUP)],
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_disk_that_is_not_as_it_was_left_is_refused(world: World, attack: str) -> None:
    change, expected = ATTACKS[attack]
    place, good = disks(world), world.folder / "good"
    shutil.copytree(place, good)
    try:
        change(world, place)
        attacked = everything(world)
        with unchanged(world):
            assert refused_by_agent(world) == expected
            assert refused_by_libvirt(world, "start", VM_NAME) == expected
        assert everything(world) == attacked, "the refusal changed nothing"
    finally:
        place.unlink() if place.is_symlink() else shutil.rmtree(place)
        good.rename(place)
        for left in ("moved.qcow2", "second-name.qcow2", "moved"):
            path = world.folder / left
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_after_all_these_attacks_the_good_disks_start(world: World) -> None:
    place = disks(world)
    place.chmod(0o711)
    pass_gate(world)


def test_the_image_below_an_overlay_is_the_signed_one(world: World) -> None:
    path = world.stored("image")
    good = path.read_bytes()
    try:
        _flip(path, 700_000)
        with unchanged(world):
            assert refused_by_agent(world)[:2] == [("image", "disk system"), ("image", SETUP)]
    finally:
        path.write_bytes(good)


def test_another_vm_that_was_given_the_same_overlay_does_not_start(world: World) -> None:
    xml = world.virsh("dumpxml", "--inactive", OTHER_NAME).stdout
    mine = xml.replace(f"vms/{OTHER_NAME}/disks/{SEALED}", f"vms/{VM_NAME}/disks/{SEALED}")
    assert mine != xml
    edited = world.folder / "edited.xml"
    edited.write_text(mine)
    world.libvirt.virsh("define", str(edited))
    before, count = everything(world), len(world.trail())
    with unchanged(world):
        done = world.virsh("start", "--paused", OTHER_NAME)
    assert done.returncode
    assert "error[AG010]" in done.stderr
    findings = world.ask("vm/why", name=OTHER_NAME)["verdict"]["findings"]
    failed = {(f["check"], f["subject"].partition(" ")[0]) for f in findings if f["outcome"] == "fail"}
    assert failed == {("domain", "/domain/devices[1]/disk[2]/source[1]/@file"), ("lint", "HV023")}
    assert [(r.event, r.outcome, r.subject) for r in world.trail()[count:]] == [("vm-start", "refused", OTHER_NAME)]
    assert everything(world) == before
    world.run("vm", "start", OTHER_NAME)


def test_an_agent_that_is_restarted_still_sees_the_stop(world: World) -> None:
    assert world.virsh("start", "--paused", VM_NAME).returncode == 0
    world.host.stop_agent()
    world.host.start_agent()
    world.kill_vm()
    assert {state for state, _ in records(world).values()} == {"closed"}
    pass_gate(world)


def test_after_a_crash_data_is_allowed_and_recorded_and_what_is_sealed_is_not(world: World) -> None:
    assert world.virsh("start", "--paused", VM_NAME).returncode == 0
    world.host.kill_agent()
    world.kill_vm()
    world.host.start_agent()
    assert {state for state, _ in records(world).values()} == {"open"}
    with unchanged(world):
        assert refused_by_agent(world) == [("disk-state", SETUP)]
    world.run("vm", "accept", VM_NAME)
    pass_gate(world)
    assert dict(newest(world, "disk-crash").details)["disk"] == "data"
    findings = world.ask("vm/why", name=VM_NAME)["verdict"]["findings"]
    assert ("disk-state", STORED, "warn") in {(f["check"], f["subject"], f["outcome"]) for f in findings}


def test_nothing_is_accepted_or_deleted_while_the_vm_runs(world: World) -> None:
    assert world.virsh("start", "--paused", VM_NAME).returncode == 0
    before, count = everything(world), len(world.trail())
    for verb in ("vm/accept", "vm/delete"):
        with pytest.raises(AgentSaid, match="AG162") as refusal:
            world.ask(verb, name=VM_NAME)
        assert refusal.value.status == Exit.NOT_READY
    assert everything(world).keys() == before.keys()
    assert len(world.trail()) == count


def test_no_other_image_is_accepted(world: World) -> None:
    """Accepting is about content; where the disk stands and whose it is are the gate's."""
    place, good = disks(world), world.folder / "good"
    shutil.copytree(place, good)
    try:
        _name_another_base(world, place)
        count = len(world.trail())
        with pytest.raises(AgentSaid, match="HY0"):
            world.ask("vm/accept", name=VM_NAME)
        assert len(world.trail()) == count
    finally:
        shutil.rmtree(place)
        good.rename(place)


def test_a_deleted_vm_starts_as_a_new_one_and_its_old_disk_is_none_of_its_own(world: World) -> None:
    old = world.folder / "old-disks"
    shutil.copytree(disks(world), old)
    tpm = (world.state_folder / "vms" / VM_NAME / "vtpm.json").read_bytes()
    assert world.run("vm", "delete", VM_NAME, "-y") == f"what {VM_NAME} kept on this host is gone\n"
    assert [(r.event, r.outcome) for r in world.trail()[-2:]] == [("vm-delete", "started"), ("vm-delete", "done")]
    # Defined anew, as one that never started: it has nothing but the generation id of its next start.
    assert [path.name for path in (world.state_folder / "vms" / VM_NAME).iterdir()] == ["generation-id"]
    pass_gate(world)
    assert records(world) == {"setup": ("closed", 2), "data": ("closed", 2)}
    assert (world.state_folder / "vms" / VM_NAME / "vtpm.json").read_bytes() != tpm
    for name in (f"{DATA}.qcow2", f"{DATA}.json", f"{SEALED}.qcow2", f"{SEALED}.json"):
        shutil.copy2(old / name, disks(world) / name)
    with unchanged(world):
        assert refused_by_agent(world) == [("disk-state", SETUP), ("disk-state", STORED)]


def test_a_policy_that_says_nothing_of_disks_allows_none_that_is_kept(world: World) -> None:
    release_disks(world.desk, policy="", disks=DISKS)
    world.run("update", "apply")
    with unchanged(world):
        assert refused_by_agent(world) == [("policy", SETUP), ("policy", STORED)]
