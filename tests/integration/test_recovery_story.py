# SPDX-License-Identifier: Apache-2.0
"""A whole host whose TPM is cleared, and whose VM starts with its old TPM after ``vmgate recovery use``.

One story, told in order. What the agent refuses and records besides is in ``test_recovery``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tpm2_pytss as tss

from lab.publisher import Desk
from lab.refusal import refused_by_agent
from lab.world import VM_NAME, World, copied, living, serving
from measure.tpm import Tpm

PASSPHRASE = "correct horse battery"
KEY = "tpm/host-key.json"


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host that runs a VM whose definition names the guardian."""
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    recipe = publisher.write_workload(title="Hello", image="hello-1.img", accepts=(1, 9))
    toml = publisher.folder / "hello.toml"
    toml.write_text(toml.read_text().replace('guardians = ["tpm"]', 'guardians = ["tpm", "recovery"]'))
    publisher.release(recipe)
    with serving(publisher.repository) as url, living("recovery", publisher, url) as world:
        world.run("update", "apply")
        yield world


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the private half is kept: not on the host."""
    away = tmp_path_factory.mktemp("safe")
    (away / "passphrase").write_text(f"{PASSPHRASE}\n")
    (away / "wrong").write_text("another\n")
    return away


def _starts(world: World) -> str:
    """Start the VM and switch it off; the TPM that it had."""
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    world.kill_vm()
    start = [record for record in world.trail() if (record.event, record.outcome) == ("vm-start", "started")][-1]
    return dict(start.details)["vtpm"]


def _recovery(world: World, *arguments: str | Path, passphrase: Path) -> tuple[int, str, str]:
    done = world.host.vmgate("recovery", *arguments, "--passphrase-file", passphrase)
    return done.exit, done.out, done.err


def test_a_key_is_made_and_its_private_half_stays_away(world: World, away: Path) -> None:
    first = _starts(world)
    assert first
    assert world.run("recovery", "show").startswith("none")
    code, out, err = _recovery(world, "create", "--out", away / "key.pem", passphrase=away / "passphrase")
    assert (code, err) == (0, "")
    assert f"copies made: {VM_NAME}" in out
    assert (away / "key.pem").stat().st_mode & 0o777 == 0o600
    again = _recovery(world, "create", "--out", away / "again.pem", passphrase=away / "passphrase")
    assert again[0] == 2
    assert not (away / "again.pem").exists()
    code, out, _ = _recovery(world, "test", away / "key.pem", "--output", "json", passphrase=away / "passphrase")
    (vm,) = json.loads(out)["vms"]
    assert (code, vm["name"], vm["result"]) == (0, VM_NAME, "opens")
    # The same public half again is no other key.
    assert world.host.vmgate("recovery", "install", away / "key.pem.public").exit == 2
    assert world.run("recovery", "install", away / "key.pem.public", "--replace").startswith("installed ")
    assert _starts(world) == first
    private = (away / "key.pem").read_bytes()
    for path in world.root.rglob("*"):
        if path.is_file() and path.stat().st_size < 1_000_000:
            found = path.read_bytes()
            assert private not in found
            assert PASSPHRASE.encode() not in found


def test_a_cleared_tpm_keeps_the_vm_off_and_says_what_helps(world: World) -> None:
    world.host.stop_agent()
    with Tpm.open(world.host.tpm.tcti) as tpm:
        tpm._esys.clear(tss.ESYS_TR.LOCKOUT)
    world.host.power_cycle()
    world.host.start_agent()
    assert refused_by_agent(world) == [("vm-key", VM_NAME)]
    assert "vmgate recovery use FILE" in world.run("vm", "why", VM_NAME)


def test_a_wrong_passphrase_and_another_file_change_nothing(world: World, away: Path) -> None:
    before = (world.state_folder / KEY).read_bytes()
    code, _, err = _recovery(world, "use", away / "key.pem", "-y", passphrase=away / "wrong")
    assert (code, err.count("\n"), "wrong passphrase" in err) == (4, 0, True)
    made = _recovery(world, "create", "--out", away / "other.pem", "--no-install", passphrase=away / "passphrase")
    assert made[0] == 0
    code, _, err = _recovery(world, "use", away / "other.pem", "-y", passphrase=away / "passphrase")
    assert (code, err.count("\n"), "this host has" in err) == (5, 0, True)
    assert (world.state_folder / KEY).read_bytes() == before
    assert not [record for record in world.trail() if record.event == "recovery-use"]


def test_the_vm_starts_with_its_old_tpm(world: World, away: Path) -> None:
    known = json.loads((world.state_folder / "vms" / VM_NAME / "vtpm.json").read_bytes())["endorsement"]
    code, out, err = _recovery(world, "use", away / "key.pem", "-y", passphrase=away / "passphrase")
    assert (code, out, err) == (0, f"recovered: {VM_NAME}\n", "")
    assert [record.outcome for record in world.trail() if record.event == "recovery-use"] == ["started", "done"]
    assert _starts(world) == known
    assert _recovery(world, "test", away / "key.pem", passphrase=away / "passphrase")[0] == 0
    # And after the next boot, as ever.
    world.host.power_cycle()
    world.host.start_agent()
    assert _starts(world) == known


def test_the_folder_opens_on_another_mainboard(world: World, away: Path) -> None:
    """The disk of a dead host, with another TPM, which never saw vmgate."""
    known = json.loads((world.state_folder / "vms" / VM_NAME / "vtpm.json").read_bytes())["endorsement"]
    old = (world.state_folder / "tpm/ak.pub").read_bytes()
    world.host.stop_agent()
    world.host.tpm.stop()
    shutil.rmtree(world.host.tpm.state)
    world.host.power_cycle()
    world.host.start_agent()
    assert refused_by_agent(world) == [("vm-key", VM_NAME)]
    assert _recovery(world, "use", away / "key.pem", "-y", passphrase=away / "passphrase")[0] == 0
    assert (world.state_folder / "tpm/ak.pub").read_bytes() != old
    assert _starts(world) == known
    world.host.power_cycle()
    world.host.start_agent()
    assert _starts(world) == known
    world.host.stop_agent()
    assert "records" in world.run("audit", "verify")
    world.host.start_agent()


def test_the_gate_is_not_opened_by_it(world: World, away: Path) -> None:
    """What the gate refuses for another reason, it refuses after a recovery too."""
    image = world.stored("image")
    content = image.read_bytes()
    world.kill_vm()
    image.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert _recovery(world, "use", away / "key.pem", "-y", passphrase=away / "passphrase")[0] == 0
    assert ("vm-key", VM_NAME) not in refused_by_agent(world)
    assert world.failures()
