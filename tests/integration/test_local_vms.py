# SPDX-License-Identifier: Apache-2.0
"""VMs that are made on a host, from the first image to a running guest; and the ways to start one that must not start.

All of it is real: software TPM, libvirt, QEMU, a publisher with releases. The tests are one story and run in order.
"""

from __future__ import annotations

import itertools
import json
import secrets
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.audit import AuditTrail
from agent.local_authority import LocalAuthority
from agent.paths import HostPaths
from documents.audit import AuditRecord
from documents.definition import VmDefinition
from documents.errors import Exit
from documents.host_state import Generation
from documents.local_api import Request
from documents.local_set import LocalSet, SignedLocalSet
from lab.callers import BOOT, NOW, somebodies
from lab.publisher import VM_UUID, Desk
from lab.refusal import newest, refused_by_agent, refused_by_libvirt, unchanged
from lab.tpm import SoftwareTpm
from lab.world import VM_NAME, World, copied, folder, living, serving
from measure.cel import parse_log
from measure.pcr import VMM_PCR
from measure.tpm import Tpm

NAME = "mine"
THEIR_UUID = "9a0d53a1-7c11-4f3b-8d0e-0123456789ab"
GUARD = 60
ALLOW = ("AllowEmulation", "AllowLocal", "AllowSoftwareTpm")


@pytest.fixture(scope="module")
def world(desk: Desk) -> Iterator[World]:
    """A host that follows a publisher whose policy does not allow local VMs yet."""
    with folder("local-desk") as below:
        copy = copied(desk, below)
        with serving(copy.repository) as url, living("local", copy, url) as world:
            world.run("update", "apply")
            yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()
    world.kill_vm(NAME)


def release(world: World, *, allow: tuple[str, ...] = ALLOW, boot: bool = True) -> None:
    """The next release of the platform, with a policy that allows this, applied; a third one needs another boot."""
    desk = world.desk
    desk.release(desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, allow=allow))
    world.run("update", "apply")
    if boot:
        world.host.power_cycle()
        world.libvirt.restart_libvirtd()
        world.host.start_agent()


def signed(world: World) -> Path:
    return world.state_folder / "tpm/local-set.json"


def content(world: World) -> LocalSet:
    return LocalSet.parse(SignedLocalSet.parse(signed(world).read_bytes()).content)


def stored(world: World, digest: str) -> Path:
    return world.state_folder / "store" / digest[:2] / digest


def told(world: World) -> list[tuple[str, str, str]]:
    return [(r.outcome, r.subject, dict(r.details)["act"]) for r in world.trail() if r.event == "local-sign"]


@contextmanager
def nothing_signed(world: World, outcome: str = "refused") -> Iterator[list[AuditRecord]]:
    """Require that a block signs nothing, changes nothing else and leaves one record of its refusal."""
    path, count = signed(world), len(world.trail())
    before = path.read_bytes() if path.exists() else b""
    found: list[AuditRecord] = []
    with unchanged(world):
        yield found
    assert (path.read_bytes() if path.exists() else b"") == before
    found.extend(world.trail()[count:])
    assert [(r.outcome) for r in found] == [outcome], found


@contextmanager
def replaced(path: Path, data: bytes) -> Iterator[None]:
    """Other bytes in place, as an attacker with root would put them, and the good ones back."""
    good, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)
    try:
        yield
    finally:
        path.write_bytes(good)


def test_without_a_word_of_the_policy_nothing_is_signed(world: World) -> None:
    with nothing_signed(world) as records:
        done = world.host.vmgate("image", "import", world.desk.folder / "hello-1.img", "--name", "system")
        assert done.exit == 6, done.err
        assert "AllowLocal" in done.err
    assert (records[0].event, records[0].subject) == ("local-sign", "system")
    with nothing_signed(world):
        assert world.host.vmgate("vm", "create", NAME, "--image", "system").exit == 6
    assert json.loads(world.run("image", "list", "-o", "json"))["images"] == []


def test_what_is_a_releases_image_is_no_local_one(world: World) -> None:
    release(world, boot=False)
    with nothing_signed(world) as records:
        done = world.host.vmgate("image", "import", world.desk.folder / "hello-1.img", "--name", "system")
        assert done.exit == 6, done.err
        assert done.err.startswith("error[AG121]")
    assert dict(records[0].details)["code"] == "AG121"


@pytest.fixture(scope="module")
def mine(world: World) -> bytes:
    """An image of the administrator's own, which a release does not have: as qcow2, partly compressed."""
    image = world.desk.build_image("mine", "mine")
    flat = image.read_bytes()
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", image, world.folder / "mine.qcow2"]
    subprocess.run(command, check=True)
    return flat


