# SPDX-License-Identifier: Apache-2.0
"""The gate end to end, on a real software TPM, libvirt, QEMU and OVMF: what starts, and what of a host must not change.

The host follows a real repository over HTTP; the guest is booted by emulation. See ``test_domain`` for domains that
were edited in libvirt and ``test_ways`` for ways around the gate.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import agent as agent_package
from documents.evidence import Evidence
from documents.host_state import VmTpm
from documents.unattended import RunningVm
from lab.publisher import VM_UUID
from lab.refusal import newest, refused_by_agent, refused_by_libvirt, unchanged
from lab.world import VM_NAME, World, laid_over

QEMU = Path("/usr/bin/qemu-system-x86_64")


def _pcr(world: World, index: int) -> str:
    return next(p["value"] for p in world.ask("measure/show")["pcrs"] if (p["bank"], p["pcr"]) == ("sha256", index))


def test_a_good_vm_starts_and_the_start_is_measured_and_recorded(world: World) -> None:
    launch, vmm, count = _pcr(world, 12), _pcr(world, 13), len(world.events())
    done = world.host.vmgate("vm", "start", VM_NAME)
    assert (done.exit, done.out) == (0, f"{VM_NAME} started; verdict warning, assurance level L0\n")
    assert world.events()[count:] == [(12, "vm-start", VM_NAME), (12, "key-drop", VM_NAME)]
    assert _pcr(world, 12) != launch
    assert _pcr(world, 13) == vmm
    assert world.secrets() == "", "the VM's key is gone from libvirt"
    started, finished = [(r.outcome, dict(r.details)) for r in world.trail() if r.event == "vm-start"][-2:]
    assert started[0] == "started"
    assert started[1] == {
        "verdict": "warning",
        "level": "L0",
        "definition": world.stored("definition").name,
        "vtpm": started[1]["vtpm"],
        "release": "workload/1",
    }
    assert finished == ("done", {})
    text = world.host.console_until("vmgate-guest: ready", VM_NAME)
    assert "vmgate-guest: build=1" in text
    assert "vmgate-guest: secure-boot=1" in text
    assert "\x1b" in text, "the firmware moved the cursor"
    shown = world.run("vm", "console", VM_NAME)
    assert "vmgate-guest: ready" in shown
    assert all(character.isprintable() or character in "\n\t" for character in shown)

    world.run("vm", "kill", VM_NAME)
    assert world.vm_state() == "shut off"
    assert world.events()[count + 2 :] == [(12, "vm-stop", VM_NAME)]
    assert newest(world, "vm-stop").outcome == "done"


def test_virsh_start_passes_the_same_gate_and_the_firmwares_variables_are_the_signed_ones(world: World) -> None:
    variables = world.state_folder / "vms" / VM_NAME / "vars.fd"
    variables.write_bytes(b"what the guest, or somebody else, left there")
    count, asked = len(world.events()), len(world.trail())
    # Paused, so that the firmware does not run and the variables stay as QEMU found them.
    assert world.virsh("start", "--paused", VM_NAME).returncode == 0
    assert variables.read_bytes() == world.stored("firmware-vars").read_bytes()
    assert [(r.event, r.outcome) for r in world.trail()[asked:]] == [("vm-start", "started"), ("vm-start", "done")]
    assert world.events()[count:] == [(12, "vm-start", VM_NAME), (12, "key-drop", VM_NAME)]
    assert world.secrets() == ""
    assert world.ask("vm/why", name=VM_NAME)["verdict"]["status"] == "warning"
    world.kill_vm()
    assert newest(world, "vm-stop").outcome == "done", "a stop past vmgate is recorded, too"


def test_a_change_that_the_policy_does_not_ask_about_is_measured_before_the_vm(world: World) -> None:
    """The policy of this host has no word on what is local to it, and nobody approved anything."""
    path, count = Path("/etc/libvirt/qemu.conf"), len(world.events())
    good = path.read_bytes()
    path.write_bytes(good + b"# changed\n")
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    assert world.events()[count : count + 2] == [(12, "host", "host/qemu.conf"), (12, "vm-start", VM_NAME)]
    findings = world.ask("vm/why", name=VM_NAME)["verdict"]["findings"]
    assert ("local-now", "host/qemu.conf", "warn", "none") in {
        (f["check"], f["subject"], f["outcome"], f["authority"]) for f in findings
    }
    path.write_bytes(good)


def test_evidence_tells_the_kernel_command_line_only_where_the_policy_asks(world: World) -> None:
    """Here it does not; ``test_approval`` has a policy that does."""
    evidence = Evidence.parse(world.ask("attest/evidence", nonce="ab" * 16)["evidence"].encode())
    assert (evidence.command_line, evidence.baseline) == (b"", b"")


SITE = Path(agent_package.__file__).parents[1]
COMPONENTS: dict[str, tuple[Callable[[World], Path], str]] = {
    "repository": (lambda world: world.state_folder / "root.json", ""),
    "vmm/host-files": (lambda _: QEMU, f" {QEMU}"),
    "vmm/firmware-code": (lambda world: world.stored("firmware-code"), ""),
    "vmm/firmware-vars": (lambda world: world.stored("firmware-vars"), ""),
    "vmgate/build": (lambda _: SITE / "agent/paths.py", " /agent/paths.py"),
    "vmgate/hook": (lambda world: world.libvirt.hook, ""),
    "vmgate/security-policy": (lambda world: world.stored("security-policy"), ""),
}


def test_all_that_is_measured_is_changed_in_these_tests(world: World) -> None:
    measured = [subject for pcr, event, subject in world.events() if (pcr, event) == (13, "component")]
    assert measured == list(COMPONENTS)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_changed_component_of_the_vmm_is_named_and_nothing_starts(world: World, component: str) -> None:
    find, inside = COMPONENTS[component]
    path = find(world)
    with unchanged(world), laid_over(path, path.read_bytes() + b"\n# changed\n", world.folder):
        failed = refused_by_agent(world)
        assert failed[0] == ("component-now", f"{component}{inside}")
        # The policy is needed for other checks, which then cannot be made.
        assert failed[1:] == ([("could-not-check", VM_NAME)] if component == "vmgate/security-policy" else [])


def test_a_refused_start_is_told_the_same_way_everywhere_and_works_once_the_file_is_back(world: World) -> None:
    path = SITE / "hypervisor/console.py"
    named = "vmgate/build /hypervisor/console.py"
    with unchanged(world), laid_over(path, path.read_bytes() + b"\n# changed\n", world.folder):
        done = world.host.vmgate("vm", "start", VM_NAME)
        assert done.exit == 5
        assert f"component-now of {named}" in done.err
        assert refused_by_libvirt(world, "start", VM_NAME) == [("component-now", named)]
        why = world.run("vm", "why", VM_NAME)
        assert named in why
        assert "way out: a file of the VMM was changed" in why
        assert world.host.vmgate("status").exit == 5
    world.run("vm", "start", VM_NAME)


def _flipped(offset: int) -> Callable[[Path, Path], None]:
    def change(path: Path, _: Path) -> None:
        data = bytearray(path.read_bytes())
        data[offset if offset >= 0 else len(data) + offset] ^= 1
        path.write_bytes(data)

    return change


def _flip_middle(path: Path, good: Path) -> None:
    _flipped(path.stat().st_size // 2)(path, good)


def _replace_by_link(path: Path, good: Path) -> None:
    path.unlink()
    path.symlink_to(good)


def _replace_by_fifo(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_directory(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path, Path], None]] = {
    "first byte": _flipped(0),
    "middle byte": _flip_middle,
    "last byte": _flipped(-1),
    "truncated": lambda path, _: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path, _: os.truncate(path, 0),
    "extended": lambda path, _: os.truncate(path, path.stat().st_size + 1),
    "removed": lambda path, _: path.unlink(),
    "a link to a good copy": _replace_by_link,
    "a FIFO": _replace_by_fifo,
    "a folder": _replace_by_directory,
}


@contextmanager
def _damaged(path: Path, damage: Callable[[Path, Path], None], below: Path) -> Iterator[None]:
    """Damage a file in place, as an attacker with root would, and put the good one back."""
    good = below / "good-copy"
    shutil.copy2(path, good)
    damage(path, good)
    try:
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        shutil.copy2(good, path)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_disk_image_that_is_not_the_signed_one_is_refused(world: World, damage: str) -> None:
    with unchanged(world), _damaged(world.stored("image"), DAMAGE[damage], world.folder):
        assert refused_by_agent(world) == [("image", "disk system")]


@pytest.mark.parametrize("damage", ["first byte", "removed", "a link to a good copy", "a FIFO"])
def test_a_definition_that_is_not_the_signed_one_is_refused(world: World, damage: str) -> None:
    with unchanged(world), _damaged(world.stored("definition"), DAMAGE[damage], world.folder):
        assert refused_by_agent(world) == [("definition", f"vm {VM_NAME}")]


def test_after_all_this_damage_the_good_files_start(world: World) -> None:
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"


def _vtpm(world: World) -> tuple[Path, Path]:
    return Path("/var/lib/libvirt/swtpm") / VM_UUID / "tpm2", world.state_folder / "vms" / VM_NAME / "vtpm.json"


def test_the_evidence_names_the_tpm_that_the_vm_runs_with(world: World) -> None:
    world.run("vm", "start", VM_NAME)
    started = [record for record in world.ask("measure/log")["records"] if record["event"] == "vm-start"][-1]
    _, note = _vtpm(world)
    assert started["vtpm"] == VmTpm.parse(note.read_bytes()).endorsement
    assert started["target"] == "releases/workload/1.json"
    world.kill_vm()
    world.run("vm", "start", VM_NAME)
    again = [record for record in world.ask("measure/log")["records"] if record["event"] == "vm-start"][-1]
    assert again["vtpm"] == started["vtpm"], "what the guest did with it does not change what it is"


@pytest.mark.parametrize("attack", ["gone", "another's note", "another state"])
def test_a_vm_whose_tpm_is_not_its_own_does_not_start(world: World, attack: str) -> None:
    world.run("vm", "start", VM_NAME)
    world.kill_vm()
    state, note = _vtpm(world)
    kept, noted = world.folder / "kept", note.read_bytes()
    shutil.copytree(state, kept)
    try:
        if attack == "gone":
            shutil.rmtree(state)
        elif attack == "another state":
            (state / "tpm2-00.permall").write_bytes(os.urandom(6_000))
        else:
            note.write_bytes(VmTpm(uuid=VM_UUID, endorsement="ab" * 32).encode())
        with unchanged(world):
            assert refused_by_agent(world) == [("vm-tpm", VM_NAME)]
            assert refused_by_libvirt(world, "start", VM_NAME) == [("vm-tpm", VM_NAME)]
        assert "AG040" in world.run("vm", "why", VM_NAME)
        assert state.exists() == (attack != "gone"), "nobody made another one"
    finally:
        note.write_bytes(noted)
        state.mkdir(mode=0o700, exist_ok=True)
        shutil.copy2(kept / "tpm2-00.permall", state / "tpm2-00.permall")
        for path in (state, state / "tpm2-00.permall"):
            shutil.chown(path, "tss", "tss")
        shutil.rmtree(kept)
    world.run("vm", "start", VM_NAME)


def test_what_runs_is_told_by_the_log_and_by_nothing_else(world: World) -> None:
    """The note of what a VM runs informs people; it can neither make a VM run nor say that it runs something else."""

    def told() -> object:
        return world.ask("vm/list")["vms"][0]["running"]

    note = world.root / "run/vmgate/running" / VM_NAME
    world.run("vm", "start", VM_NAME)
    good = note.read_bytes()
    assert told() is not None
    world.host.kill_agent()
    world.host.start_agent()
    assert told() is not None, "another agent reads the same log"
    note.write_bytes(replace(RunningVm.parse(good), number=7).encode())
    assert told() is None
    note.write_bytes(good)
    world.kill_vm()
    note.write_bytes(good)
    assert told() is None
    note.unlink()
