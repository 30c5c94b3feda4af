# SPDX-License-Identifier: Apache-2.0
"""A VM leaves one host as one file and runs on another, with its data and its TPM; and what must not come in that way.

The other host is the same machine with another TPM, another libvirt and empty state: what two hosts have in common is
where things lie. The tests are one story and run in order.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.vtpm import STATES
from documents.errors import Exit
from documents.host_state import VmTpm
from documents.verdict import Verdict
from lab.disk_vms import release_disks
from lab.publisher import VM_UUID, Desk
from lab.refusal import newest, unchanged
from lab.world import VM_NAME, World, copied, folder, living, serving

LOCAL, LOCAL_UUID = "mine", "9a0d53a1-7c11-4f3b-8d0e-0123456789ab"

LOCAL_DISK = '[[disks]]\nname = "a"\nimage = "mine.img"\nclass = "readonly"\n'


@pytest.fixture(scope="module")
def world(desk: Desk) -> Iterator[World]:
    with folder("moved") as below:
        copy = copied(desk, below)
        allow = ("AllowEmulation", "AllowLocal", "AllowSoftwareTpm")
        release_disks(copy, allow=allow, guardians='["tpm", "recovery"]')
        with serving(copy.repository) as url, living("moved-host", copy, url) as world:
            world.run("update", "apply")
            yield world


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stick, with the recovery key of the other host."""
    away = tmp_path_factory.mktemp("stick")
    (away / "passphrase").write_text("a long passphrase\n")
    return away


def boot(world: World) -> dict[str, str]:
    """Boot the guest, and stop it; what it found on each disk."""
    world.run("vm", "start", VM_NAME)
    text = world.host.console_until("vmgate-guest: ready", VM_NAME)
    world.run("vm", "stop", VM_NAME)
    return dict(re.findall(r"vmgate-guest: disk (vd[a-z]) had=(\S*)", text))


def endorsement(world: World) -> str:
    return VmTpm.parse((world.state_folder / "vms" / VM_NAME / "vtpm.json").read_bytes()).endorsement


def export(world: World, away: Path, file: str, name: str = VM_NAME) -> dict[str, object]:
    made = world.run("vm", "export", name, away / file, "--recipient", away / "key.pem.public", "-o", "json")
    return dict(json.loads(made))


def import_(world: World, away: Path, file: str, *more: str) -> tuple[int, str]:
    done = world.host.vmgate(
        "vm", "import", away / file, "--key", away / "key.pem", "--passphrase-file", away / "passphrase", *more
    )
    return done.exit, done.err


def refused(world: World, away: Path, file: str, code: str, *more: str, status: Exit = Exit.REFUSED) -> str:
    """Try to import, and require a refusal that changes nothing and is recorded."""
    folders = sorted(world.state_folder.joinpath("vms").rglob("*")), sorted(STATES.rglob("*"))
    with unchanged(world):
        exit_code, said = import_(world, away, file, *more)
        assert (exit_code, said.startswith(f"error[{code}]")) == (status, True), said
    assert folders == (sorted(world.state_folder.joinpath("vms").rglob("*")), sorted(STATES.rglob("*")))
    record = newest(world, "vm-import")
    assert (record.outcome, dict(record.details)["code"]) == ("refused", code)
    return said


def change_host(world: World, keep: Path, back: Path | None = None) -> None:
    """Go to a host that was just set up, or back to one that was kept."""
    world.host.stop_agent()
    for name in world.virsh("list", "--all", "--name").stdout.split():
        world.virsh("undefine", name, "--keep-nvram")
    world.host.power_cycle()
    world.host.tpm.stop()
    keep.mkdir()
    for name, place in (("state", world.state_folder), ("tpm", world.host.tpm.state), ("vtpms", STATES)):
        shutil.move(place, keep / name)
        if back is not None:
            shutil.move(back / name, place)
    STATES.mkdir(exist_ok=True)
    STATES.chmod(0o711)
    world.host.tpm.start()
    if back is None:
        world.run("init", "--anchor", world.desk.anchor)
    world.libvirt.restart_libvirtd()
    world.host.start_agent()
    if back is None:
        world.run("update", "apply")


@pytest.mark.timeout(900)
def test_a_vm_is_written_to_one_file_with_all_that_it_keeps(world: World, away: Path) -> None:
    world.run("recovery", "create", "--out", away / "key.pem", "--no-install", "--passphrase-file", away / "passphrase")
    early = world.host.vmgate("vm", "export", VM_NAME, away / "early", "--recipient", away / "key.pem.public")
    assert (early.exit, "never started" in early.err) == (Exit.NOT_READY, True), early.err
    world.run("vm", "start", VM_NAME)
    running = world.host.vmgate("vm", "export", VM_NAME, away / "early", "--recipient", away / "key.pem.public")
    assert (running.exit, "it runs" in running.err) == (Exit.NOT_READY, True), running.err
    world.host.console_until("vmgate-guest: ready", VM_NAME)
    world.run("vm", "stop", VM_NAME)
    assert not (away / "early").exists()

    first, second = export(world, away, "first"), export(world, away, "second")
    assert (first["number"], second["number"]) == (1, 2)
    assert first["endorsement"] == endorsement(world)
    assert first["parts"] == ["disk/data", "disk/setup", "record/data", "record/setup", "vtpm"]
    (away / "signer").write_text(str(second["signer"]))
    file = (away / "second").read_bytes()
    for secret in (b"written-here", VM_NAME.encode(), VM_UUID.encode(), b"endorsement"):
        assert secret not in file, "nobody but the recipient learns of whom it is"
    assert (away / "second").stat().st_mode & 0o777 == 0o600
    again = world.host.vmgate("vm", "export", VM_NAME, away / "second", "--recipient", away / "key.pem.public")
    assert (again.exit, "there already" in again.err) == (Exit.USAGE, True), again.err