def test_a_qcow2_image_becomes_a_flat_one_that_the_tpm_vouches_for(world: World, mine: bytes) -> None:
    count = len(told(world))
    result = json.loads(world.run("image", "import", world.folder / "mine.qcow2", "-o", "json"))
    assert (result["name"], result["source"], result["length"]) == ("mine.qcow2", "qcow2", len(mine))
    assert stored(world, result["fsverity"]).read_bytes() == mine
    assert told(world)[count:] == [("started", "mine.qcow2", "import"), ("done", "mine.qcow2", "import")]
    listed = world.run("image", "list")
    assert f"sha256:{result['fsverity']}" in listed


def test_a_vm_is_made_from_the_defaults_and_boots_through_the_gate(world: World) -> None:
    (world.root / "etc/vmgate/vm-defaults.toml").write_text('memory_mib = 512\ntitle = "Made here"\n')
    result = json.loads(world.run("vm", "create", NAME, "--image", "mine.qcow2", "-o", "json"))
    definition = result["definition"]
    assert (definition["memory_mib"], definition["title"], definition["vcpus"]) == (512, "Made here", 1)
    count = len(world.events())
    done = world.host.vmgate("vm", "start", NAME)
    assert (done.exit, done.out) == (0, f"{NAME} started; verdict warning, assurance level L0\n"), done.err
    assert "vmgate-guest: build=mine" in world.host.console_until("vmgate-guest: ready", NAME)
    shown = json.loads(world.run("vm", "show", NAME, "-o", "json"))
    subject = shown["measured"]["subject"]
    assert (shown["authority"], shown["running"]["channel"]) == ("local", "local")
    assert world.events()[count:] == [(12, "vm-start", subject), (12, "key-drop", subject)]
    rows = {vm["name"]: vm["authority"] for vm in world.ask("vm/list")["vms"]}
    assert rows == {VM_NAME: "publisher", NAME: "local"}
    findings = world.ask("vm/why", name=NAME)["verdict"]["findings"]
    local = {f["check"]: f["outcome"] for f in findings if f["authority"] == "local" and f["check"] != "log-replay"}
    assert local["local-vm"] == "warn"
    assert {"definition", "image", "domain", "local-name", "local-place", "local-guardians", "local-image"} <= set(
        local
    )


def test_a_verifier_learns_that_a_local_vm_runs_and_not_which(world: World, tmp_path: Path) -> None:
    world.run("vm", "start", NAME)
    subject = world.ask("vm/show", name=NAME)["measured"]["subject"]
    nonce = secrets.token_hex(16)
    world.run("attest", "evidence", "--nonce", nonce, "--out", tmp_path / "evidence")
    evidence = (tmp_path / "evidence").read_bytes()
    vm = content(world).vm(NAME)
    assert vm is not None
    cel = world.ask("measure/log")["cel"]
    for secret in (NAME, vm.uuid, vm.fsverity, vm.salt.hex()):
        assert json.dumps(secret) not in cel
        assert secret.encode() not in evidence or secret == NAME
    ear, code = verified(world, tmp_path, nonce)
    found = next(f for f in ear if f["subject"] == subject)
    assert (code, found["outcome"], found["authority"]) == (0, "warn", "local")


def verified(world: World, tmp_path: Path, nonce: str) -> tuple[list[dict[str, str]], int]:
    """Findings and exit code of a verifier elsewhere."""
    active = Generation.parse((world.state_folder / "generations/current/generation.json").read_bytes())
    options: list[str | Path] = []
    for number, each in enumerate(active.releases):
        (tmp_path / f"release-{number}").write_bytes(each)
        options += ["--release", tmp_path / f"release-{number}"]
    done = world.host.vmgate(
        "attest", "verify", tmp_path / "evidence", *options, "--ak", world.state_folder / "tpm/ak.pub",
        "--nonce", nonce, "--policy", world.stored("security-policy"), "--anchor", world.desk.anchor,
    )  # fmt: skip
    return _findings(json.loads(done.out)), done.exit


def _findings(value: Any) -> list[dict[str, str]]:
    if isinstance(value, dict):
        own = [value] if {"check", "subject", "outcome"} <= value.keys() else []
        return own + [found for part in value.values() for found in _findings(part)]
    return [found for part in value for found in _findings(part)] if isinstance(value, list) else []


def test_a_stop_is_measured_under_the_same_pseudonym_and_an_agent_that_restarts_knows_it(world: World) -> None:
    world.run("vm", "start", NAME)
    subject = world.ask("vm/show", name=NAME)["measured"]["subject"]
    world.host.stop_agent()
    world.host.start_agent()
    assert world.ask("vm/show", name=NAME)["running"]["channel"] == "local"
    count = len(world.events())
    world.kill_vm(NAME)
    assert world.events()[count:] == [(12, "vm-stop", subject)]
    assert newest(world, "vm-stop").subject == NAME


