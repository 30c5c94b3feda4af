# SPDX-License-Identifier: Apache-2.0
"""Bad input to a host and its agent, by the real command on a real software TPM and libvirt.

Each ends as one line that says what, why and what to do, with the exit code of the contract, and the state as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import command, tpm
from lab.command import refused
from lab.host import Host, Result
from lab.libvirt_host import LibvirtHost, running
from lab.publisher import VM_NAME, VMGATE, Desk

tpm.quiet()

from measure.tpm import Tpm  # noqa: E402 (after the library was told to be quiet)

CACHE = Path(os.environ.get("VMGATE_CACHE", Path(__file__).resolve().parents[2] / ".cache"))
IN_1970 = ("faketime", "-f", "@1970-01-02 00:00:00")
IN_TWO_YEARS = ("faketime", "-f", "+730d")
MIB = 1 << 20
EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "first-changed": lambda lines: [lines[0].replace(b'"host"', b'"hose"', 1), *lines[1:]],
    "time-changed": lambda lines: [*lines[:-1], lines[-1].replace(b'"time":1', b'"time":2', 1)],
    "one-removed": lambda lines: [*lines[:1], *lines[2:]],
    "two-swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "one-twice": lambda lines: [*lines, lines[-1]],
    "end-cut-off": lambda lines: lines[:-1],
    "torn": lambda lines: [*lines[:-1], lines[-1][:-20]],
    "not-a-record": lambda lines: [*lines[:-1], b"{}\n"],
    "emptied": lambda lines: [],
}


class World:
    """One host with releases 1, and the publisher's web server."""

    def __init__(self, folder: Path, libvirt: LibvirtHost) -> None:
        self.folder = folder
        self.libvirt = libvirt
        self.desk = Desk(folder / "publisher", CACHE, hidden=folder / "host")
        self.desk.init()
        self._publish("1")
        self.bundle = folder / "releases.bundle"
        self.desk.bundle(self.bundle)
        self.web = subprocess.Popen(
            [str(VMGATE), "repo", "serve", str(self.desk.repository), "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.web.stdout is not None
        self.url = self.web.stdout.readline().split(" at ")[1].strip()
        self.host = Host(folder / "host", libvirt)
        self.host.tpm.start()
        self._on: tuple[str, ...] | None = None
        done = self.host.vmgate("init", "--anchor", self.desk.anchor, "--settings", self.host.settings(self.url))
        assert done.exit == 0, done.err
        libvirt.restart_libvirtd()
        self.on()
        done = self.host.vmgate("update", "apply")
        assert done.exit == 0, done.err

    def _publish(self, build: str) -> None:
        (self.desk.folder / "hello.img").write_bytes(build.encode() * MIB)
        if build == "1":
            self.desk.release(self.desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024))
        self.desk.release(self.desk.write_workload(title=f"Build {build}", image="hello.img", accepts=(1, 9)))

    def publish_larger(self) -> None:
        """Release 2 of the workload, with an image of 8 MiB."""
        self._publish("12345678")

    @property
    def var(self) -> Path:
        """The host's state folder."""
        return self.host.root / "var/lib/vmgate"

    @property
    def etc(self) -> Path:
        """The host's settings folder."""
        return self.host.root / "etc/vmgate"

    def state(self) -> Mapping[str, str]:
        """All that an update or a start may change, but for the audit trail."""
        return command.state(self.var, self.etc, without=("audit",))

    def on(self, *before: str) -> Host:
        """The host with its agent running, by a program ``before`` it if so asked."""
        if self._on != before:
            self.off()
            self.host.start_agent(*before)
            self._on = before
        return self.host

    def off(self) -> Host:
        """The host without an agent."""
        self.host.stop_agent()
        self._on = None
        return self.host

    def close(self) -> None:
        """End what this started."""
        self.host.close()
        self.web.terminate()
        self.web.wait()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    # QEMU's user must be able to enter it, and pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory(prefix="vmgate-bad-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running(folder / "libvirt") as libvirt:
            world = World(folder, libvirt)
            try:
                yield world
            finally:
                world.close()


@contextmanager
def edited(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Let a file hold something else for the time of a block."""
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        yield
    finally:
        path.write_bytes(before)


def last_audit(world: World, count: int = 1) -> list[dict[str, object]]:
    """The newest records of the trail."""
    done = world.host.vmgate("audit", "list", "--last", str(count), "-o", "json")
    records: list[dict[str, object]] = json.loads(done.out)["records"]
    return records


# Setting up: nothing is written where anything is wrong


def init(world: World, folder: Path, settings: str, anchor: bytes | None = None) -> Result:
    """``vmgate init`` of another host, whose root is not there yet."""
    folder.mkdir(exist_ok=True)
    (folder / "vmgate.toml").write_text(settings)
    (folder / "root.json").write_bytes(world.desk.anchor.read_bytes() if anchor is None else anchor)
    return command.run(
        "init", "--anchor", folder / "root.json", "--settings", folder / "vmgate.toml", "--root", folder / "root"
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('repositry = "http://h"', "'repositry' is unknown"),
        ("repository = 1", "'repository' is not in its form"),
        ('channels = ["platform", "platform"]', "distinct"),
        ('libvirt = "qemu+ssh://elsewhere/system"', "'libvirt' is not in its form"),
        ("channels = [", "not TOML"),
        ("a = " + "[" * 5_000, "not TOML"),
        ("[table]\nx = 1", "'table' is unknown"),
    ],
)
def test_settings_that_are_not_known_set_nothing_up(world: World, tmp_path: Path, settings: str, says: str) -> None:
    refusal = refused(init(world, tmp_path / "new", settings), 2)
    assert refusal.code == "AG017"
    assert says in refusal.cause
    assert not (tmp_path / "new/root").exists()


def test_an_anchor_that_is_none_sets_nothing_up(world: World, tmp_path: Path) -> None:
    good = world.desk.anchor.read_bytes()
    release = next((world.desk.repository / "targets/releases/platform").iterdir()).read_bytes()
    for anchor in (b"", b"\xff\xfe", b"{}", b"[" * 1_000, good[:-1], good.replace(b"root", b"riot", 1), release):
        refusal = refused(init(world, tmp_path / "new", "", anchor), 5)
        assert refusal.code.startswith("KY"), anchor[:40]
        assert not (tmp_path / "new/root").exists()


def test_without_a_tpm_nothing_is_set_up(world: World, tmp_path: Path) -> None:
    for tcti in (f"swtpm:path={tmp_path}/none", "device:/dev/null", "nonesuch"):
        refusal = refused(init(world, tmp_path / "new", f'tpm = "{tcti}"'), 7)
        assert refusal.code == "ME001"
        assert tcti in refusal.what
        assert not (tmp_path / "new/root").exists()


def test_a_hook_of_somebody_else_stays(world: World, tmp_path: Path) -> None:
    hook = tmp_path / "qemu"
    hook.write_text("#!/bin/sh\n")
    refusal = refused(init(world, tmp_path / "new", f'hook = "{hook}"'), 7)
    assert str(hook) in refusal.cause
    assert hook.read_text() == "#!/bin/sh\n"
    assert not (tmp_path / "new/root").exists()


def test_a_host_is_set_up_once(world: World) -> None:
    host, before = world.off(), world.state()
    refusal = refused(host.vmgate("init", "--anchor", world.desk.anchor), 7)
    assert "already" in refusal.cause
    assert world.state() == before


# What does not answer


def test_requests_that_name_nothing(world: World) -> None:
    host, before = world.on(), world.state()
    for verb in ("start", "show", "why", "stop", "kill", "console"):
        assert refused(host.vmgate("vm", verb, "nonesuch"), 3).code == "AG013"
    assert refused(host.vmgate("vm", "start", "no\x1b[2Jsuch\n"), 3).code == "AG013"
    for nonce in ("zz", "00", "00" * 65, "0" * 33):
        refused(host.vmgate("attest", "evidence", "--nonce", nonce), 2)
    refused(host.vmgate("update", "rollback"), 3)
    assert world.state() == before


def test_a_second_agent_names_the_first(world: World) -> None:
    host, before = world.on(), world.state()
    refusal = refused(host.vmgate("agent", "run"), 7)
    holder = (world.var / "lock").read_text()
    assert holder.startswith("process ")
    assert holder in refusal.cause
    assert world.state() == before
    assert host.vmgate("vm", "list").exit == 0


def test_without_an_agent_nothing_starts(world: World) -> None:
    host, before = world.off(), world.state()
    for verb in (["status"], ["vm", "start", VM_NAME], ["vm", "list"], ["update", "apply"], ["attest", "self"]):
        refusal = refused(host.vmgate(*verb), 7)
        assert refusal.code == "AG014"
        assert "vmgate agent run" in refusal.remedy
    assert "AG003" in world.libvirt.virsh("start", VM_NAME, check=False).stderr
    assert world.state() == before


def test_a_host_that_was_not_set_up(world: World, tmp_path: Path) -> None:
    for verb in (["agent", "run"], ["status"], ["audit", "verify"]):
        refused(command.run(*verb, VMGATE_ROOT=str(tmp_path / "nothing")), 7)
    assert not (tmp_path / "nothing").exists()


def test_without_libvirt_nothing_starts_and_status_says_why(world: World) -> None:
    host, before = world.on(), world.state()
    world.libvirt.stop_libvirtd()
    try:
        status = host.vmgate("status")
        assert status.exit == 7
        assert status.err == ""
        assert "libvirt does not answer" in status.out
        for verb in (["vm", "start", VM_NAME], ["vm", "kill", VM_NAME], ["vm", "list"]):
            refusal = refused(host.vmgate(*verb), 7)
            assert refusal.code == "HY001"
            assert "libvirtd" in refusal.remedy
        # The agent comes up without libvirt: it must be there to say what is wrong.
        world.off()
        world.on()
        assert "libvirt does not answer" in host.vmgate("status").out
    finally:
        world.libvirt.start_libvirtd()
    assert world.state() == before
    assert host.vmgate("status").exit == 0


@pytest.mark.parametrize("verb", ["check", "apply"])
def test_without_a_network_nothing_changes(world: World, verb: str) -> None:
    settings = world.etc / "vmgate.toml"
    with edited(settings, lambda text: text.replace(world.url.encode(), b"http://127.0.0.1:9")):
        world.off()
        host, before = world.on(), world.state()
        refusal = refused(host.vmgate("update", verb), 8)
        assert "refused" in refusal.cause
        assert world.state() == before
        world.off()
    if verb == "apply":
        event = last_audit(world, 2)[0]
        assert (event["event"], event["outcome"]) == ("update-apply", "failed")


def test_the_tpm_is_away(world: World) -> None:
    host, before = world.off(), world.state()
    host.tpm.stop()
    refusal = refused(host.vmgate("agent", "run"), 7)
    assert refusal.code == "ME001"
    assert host.tpm.tcti in refusal.what
    assert world.state() == before
    host.power_cycle()
    world.on()
    host.tpm.stop()
    try:
        assert refused(host.vmgate("measure", "show"), 7).code == "ME002"
        assert refused(host.vmgate("attest", "evidence", "--nonce", "00" * 32), 7).code == "ME002"
        refused(host.vmgate("vm", "start", VM_NAME), 5)
        assert world.libvirt.virsh("domstate", VM_NAME).stdout.strip() == "shut off"
    finally:
        world.off()
        host.power_cycle()
    assert world.on().vmgate("status").exit == 0


@pytest.mark.parametrize("pcr", [12, 13])
def test_a_pcr_that_somebody_else_used(world: World, pcr: int) -> None:
    host, before = world.off(), world.state()
    host.power_cycle()
    with Tpm.open(host.tpm.tcti) as chip:
        chip.extend(pcr, b"a system extension")
    refusal = refused(host.vmgate("agent", "run"), 7)
    assert refusal.code == "ME003"
    assert f"PCR {pcr} " in refusal.what
    assert "systemd" in refusal.cause
    assert world.state() == before
    host.power_cycle()


# State that is not what this vmgate wrote


@pytest.mark.parametrize(
    "name", ["journal", "floor", "generations/1/generation.json", "tpm/host-key.json", "tpm/audit-key.json"]
)
def test_state_of_a_newer_vmgate_is_left_alone(world: World, name: str) -> None:
    host = world.off()
    with edited(world.var / name, lambda data: data.replace(b'"version":1}', b'"version":2}')):
        before = world.state()
        refusal = refused(host.vmgate("agent", "run"), 7)
        assert refusal.code == "DC003"
        assert world.state() == before


@pytest.mark.parametrize("name", ["journal", "floor", "generations/1/generation.json"])
def test_state_that_is_damaged_is_left_alone(world: World, name: str) -> None:
    host = world.off()
    for change in (lambda data: b"", lambda data: data[:-1], lambda data: b"\0" * len(data), lambda data: b"{}"):
        with edited(world.var / name, change):
            before = world.state()
            refused(host.vmgate("agent", "run"), 5)
            assert world.state() == before


def test_a_damaged_key_of_the_host_opens_nothing(world: World) -> None:
    world.off()
    with edited(world.var / "tpm/host-key.json", lambda data: data.replace(b'"private":"A', b'"private":"B')):
        host, before = world.on(), world.state()
        refusal = refused(host.vmgate("vm", "start", VM_NAME), 5)
        assert "vm-key" in refusal.cause
        after = world.state()
        assert {path for path in after if after[path] != before.get(path)} == {
            str(world.var / "vms" / VM_NAME / "verdict.json")
        }
        world.off()
    assert world.libvirt.virsh("domstate", VM_NAME).stdout.strip() == "shut off"


def test_an_unknown_setting_keeps_the_agent_away(world: World) -> None:
    host = world.off()
    with edited(world.etc / "vmgate.toml", lambda text: text + b'allow_anything = "yes"\n'):
        before = world.state()
        refusal = refused(host.vmgate("agent", "run"), 2)
        assert "allow_anything" in refusal.cause
        assert world.state() == before


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_an_edited_audit_trail_is_refused(world: World, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    host = world.off()
    assert host.vmgate("audit", "verify").exit == 0
    with edited(world.var / "audit/trail.jsonl", lambda data: b"".join(edit(data.splitlines(keepends=True)))):
        before = command.state(world.host.root)
        refused(host.vmgate("audit", "verify"), 5)
        refused(host.vmgate("agent", "run"), 5)
        assert command.state(world.host.root) == before


def test_an_audit_trail_that_is_gone_is_refused(world: World) -> None:
    host = world.off()
    audit, kept = world.var / "audit", world.var / "audit.kept"
    audit.rename(kept)
    try:
        refused(host.vmgate("audit", "verify"), 5)
    finally:
        kept.rename(audit)
    assert host.vmgate("audit", "verify").exit == 0


# What the repository or a bundle says


def test_another_publisher_is_refused(world: World, tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("another\n")
    done = command.run(
        "repo", "init", tmp_path / "repository", "--keys", tmp_path / "keys", "--anchor", tmp_path / "root.json",
        VMGATE_PASSPHRASE_FILE=str(passphrase),
    )  # fmt: skip
    assert done.exit == 0, done.err
    refusal = refused(command.run("bundle", "verify", world.bundle, "--anchor", tmp_path / "root.json"), 5)
    assert refusal.code == "UP006"
    world.off()
    with edited(world.etc / "root.json", lambda _: (tmp_path / "root.json").read_bytes()):
        host, before = world.on(), world.state()
        assert refused(host.vmgate("update", "apply"), 5).code == "UP006"
        assert refused(host.vmgate("update", "import", world.bundle), 5).code == "UP006"
        assert world.state() == before
        assert last_audit(world)[0]["outcome"] == "refused"
        world.off()


def test_a_clock_at_1970_is_refused(world: World) -> None:
    world.off()
    host, before = world.on(*IN_1970), world.state()
    for verb in (["check"], ["apply"], ["import", world.bundle]):
        refusal = refused(host.vmgate("update", *verb), 7)
        assert refusal.code == "UP008"
        assert "1970-01-02" in refusal.cause
    assert world.state() == before
    refused(command.run("bundle", "verify", world.bundle, "--anchor", world.desk.anchor, before=IN_1970), 7)
    world.off()


def test_expired_metadata_is_refused(world: World) -> None:
    world.off()
    host, before = world.on(*IN_TWO_YEARS), world.state()
    for verb in (["check"], ["apply"]):
        refusal = refused(host.vmgate("update", *verb), 5)
        assert refusal.code == "UP005"
        assert "expired" in refusal.cause
    refused(host.vmgate("update", "import", world.bundle), 5)
    assert world.state() == before
    for verb in (["repo", "verify", world.desk.repository], ["bundle", "verify", world.bundle]):
        options = ["--anchor", world.desk.anchor] if verb[0] == "bundle" else []
        refused(command.run(*verb, *options, before=IN_TWO_YEARS), 5)
    world.off()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"garbage",
        lambda data: data + b"\0",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:10],
        lambda data: b"",
        lambda data: b"\0" * 10_000,
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:200].replace(b'"', b"'", 1) + data[200:],
        lambda data: data[:-MIB] + bytes([data[-MIB] ^ 1]) + data[1 - MIB :],
    ],
    ids=["appended", "zero-appended", "short", "half", "head-only", "empty", "zeros", "magic", "index", "artifact"],
)
def test_a_damaged_bundle_is_refused(world: World, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    damaged = tmp_path / "damaged.bundle"
    damaged.write_bytes(change(world.bundle.read_bytes()))
    refused(command.run("bundle", "verify", damaged, "--anchor", world.desk.anchor), 5)


def test_a_damaged_bundle_is_not_imported(world: World, tmp_path: Path) -> None:
    host, before = world.on(), world.state()
    damaged = world.folder / "damaged.bundle"
    for data in (world.bundle.read_bytes() + b"\0", world.bundle.read_bytes()[:-1], b""):
        damaged.write_bytes(data)
        assert refused(host.vmgate("update", "import", damaged), 5).code == "UP010"
    assert world.state() == before
    event = last_audit(world, 2)[0]
    assert (event["event"], event["outcome"]) == ("update-import", "refused")


# Last, since it publishes


def test_a_full_disk_keeps_the_old_release_whole(world: World) -> None:
    world.publish_larger()
    host = world.off()
    copy, var = world.folder / "state", world.var
    shutil.copytree(var, copy, symlinks=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M,mode=711", "tmpfs", var], check=True)
    try:
        shutil.copytree(copy, var, symlinks=True, dirs_exist_ok=True)
        world.on()
        filler = var / "filler"
        with filler.open("wb") as file:
            file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(var).free - 2 * MIB)
        before = command.state(var, without=("audit", "tuf", "floor", "store/partial"))
        refusal = refused(host.vmgate("update", "apply"), 1)
        assert refusal.code == "CN002"
        assert f"{8 * MIB} bytes" in refusal.remedy
        assert command.state(var, without=("audit", "tuf", "floor", "store/partial")) == before
        event = last_audit(world)[0]
        assert (event["event"], event["outcome"]) == ("update-apply", "failed")
        with filler.open("ab") as file:
            file.write(b"\0" * shutil.disk_usage(var).free)
        whole = command.state(var)
        # Without room for its record nothing may start.
        assert refused(host.vmgate("vm", "start", VM_NAME), 1).code == "CN002"
        assert world.libvirt.virsh("domstate", VM_NAME).stdout.strip() == "shut off"
        assert command.state(var) == whole
        filler.unlink()
        done = host.vmgate("update", "apply")
        assert done.exit == 0, done.err
        assert "workload: release 2" in done.out
        assert host.vmgate("audit", "verify").exit == 0
    finally:
        world.off()
        subprocess.run(["umount", var], check=True)
