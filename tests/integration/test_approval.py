# SPDX-License-Identifier: Apache-2.0
"""A host whose signed policy asks for an approved baseline: from the first refusal to what a verifier sees.

All of it is real but the machine's sleep: libvirt, QEMU and swtpm run, and libvirt's folders are the test's own.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.audit import AuditTrail, records
from agent.continuity import Continuity
from agent.paths import HostPaths
from agent.wake import Wake
from content import durable
from documents.boot_state import BootState
from documents.evidence import Evidence
from hypervisor.libvirt import Hypervisor
from lab.publisher import Desk
from lab.refusal import newest, refused_by_agent, refused_by_libvirt, unchanged
from lab.tpm import SoftwareTpm
from lab.world import VM_NAME, World, copied, folder, living, serving
from measure.local import SUBJECTS
from measure.log import MeasurementLog
from measure.tpm import Tpm

QEMU_CONF = Path("/etc/libvirt/qemu.conf")
ADDED_HOOK = Path("/etc/libvirt/hooks/daemon")
POLICY = 'local = "approved"\nkernel_denied = ["vmgate.test=*"]\n'


@pytest.fixture(scope="module")
def asking(desk: Desk) -> Iterator[Desk]:
    """The publisher, whose platform 2 asks for approval."""
    with folder("asking") as below:
        copy = copied(desk, below)
        copy.release(copy.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more=POLICY))
        yield copy


@pytest.fixture(scope="module")
def world(asking: Desk) -> Iterator[World]:
    with serving(asking.repository) as url, living("approval", asking, url) as world:
        world.run("update", "apply")
        yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()


def starts(world: World) -> None:
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    world.kill_vm()


def verified(
    world: World, tmp_path: Path, *, without_baseline: bool = False, site: Path | None = None
) -> tuple[int, set[tuple[str, str, str]]]:
    """What a verifier elsewhere says: exit code, and check, outcome and authority of what is local."""
    nonce = secrets.token_hex(16)
    world.run("attest", "evidence", "--nonce", nonce, "--out", tmp_path / "evidence")
    if without_baseline:
        evidence = replace(Evidence.parse((tmp_path / "evidence").read_bytes()), baseline=b"")
        (tmp_path / "evidence").write_bytes(evidence.encode())
    for number, release in enumerate(_releases(world)):
        (tmp_path / f"release-{number}").write_bytes(release)
    done = world.host.vmgate(
        "attest", "verify", tmp_path / "evidence", "--release", tmp_path / "release-0",
        "--release", tmp_path / "release-1", "--ak", world.state_folder / "tpm/ak.pub", "--nonce", nonce,
        "--policy", world.stored("security-policy"), "--anchor", world.desk.anchor,
        *(("--site-baseline", site) if site else ()),
    )  # fmt: skip
    found = _findings(json.loads(done.out))
    return done.exit, {
        (f["check"], f["outcome"], f["authority"]) for f in found if f["subject"].startswith(("host/", "vmgate.test"))
    }


def _releases(world: World) -> list[bytes]:
    from documents.host_state import Generation

    active = (world.state_folder / "generations/current/generation.json").read_bytes()
    return list(Generation.parse(active).releases)


def _findings(value: Any) -> list[dict[str, str]]:
    """The findings, wherever an EAR has them."""
    if isinstance(value, dict):
        if {"check", "subject", "outcome"} <= value.keys():
            return [value]
        return [found for part in value.values() for found in _findings(part)]
    return [found for part in value for found in _findings(part)] if isinstance(value, list) else []


def test_nothing_starts_before_somebody_approved_and_the_way_out_is_named(world: World, tmp_path: Path) -> None:
    with unchanged(world):
        failed = refused_by_agent(world)
    assert {check for check, _ in failed} == {"not-approved"}
    assert {subject for _, subject in failed} == SUBJECTS
    assert "`vmgate config approve`" in world.run("vm", "why", VM_NAME)
    assert world.host.vmgate("status").exit == 5
    assert world.host.vmgate("config", "check").exit == 5
    assert verified(world, tmp_path)[0] == 5
    refused_by_libvirt(world, "start", VM_NAME)


def test_an_approval_wants_a_terminal_or_a_word(world: World) -> None:
    with unchanged(world):
        done = world.host.vmgate("config", "approve")
    assert done.exit == 2
    assert "no terminal" in done.err
    assert "nothing was approved" in world.run("config", "show")


def test_what_was_approved_starts_here_and_passes_elsewhere(world: World, tmp_path: Path) -> None:
    assert world.run("config", "approve", "-y") == "approved as number 1\n"
    assert newest(world, "baseline-approve").outcome == "done"
    starts(world)
    assert world.host.vmgate("config", "check").exit == 0
    assert "number 1, approved" in world.run("config", "show")
    assert world.host.vmgate("audit", "verify").exit == 0
    assert verified(world, tmp_path) == (
        0,
        {("host-local", "pass", "local"), ("baseline", "pass", "local"), ("kernel-argument", "pass", "publisher")},
    )
    assert verified(world, tmp_path, without_baseline=True)[0] == 5


@pytest.mark.parametrize("subject", ["host/qemu.conf", "host/libvirt-hooks", "host/settings.d", "host/virtqemud.conf"])
def test_a_change_past_vmgate_is_named_and_its_undoing_is_enough(world: World, subject: str) -> None:
    path = {
        "host/qemu.conf": QEMU_CONF,
        "host/libvirt-hooks": ADDED_HOOK,
        "host/settings.d": world.root / "etc/vmgate/conf.d/10-site.toml",
        "host/virtqemud.conf": Path("/etc/libvirt/virtqemud.conf"),
    }[subject]
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    with unchanged(world):
        path.write_bytes((before or b"") + b"\n# added\n")
        assert refused_by_agent(world) == [("not-approved", subject)]
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
    starts(world)


def test_a_verifier_sees_a_change_before_a_vm_is_started_and_its_undoing_too(world: World, tmp_path: Path) -> None:
    ADDED_HOOK.write_text("#!/bin/sh\n")
    code, found = verified(world, tmp_path)
    assert (code, ("not-approved", "fail", "local") in found) == (5, True)
    ADDED_HOOK.unlink()
    code, found = verified(world, tmp_path)
    assert (code, {outcome for _, outcome, _ in found}) == (0, {"pass"})


def test_what_is_approved_anew_is_measured_anew_and_the_old_baseline_counts_no_more(
    world: World, tmp_path: Path
) -> None:
    kept = world.state_folder / "tpm/baseline.json"
    old = kept.read_bytes()
    QEMU_CONF.write_bytes(QEMU_CONF.read_bytes() + b"# wanted\n")
    count = len(world.events())
    assert world.run("config", "approve", "-y") == "approved as number 2\n"
    assert world.events()[count:] == [(12, "host", "host/qemu.conf"), (12, "host", "host/baseline")]
    starts(world)
    assert verified(world, tmp_path)[0] == 0
    new = kept.read_bytes()
    kept.write_bytes(old)
    with unchanged(world):
        failed = refused_by_agent(world)
    assert {check for check, _ in failed} == {"not-approved"}
    assert "number 2 was approved" in world.run("config", "show")
    kept.write_bytes(new)
    starts(world)


def test_approvals_last_over_a_reboot_and_an_update(world: World) -> None:
    world.host.power_cycle()
    world.libvirt.restart_libvirtd()
    world.host.start_agent()
    starts(world)


def test_what_the_site_approved_in_a_release_starts_without_the_administrators_word(
    world: World, asking: Desk, tmp_path: Path
) -> None:
    """The last hosts' checks become part of the next release; this host's own baseline is taken away."""
    model = asking.folder / "model-host.json"
    model.write_text(world.run("config", "check", "-o", "json"))
    recipe = asking.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more=POLICY)
    recipe.write_text('site_baseline = ["model-host.json"]\n' + recipe.read_text())
    asking.release(recipe)
    world.run("update", "apply")
    HostPaths(world.host.root).baseline.unlink()
    starts(world)
    found = json.loads(world.run("config", "check", "-o", "json"))
    assert {(thing["outcome"], thing["authority"]) for thing in found["things"]} == {("pass", "site")}
    assert found["refused"], "that the administrator's baseline is gone is told all the same"
    assert verified(world, tmp_path)[0] == 5, "a verifier needs the site's baseline, too"
    code, judged = verified(world, tmp_path, site=world.stored("site-baseline"))
    own = {("reference", "pass", "publisher"), ("kernel-argument", "pass", "publisher")}
    assert (code, judged) == (0, own | {("host-local", "pass", "site")})


def test_in_a_boot_that_was_broken_off_what_runs_is_suspended_and_stays_so(world: World, tmp_path: Path) -> None:
    """Beside the real agent, with a TPM of its own that was reset under the running kernel."""
    world.run("vm", "start", VM_NAME)
    paths, boot = HostPaths(tmp_path / "root"), "11111111-2222-3333-4444-555555555555"
    durable.make_directory(paths.run)
    durable.write_file(paths.boot, BootState(boot=boot, resets=7_000, restarts=0).encode())
    audit = AuditTrail(paths.audit, lambda: 7, boot)
    hypervisor = Hypervisor()
    with SoftwareTpm(tmp_path / "t") as chip, Tpm.open(chip.tcti) as tpm:
        wake = Wake(
            Continuity(paths, tpm, audit, boot), MeasurementLog.open(paths.measurements, tpm), hypervisor, audit
        )
        for _ in range(2):
            assert world.vm_state() == "running"
            wake.look()
            assert world.vm_state() == "paused"
            wake.look()
            world.virsh("resume", VM_NAME)
    hypervisor.close()
    told = [(record.event, record.outcome, record.subject) for record in records(paths.audit)]
    assert told[0] == ("host-resume", "refused", "host")
    assert told[1:] == [("vm-suspend", "started", VM_NAME), ("vm-suspend", "done", VM_NAME)] * 2
    shutil.rmtree(paths.run)