# -- what must not start, and what must not be signed ------------------------------------------------------------------


def test_a_definition_that_was_edited_on_the_disk_does_not_start(world: World) -> None:
    vm = content(world).vm(NAME)
    assert vm is not None
    path = stored(world, vm.fsverity)
    edited = replace(VmDefinition.parse(path.read_bytes()), vcpus=2).encode()
    with replaced(path, edited), unchanged(world):
        assert refused_by_agent(world, NAME) == [("definition", f"vm {NAME}")]
        assert refused_by_libvirt(world, "start", NAME, name=NAME) == [("definition", f"vm {NAME}")]
    world.run("vm", "start", NAME)


def test_a_damaged_local_vm_harms_no_vm_of_a_release(world: World) -> None:
    vm = content(world).vm(NAME)
    assert vm is not None
    with replaced(stored(world, vm.fsverity), b"no definition"):
        world.run("vm", "start", VM_NAME)
        assert [vm["name"] for vm in world.ask("vm/list")["vms"]] == [VM_NAME]


def test_an_image_that_was_swapped_after_its_import_does_not_start(world: World) -> None:
    image = content(world).images[0]
    path = stored(world, image.fsverity)
    other = bytearray(path.read_bytes())
    other[len(other) // 2] ^= 1
    with replaced(path, bytes(other)), unchanged(world):
        assert refused_by_agent(world, NAME) == [("image", "disk disk0")]


def test_a_set_that_names_more_than_was_signed_counts_for_nothing(world: World) -> None:
    """Whoever writes a definition and its digest into the set has no signature for it."""
    whole = SignedLocalSet.parse(signed(world).read_bytes())
    forged = replace(content(world), images=())
    for untrusted in (replace(whole, content=forged.encode()).encode(), b""):
        with replaced(signed(world), untrusted), unchanged(world):
            assert refused_by_agent(world, NAME) == [("definition", NAME), ("local-vm", NAME)]
    with replaced(signed(world), signed(world).read_bytes()[:-1]):
        refused_by_libvirt(world, "start", NAME, name=NAME)
        done = world.host.vmgate("vm", "edit", NAME, "--vcpus", "2")
        assert done.exit == Exit.NOT_FOUND, "nothing is built on what nobody signed"
        world.run("vm", "start", VM_NAME)
    world.run("vm", "start", NAME)


def test_the_signature_of_another_hosts_key_counts_for_nothing(world: World, tmp_path: Path) -> None:
    """Another host of the same publisher, in the same approved state: its TPM signs, and is not this one's."""
    other = SoftwareTpm(world.folder / "other-tpm")
    other.start()
    paths = HostPaths(tmp_path)
    paths.local_set.parent.mkdir(parents=True)
    active = Generation.parse((world.state_folder / "generations/current/generation.json").read_bytes())
    try:
        with Tpm.open(other.tcti) as tpm:
            for record in parse_log(world.ask("measure/log")["cel"].encode()):
                if record.pcr == VMM_PCR:
                    tpm.extend(VMM_PCR, record.content.encode())
            paths.ak.write_bytes(tpm.create_ak())
            authority = LocalAuthority(
                paths, tpm, AuditTrail(paths.audit, itertools.count(NOW).__next__, BOOT), lambda: NOW
            )
            theirs = replace(content(world), number=1, vms=tuple(replace(vm, number=1) for vm in content(world).vms))
            for _ in range(content(world).number + 1):
                authority.sign(
                    lambda _: theirs, active.platform, "nobody", act="edit", subject=NAME, fsverity="ab" * 32
                )
            assert authority.vouched() is not None, "on that host it counts"
    finally:
        other.stop()
    with replaced(signed(world), paths.local_set.read_bytes()), unchanged(world):
        assert refused_by_agent(world, NAME) == [("definition", NAME), ("local-vm", NAME)]


def test_an_older_definition_that_was_put_back_after_an_edit_does_not_start(world: World) -> None:
    old = signed(world).read_bytes()
    number = content(world).number
    result = json.loads(world.run("vm", "edit", NAME, "--memory", "400", "-o", "json"))
    assert (result["number"], result["definition"]["memory_mib"]) == (number + 1, 400)
    with replaced(signed(world), old), unchanged(world):
        assert refused_by_agent(world, NAME) == [("definition", NAME), ("local-vm", NAME)]
        assert f"number {number + 1} was signed" in world.run("vm", "list")
        assert "may not start" in world.run("vm", "list")
    # The agent that starts anew knows it from the trail.
    with replaced(signed(world), old):
        world.host.stop_agent()
        world.host.start_agent()
        assert refused_by_agent(world, NAME) == [("definition", NAME), ("local-vm", NAME)]
    assert world.ask("vm/start", name=NAME)["status"] == "warning"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (VM_NAME, "", "has that name"),
        ("another", f'uuid = "{VM_UUID}"\n', "has that UUID"),
        (NAME, "", "has a VM"),
    ],
)
def test_what_is_anothers_is_not_taken(world: World, tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / "vm.toml").write_text(text)
    with nothing_signed(world) as records:
        done = world.host.vmgate("vm", "create", name, "--image", "mine.qcow2", "-f", tmp_path / "vm.toml")
        assert done.exit == 6, done.err
        assert why in done.err
    assert dict(records[0].details)["code"] == "AG121"