def test_where_it_is_already_it_does_not_come_again(world: World, away: Path) -> None:
    assert "has a key here already" in refused(world, away, "second", "AG202", status=Exit.POLICY)


@pytest.mark.timeout(900)
def test_it_runs_on_another_host_with_its_data_and_its_tpm(world: World, away: Path) -> None:
    was, signer = endorsement(world), (away / "signer").read_text()
    change_host(world, away / "home")
    assert not (world.state_folder / "vms" / VM_NAME / "key-tpm.json").exists()

    assert "this host was named" in refused(world, away, "second", "AG200")
    assert "was named" in refused(world, away, "second", "AG200", "--signer", "ab" * 32)
    whole = (away / "second").read_bytes()
    for name, bad in {
        "flipped": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        "begin": whole[:600] + bytes([whole[600] ^ 1]) + whole[601:],
        "cut": whole[: len(whole) // 2],
        "longer": whole + b"x",
        "pieces swapped": whole[:-1_048_592] + (away / "first").read_bytes()[-1_048_592:],
    }.items():
        (away / name).write_bytes(bad)
        refused(world, away, name, "AG200", "--signer", signer)

    code, said = import_(world, away, "second", "--signer", f"sha256:{signer}")
    assert code == 0, said
    done = newest(world, "vm-import")
    assert (done.outcome, dict(done.details)["endorsement"], dict(done.details)["signer"]) == ("done", was, signer)
    assert boot(world) == {"vda": "", "vdb": "written-here", "vdc": "written-here"}
    assert endorsement(world) == was
    verdict = Verdict.parse((world.state_folder / "vms" / VM_NAME / "verdict.json").read_bytes())
    (found,) = (finding for finding in verdict.findings if finding.check == "vm-tpm")
    assert was in found.found


def test_an_older_set_is_refused_also_where_the_vm_was_deleted(world: World, away: Path) -> None:
    signer = (away / "signer").read_text()
    export(world, away, "third")
    world.run("vm", "delete", VM_NAME, "-y")
    for file in ("first", "second"):
        refused(world, away, file, "AG201", "--signer", signer)
    assert import_(world, away, "third")[0] == 0, "its own newest set, since when it did not run"
    world.virsh("start", "--paused", VM_NAME)
    world.virsh("destroy", VM_NAME)
    world.run("vm", "delete", VM_NAME, "-y")
    refused(world, away, "third", "AG201")


def make_local(world: World, guardians: str) -> None:
    """A VM of this host, with an image of its own, which was started once."""
    world.ask("vm/create", name=LOCAL, text=f'uuid = "{LOCAL_UUID}"\nguardians = {guardians}\n{LOCAL_DISK}')
    assert world.virsh("start", "--paused", LOCAL).returncode == 0
    assert world.virsh("destroy", LOCAL).returncode == 0


def test_a_vm_whose_definition_lets_nobody_have_its_key_stays(world: World, away: Path) -> None:
    (away / "mine.img").write_bytes((world.desk.folder / "hello-1.img").read_bytes() + bytes(512))
    world.run("image", "import", away / "mine.img")
    make_local(world, '["tpm"]')
    said = world.host.vmgate("vm", "export", LOCAL, away / "local", "--recipient", away / "key.pem.public")
    assert (said.exit, "guardian recovery" in said.err) == (Exit.POLICY, True), said.err
    assert not (away / "local").exists()
    world.run("vm", "delete", LOCAL, "-y")
    world.run("vm", "forget", LOCAL, "-y")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_local_vm_takes_its_image_along_and_is_signed_anew(world: World, away: Path) -> None:
    make_local(world, '["tpm", "recovery"]')
    made = export(world, away, "local", LOCAL)
    assert made["parts"] == ["image/mine.img", "vtpm"]
    change_host(world, away / "other", back=away / "home")
    assert import_(world, away, "local", "--signer", str(made["signer"]))[0] == 0
    assert [image["name"] for image in world.ask("image/list")["images"]] == ["mine.img"]
    assert world.virsh("start", "--paused", LOCAL).returncode == 0
    assert world.virsh("destroy", LOCAL).returncode == 0
    started = newest(world, "vm-start")
    assert started.subject == LOCAL
    world.run("vm", "delete", LOCAL, "-y")
    world.run("vm", "forget", LOCAL, "-y")
    world.ask("vm/create", name=LOCAL, text=LOCAL_DISK)
    said = refused(world, away, "local", "AG202", "--signer", str(made["signer"]), status=Exit.POLICY)
    assert "has its name or UUID" in said