@pytest.mark.parametrize(
    "text", ['authority = "publisher"\n', 'channel = "workload"\n', "[release]\nchannel = 'workload'\n", "vcpus = 0\n"]
)
def test_a_definition_cannot_say_that_it_came_by_a_release(world: World, tmp_path: Path, text: str) -> None:
    (tmp_path / "vm.toml").write_text(text)
    before = signed(world).read_bytes()
    with unchanged(world):
        done = world.host.vmgate("vm", "create", "forged", "--image", "mine.qcow2", "-f", tmp_path / "vm.toml")
    assert (done.exit, done.err[:13]) == (2, "error[DC040]:")
    assert signed(world).read_bytes() == before


def test_an_administrator_who_does_not_prove_anew_who_it_is_has_nothing_signed(world: World) -> None:
    """There is no polkit agent here, so nobody but root can prove anything."""
    (ann,) = somebodies(1)
    world.run("role", "grant", "administrator", "--user", ann.name)
    socket = world.root / "run/vmgate/agent.sock"
    deadline = time.monotonic() + GUARD
    while stat.S_IMODE(socket.stat().st_mode) != 0o666:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    try:
        for verb, arguments in (
            ("vm/edit", (("name", NAME), ("values", '{"vcpus":2}'))),
            ("vm/create", (("images", "mine.qcow2"), ("name", "theirs"))),
            ("vm/forget", (("name", NAME),)),
            ("image/import", (("file", "/etc/shadow"), ("image", "shadow"))),
        ):
            with nothing_signed(world) as records:
                (response,) = ann.ask(socket, Request(verb=verb, arguments=arguments, actor="test"))
                assert response.exit == Exit.NOT_PERMITTED
                assert "AG101" in response.error
            assert (records[0].event, records[0].subject) == ("management", verb)
    finally:
        (world.root / "etc/vmgate/roles.toml").unlink()


def test_a_policy_that_does_not_allow_it_any_more_stops_the_next_start(world: World) -> None:
    release(world, allow=("AllowEmulation", "AllowSoftwareTpm"))
    with unchanged(world):
        assert refused_by_agent(world, NAME) == [("local-vm", NAME)]
        refused_by_libvirt(world, "start", NAME, name=NAME)
    with nothing_signed(world):
        assert world.host.vmgate("vm", "edit", NAME, "--vcpus", "2").exit == 6
    world.run("vm", "start", VM_NAME)
    release(world)
    world.run("vm", "start", NAME)


def test_an_update_leaves_what_was_made_here_in_the_store(world: World) -> None:
    found = content(world)
    assert all(stored(world, digest).exists() for digest in found.kept())


def test_a_releases_vm_that_comes_later_takes_the_name_and_the_local_one_comes_back(world: World) -> None:
    """Also with what lies under that name: the key of one VM is no other's."""
    desk, folder = world.desk, world.state_folder / "vms" / NAME
    vm, key = content(world).vm(NAME), (folder / "key-tpm.json").read_bytes()
    assert vm is not None
    recipe = desk.write_workload(title="Hello", image="hello-1.img", accepts=(1, 9))
    definition = desk.folder / "hello.toml"
    text = definition.read_text().replace(f'name = "{VM_NAME}"', f'name = "{NAME}"')
    definition.write_text(text.replace(VM_UUID, THEIR_UUID))
    desk.release(recipe)
    world.run("update", "apply")
    listed = world.ask("vm/list")
    assert [(vm["name"], vm["authority"]) for vm in listed["vms"]] == [(NAME, "publisher")]
    assert listed["refused"] == [{"name": NAME, "why": f"its name is that of {NAME} of workload 2"}]
    assert "may not start" in world.run("vm", "list")
    world.run("vm", "start", NAME)
    assert world.virsh("domuuid", NAME).stdout.strip() == THEIR_UUID
    assert world.ask("vm/why", name=NAME)["verdict"]["status"] == "warning"
    assert (world.state_folder / f"vms/{NAME}@{vm.uuid}/key-tpm.json").read_bytes() == key
    world.kill_vm(NAME)
