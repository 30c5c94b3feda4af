# SPDX-License-Identifier: Apache-2.0
"""Bad input to a host and its agent, by the real command on a real software TPM and libvirt.

Each ends as one line that says what, why and what to do, with the exit code of the contract, and the state as it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from documents.evidence import Evidence
from documents.release import Release
from lab import command
from lab.clock import at
from lab.command import refused
from lab.host import Host, Result
from lab.publisher import VM_NAME, Desk
from lab.tpm import SoftwareTpm
from lab.world import World, copied, living, serving
from measure.cel import CelRecord, encode_record, parse_log, record
from measure.tpm import Tpm

MIB = 1 << 20
LARGE = 16 * MIB
EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "first-changed": lambda lines: [lines[0].replace(b'"host"', b'"hose"', 1), *lines[1:]],
    "time-changed": lambda lines: [*lines[:-1], lines[-1].replace(b'"time":1', b'"time":2', 1)],
    "one-removed": lambda lines: [*lines[:1], *lines[2:]],
    "two-swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "one-twice": lambda lines: [*lines, lines[-1]],
    "end-cut-off": lambda lines: lines[:-1],
    "torn": lambda lines: [*lines[:-1], lines[-1][:-20]],
    "not-a-record": lambda lines: [*lines[:-1], b"{}\n"],
    "emptied": lambda _: [],
}


class Bench:
    """One host that follows a publisher, with an agent or without."""

    def __init__(self, world: World, url: str) -> None:
        self.host = world.host
        self.libvirt = world.libvirt
        self.desk = world.desk
        self.trail = world.trail
        self.vm_state = world.vm_state
        self.folder = world.folder
        self.var = world.state_folder
        self.etc = world.root / "etc/vmgate"
        self.url = url
        self.bundle = world.folder / "releases.bundle"
        self.desk.bundle(self.bundle)
        self._on: tuple[str, ...] | None = ()

    def state(self, *without: str) -> Mapping[str, str]:
        """The host's files but for the audit trail."""
        return command.state(self.var, self.etc, without=("audit", *without))

    def last(self, event: str) -> str:
        """The outcome of the newest record of an event."""
        return [record.outcome for record in self.trail() if record.event == event][-1]

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

    def agent(self) -> Result:
        """An agent that ends by itself."""
        return command.run("agent", "run", "--root", self.host.root)


@pytest.fixture(scope="module")
def bench(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    with serving(publisher.repository) as url, living("bad", publisher, url) as world:
        world.run("update", "apply")
        yield Bench(world, url)


IN_1970 = at("@1970-01-02 00:00:00")
IN_TWO_YEARS = at("+730d")


@contextmanager
def edited(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Let a file hold something else for the time of a block."""
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        yield
    finally:
        path.write_bytes(before)


# Setting up: nothing is written where anything is wrong


def init(bench: Bench, folder: Path, settings: str, anchor: bytes | None = None) -> Result:
    """``vmgate init`` of another host, whose root is not there yet."""
    folder.mkdir(exist_ok=True)
    (folder / "vmgate.toml").write_text(settings)
    (folder / "root.json").write_bytes(bench.desk.anchor.read_bytes() if anchor is None else anchor)
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
def test_settings_that_are_not_known_set_nothing_up(bench: Bench, tmp_path: Path, settings: str, says: str) -> None:
    refusal = refused(init(bench, tmp_path / "new", settings), 2)
    assert refusal.code == "AG017"
    assert says in refusal.cause
    assert not (tmp_path / "new/root").exists()


def test_an_anchor_that_is_none_sets_nothing_up(bench: Bench, tmp_path: Path) -> None:
    good = bench.desk.anchor.read_bytes()
    release = next((bench.desk.repository / "targets/releases/platform").iterdir()).read_bytes()
    for anchor in (b"", b"\xff\xfe", b"[" * 1_000, good[:-1], good.replace(b"root", b"riot", 1), release):
        refusal = refused(init(bench, tmp_path / "new", "", anchor), 5)
        assert refusal.code.startswith("KY"), anchor[:40]
        assert not (tmp_path / "new/root").exists()


def test_without_a_tpm_nothing_is_set_up(bench: Bench, tmp_path: Path) -> None:
    for tcti in (f"swtpm:path={tmp_path}/none", "device:/dev/null", "nonesuch"):
        refusal = refused(init(bench, tmp_path / "new", f'tpm = "{tcti}"'), 7)
        assert refusal.code == "ME001"
        assert tcti in refusal.what
        assert not (tmp_path / "new/root").exists()


def test_a_hook_of_somebody_else_stays(bench: Bench, tmp_path: Path) -> None:
    hook = tmp_path / "qemu"
    hook.write_text("#!/bin/sh\n")
    refusal = refused(init(bench, tmp_path / "new", f'hook = "{hook}"'), 7)
    assert str(hook) in refusal.cause
    assert hook.read_text() == "#!/bin/sh\n"
    assert not (tmp_path / "new/root").exists()


def test_a_host_is_set_up_once(bench: Bench) -> None:
    host, before = bench.off(), bench.state()
    refusal = refused(host.vmgate("init", "--anchor", bench.desk.anchor), 7)
    assert "already" in refusal.cause
    assert bench.state() == before


# What does not answer


def test_requests_that_name_nothing(bench: Bench) -> None:
    host, before = bench.on(), bench.state()
    for verb in ("start", "show", "why", "stop", "kill", "console"):
        assert refused(host.vmgate("vm", verb, "nonesuch"), 3).code == "AG013"
    assert refused(host.vmgate("vm", "start", "no\x1b[2Jsuch\n"), 3).code == "AG013"
    for nonce in ("zz", "00", "00" * 65, "0" * 33):
        refused(host.vmgate("attest", "evidence", "--nonce", nonce), 2)
    refused(host.vmgate("update", "rollback"), 3)
    assert bench.state() == before


def test_a_second_agent_names_the_first(bench: Bench) -> None:
    host, before = bench.on(), bench.state()
    refusal = refused(bench.agent(), 7)
    holder = (bench.var / "lock").read_text()
    assert holder.startswith("process ")
    assert holder in refusal.cause
    assert bench.state() == before
    assert host.vmgate("vm", "list").exit == 0


def test_without_an_agent_nothing_starts(bench: Bench) -> None:
    host, before = bench.off(), bench.state()
    for verb in (["status"], ["vm", "start", VM_NAME], ["vm", "list"], ["update", "apply"], ["attest", "self"]):
        refusal = refused(host.vmgate(*verb), 7)
        assert refusal.code == "AG014"
        assert "vmgate agent run" in refusal.remedy
    assert "AG003" in bench.libvirt.virsh("start", VM_NAME, check=False).stderr
    assert bench.state() == before


def test_a_host_that_was_not_set_up(bench: Bench, tmp_path: Path) -> None:
    for verb in (["agent", "run"], ["status"], ["audit", "verify"]):
        refused(command.run(*verb, VMGATE_ROOT=str(tmp_path / "nothing")), 7)
    assert not (tmp_path / "nothing").exists()


def test_without_libvirt_nothing_starts_and_status_says_why(bench: Bench) -> None:
    host, before = bench.on(), bench.state()
    bench.libvirt.stop_libvirtd()
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
        bench.off()
        bench.on()
        assert "libvirt does not answer" in host.vmgate("status").out
    finally:
        bench.libvirt.start_libvirtd()
    assert bench.state() == before
    assert host.vmgate("status").exit == 0


@pytest.mark.parametrize("verb", ["check", "apply"])
def test_without_a_network_nothing_changes(bench: Bench, verb: str) -> None:
    settings = bench.etc / "vmgate.toml"
    with edited(settings, lambda text: text.replace(bench.url.encode(), b"http://127.0.0.1:9")):
        bench.off()
        host, before = bench.on(), bench.state()
        refusal = refused(host.vmgate("update", verb), 8)
        assert "refused" in refusal.cause
        assert bench.state() == before
        bench.off()
    if verb == "apply":
        assert bench.last("update-apply") == "failed"


def test_the_tpm_is_away(bench: Bench) -> None:
    host, before = bench.off(), bench.state()
    host.tpm.stop()
    refusal = refused(bench.agent(), 7)
    assert refusal.code == "ME001"
    assert host.tpm.tcti in refusal.what
    assert bench.state() == before
    host.power_cycle()
    bench.on()
    host.tpm.stop()
    try:
        assert refused(host.vmgate("measure", "show"), 7).code == "ME002"
        assert refused(host.vmgate("attest", "evidence", "--nonce", "00" * 32), 7).code == "ME002"
        refused(host.vmgate("vm", "start", VM_NAME), 5)
        assert bench.vm_state() == "shut off"
    finally:
        bench.off()
        host.power_cycle()
    assert bench.on().vmgate("status").exit == 0


@pytest.mark.parametrize("pcr", [12, 13])
def test_a_pcr_that_somebody_else_used(bench: Bench, pcr: int) -> None:
    host, before = bench.off(), bench.state()
    host.power_cycle()
    with Tpm.open(host.tpm.tcti) as chip:
        chip.extend(pcr, b"a system extension")
    refusal = refused(bench.agent(), 7)
    assert refusal.code == "ME003"
    assert f"PCR {pcr} " in refusal.what
    assert "systemd" in refusal.cause
    assert bench.state() == before
    host.power_cycle()


# State that is not what this vmgate wrote


@pytest.mark.parametrize(
    "name", ["journal", "generations/1/generation.json", "tpm/host-key.json", "tpm/audit-key.json"]
)
def test_state_of_a_newer_vmgate_is_left_alone(bench: Bench, name: str) -> None:
    bench.off()
    with edited(bench.var / name, lambda data: data.replace(b'"version":1}', b'"version":2}')):
        before = bench.state()
        refusal = refused(bench.agent(), 7)
        assert refusal.code == "DC003"
        assert bench.state() == before


@pytest.mark.parametrize("name", ["journal", "generations/1/generation.json"])
def test_state_that_is_damaged_is_left_alone(bench: Bench, name: str) -> None:
    bench.off()
    for change in (lambda _: b"", lambda data: data[:-1], lambda data: bytes(len(data)), lambda _: b"{}"):
        with edited(bench.var / name, change):
            before = bench.state()
            refused(bench.agent(), 5)
            assert bench.state() == before


def test_a_floor_that_cannot_be_read_lets_no_update_in(bench: Bench) -> None:
    for change in (lambda data: data[:-1], lambda _: b""):
        with edited(bench.var / "floor", change):
            host, before = bench.on(), bench.state()
            refused(host.vmgate("update", "check"), 5)
            refused(host.vmgate("update", "apply"), 5)
            refused(host.vmgate("update", "import", bench.bundle), 5)
            assert bench.state() == before
    bench.off()
    # The host's key is sealed with the floor, so a newer vmgate's floor is looked at when the agent starts.
    with edited(bench.var / "floor", lambda data: data.replace(b'"version":1}', b'"version":2}')):
        before = bench.state()
        refused(bench.agent(), 7)
        assert bench.state() == before


def test_a_damaged_key_of_the_host_opens_nothing(bench: Bench) -> None:
    bench.off()
    with edited(bench.var / "tpm/host-key.json", lambda data: data.replace(b'"private":"A', b'"private":"B')):
        host, before = bench.on(), bench.state()
        refusal = refused(host.vmgate("vm", "start", VM_NAME), 5)
        assert "vm-key" in refusal.cause
        after = bench.state()
        assert {path for path in after if after[path] != before.get(path)} == {
            str(bench.var / "vms" / VM_NAME / "verdict.json")
        }
        bench.off()
    assert bench.vm_state() == "shut off"


def test_an_unknown_setting_keeps_the_agent_away(bench: Bench) -> None:
    bench.off()
    with edited(bench.etc / "vmgate.toml", lambda text: text + b'allow_anything = "yes"\n'):
        before = bench.state()
        refusal = refused(bench.agent(), 2)
        assert "allow_anything" in refusal.cause
        assert bench.state() == before


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_an_edited_audit_trail_is_refused(bench: Bench, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    host = bench.off()
    assert host.vmgate("audit", "verify").exit == 0
    with edited(bench.var / "audit/trail.jsonl", lambda data: b"".join(edit(data.splitlines(keepends=True)))):
        before = command.state(bench.var)
        refused(host.vmgate("audit", "verify"), 5)
        refused(bench.agent(), 5)
        assert command.state(bench.var) == before


def test_an_audit_trail_that_is_gone_is_refused(bench: Bench) -> None:
    host = bench.off()
    audit, kept = bench.var / "audit", bench.var / "audit.kept"
    audit.rename(kept)
    try:
        refused(host.vmgate("audit", "verify"), 5)
    finally:
        kept.rename(audit)
    assert host.vmgate("audit", "verify").exit == 0


# What the repository or a bundle says


def test_another_publisher_is_refused(bench: Bench, tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("another\n")
    done = command.run(
        "repo", "init", tmp_path / "repository", "--keys", tmp_path / "keys", "--anchor", tmp_path / "root.json",
        VMGATE_PASSPHRASE_FILE=str(passphrase),
    )  # fmt: skip
    assert done.exit == 0, done.err
    refusal = refused(command.run("bundle", "verify", bench.bundle, "--anchor", tmp_path / "root.json"), 5)
    assert refusal.code == "UP006"
    bench.off()
    with edited(bench.var / "root.json", lambda _: (tmp_path / "root.json").read_bytes()):
        # The client keeps the roots that it was given; it starts from the anchor again each time.
        host, before = bench.on(), bench.state("tuf")
        assert refused(host.vmgate("update", "apply"), 5).code == "UP006"
        assert refused(host.vmgate("update", "import", bench.bundle), 5).code == "UP006"
        assert bench.state("tuf") == before
        assert bench.last("update-import") == "refused"
        bench.off()
    assert bench.on().vmgate("update", "apply").exit == 0


def test_a_clock_at_1970_is_refused(bench: Bench) -> None:
    bench.off()
    host, before = bench.on(*IN_1970), bench.state()
    for verb in (["check"], ["apply"], ["import", bench.bundle]):
        refusal = refused(host.vmgate("update", *verb), 7)
        assert refusal.code == "UP008"
        assert "1970-01-02" in refusal.cause
    assert bench.state() == before
    refused(command.run("bundle", "verify", bench.bundle, "--anchor", bench.desk.anchor, before=IN_1970), 7)
    bench.off()


def test_expired_metadata_is_refused(bench: Bench) -> None:
    bench.off()
    host, before = bench.on(*IN_TWO_YEARS), bench.state()
    for verb in (["check"], ["apply"]):
        refusal = refused(host.vmgate("update", *verb), 5)
        assert refusal.code == "UP005"
        assert "expired" in refusal.cause
    refused(host.vmgate("update", "import", bench.bundle), 5)
    assert bench.state() == before
    for verb in (["repo", "verify", bench.desk.repository], ["bundle", "verify", bench.bundle]):
        options = ["--anchor", bench.desk.anchor] if verb[0] == "bundle" else []
        refused(command.run(*verb, *options, before=IN_TWO_YEARS), 5)
    bench.off()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"garbage",
        lambda data: data + b"\0",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:10],
        lambda _: b"",
        lambda _: b"\0" * 10_000,
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:200].replace(b'"', b"'", 1) + data[200:],
        lambda data: data[:-MIB] + bytes([data[-MIB] ^ 1]) + data[1 - MIB :],
    ],
    ids=["appended", "zero-appended", "short", "half", "head-only", "empty", "zeros", "magic", "index", "artifact"],
)
def test_a_damaged_bundle_is_refused(bench: Bench, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    damaged = tmp_path / "damaged.bundle"
    damaged.write_bytes(change(bench.bundle.read_bytes()))
    refused(command.run("bundle", "verify", damaged, "--anchor", bench.desk.anchor), 5)


def test_a_damaged_bundle_is_not_imported(bench: Bench, tmp_path: Path) -> None:
    host, before = bench.on(), bench.state()
    damaged = bench.folder / "damaged.bundle"
    for data in (bench.bundle.read_bytes() + b"\0", bench.bundle.read_bytes()[:-1], b""):
        damaged.write_bytes(data)
        assert refused(host.vmgate("update", "import", damaged), 5).code == "UP010"
    assert bench.state() == before
    assert bench.last("update-import") == "refused"


# What a verifier is given


@dataclass(frozen=True, slots=True)
class Given:
    """Evidence of the host, and what a verifier judges it by."""

    folder: Path
    nonce: str

    def verify(self, *more: str | Path, evidence: Path | None = None, **other: str | Path) -> Result:
        """``vmgate attest verify`` with everything that belongs there, some of it replaced; None leaves it out."""
        options = {
            "--ak": self.folder / "ak.pub",
            "--nonce": self.nonce,
            "--anchor": self.folder / "root.json",
            "--policy": self.folder / "policy.json",
        }
        options |= {f"--{name}": value for name, value in other.items()}
        releases = [] if "--release" in more else [self.folder / "platform.json", self.folder / "workload.json"]
        words = [word for pair in options.items() if pair[1] for word in pair]
        words += [word for path in releases for word in ("--release", path)]
        return command.run("attest", "verify", evidence or self.folder / "evidence.json", *words, *more)

    def written(self, name: str, data: bytes) -> Path:
        """Bytes as a file."""
        (self.folder / name).write_bytes(data)
        return self.folder / name


@pytest.fixture(scope="module")
def given(bench: Bench) -> Given:
    folder = bench.folder / "verifier"
    folder.mkdir()
    given = Given(folder, "5a" * 32)
    done = bench.on().vmgate("attest", "evidence", "--nonce", given.nonce, "--out", folder / "evidence.json")
    assert done.exit == 0, done.err
    shutil.copy(bench.var / "tpm/ak.pub", folder)
    shutil.copy(bench.desk.anchor, folder / "root.json")
    for channel in ("platform", "workload"):
        (release,) = (bench.desk.repository / f"targets/releases/{channel}").glob("*.1.json")
        shutil.copy(release, folder / f"{channel}.json")
    platform = Release.parse((folder / "platform.json").read_bytes())
    (policy,) = platform.of_kind("security-policy")
    shutil.copy(bench.var / "store" / policy.fsverity[:2] / policy.fsverity, folder / "policy.json")
    return given


def test_evidence_is_judged_with_all_that_belongs_there(given: Given) -> None:
    done = given.verify()
    assert (done.exit, done.err) == (0, "")
    assert json.loads(done.out)["submods"]["platform"]["ear.status"] == "warning"


def test_evidence_that_was_answered_once_is_not_good_twice(given: Given) -> None:
    seen = given.folder / "seen.json"
    assert given.verify("--seen", seen).exit == 0
    kept = seen.read_bytes()
    refusal = refused(given.verify("--seen", seen), 5)
    assert "nonce of evidence" in refusal.cause
    assert seen.read_bytes() == kept
    for damage in (b"", kept[:-1], (given.folder / "policy.json").read_bytes()):
        refused(given.verify("--seen", given.written("damaged-seen.json", damage)), 5)


def test_a_release_that_must_no_longer_be_used_proves_nothing(given: Given) -> None:
    assert "reference-expiry" in refused(given.verify("--expires", "2020-01-01"), 5).cause
    # One release alone has nothing to wait for.
    assert given.verify("--expires", "2999-01-01", "--new-from", "2999-01-01").exit == 0
    refused(given.verify("--expires", "soon"), 2)


def test_the_owner_of_a_host_sees_what_it_would_tell(bench: Bench, given: Given) -> None:
    done = bench.on().vmgate("attest", "evidence", "--explain", "-o", "json")
    assert done.exit == 0, done.err
    parts = {part["part"]: part for part in json.loads(done.out)["parts"]}
    evidence = Evidence.parse((given.folder / "evidence.json").read_bytes())
    assert parts["ak"]["bytes"] == len(evidence.ak)
    assert parts["cel"]["bytes"] >= len(evidence.cel)
    assert (parts["boot_log"]["bytes"], parts["boot_log"]["told"]) == (0, "no: the policy does not ask")
    refused(bench.on().vmgate("attest", "evidence"), 2)
    refused(bench.on().vmgate("attest", "evidence", "--explain", "--nonce", given.nonce), 2)


@pytest.mark.parametrize("missing", ["ak", "nonce", "release"])
def test_evidence_is_not_judged_with_less(given: Given, missing: str) -> None:
    if missing == "release":
        refusal = refused(given.verify("--release", given.folder / "workload.json"), 5)
    else:
        refusal = refused(given.verify(**{missing: ""}), 5)
    assert refusal.code == "FL001"


def test_evidence_of_a_software_tpm_needs_a_policy_that_allows_it(given: Given) -> None:
    done = given.verify(policy="")
    refusal = refused(done, 5)
    assert "assurance-level" in refusal.cause
    assert json.loads(done.out)["submods"]["platform"]["ear.status"] == "contraindicated"


def test_evidence_of_another_nonce_or_key_is_refused(given: Given, tmp_path: Path) -> None:
    assert refused(given.verify(nonce="00" * 32), 5).code == "ME004"
    assert refused(given.verify(nonce=given.nonce[:-2]), 5).code == "ME004"
    refused(given.verify(nonce="no hexadecimal"), 2)
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        SoftwareTpm(Path(folder)) as other,
        Tpm.open(other.tcti) as chip,
    ):
        stranger = given.written("stranger.pub", chip.create_ak())
    assert refused(given.verify(ak=stranger), 5).code == "ME004"
    for damage in (b"", b"\0" * 100, stranger.read_bytes()[:-1], stranger.read_bytes() + b"\0"):
        refused(given.verify(ak=given.written("damaged.pub", damage)), 5)


def test_a_log_with_a_line_changed_or_removed_is_refused(given: Given) -> None:
    evidence = Evidence.parse((given.folder / "evidence.json").read_bytes())
    lines, good = evidence.cel.splitlines(keepends=True), parse_log(evidence.cel)
    assert len(good) > 5
    # Numbers and digests belong to what is said: only the quote can tell.
    logs = [
        [encode_record(replace(r, number=number)) for number, r in enumerate(good[:i] + good[i + 1 :])]
        for i in range(len(good))
    ]
    logs += [[*lines[:i], encode_record(with_other_digest(good[i])), *lines[i + 1 :]] for i in range(len(good))]
    logs += [lines[1:], lines[::-1], [*lines, lines[-1]], [*lines[:-1], lines[-1][:-1]], []]
    for log in logs:
        path = given.written("changed.json", replace(evidence, cel=b"".join(log)).encode())
        assert refused(given.verify(evidence=path), 5).code in ("ME004", "ME005")


def with_other_digest(old: CelRecord) -> CelRecord:
    """A record that says that something else was measured."""
    return record(old.number, old.pcr, replace(old.content, fsverity="1" * 64), old.digests)


@pytest.mark.parametrize("name", ["evidence", "platform", "workload", "root", "policy"])
def test_a_malformed_document_is_refused(given: Given, name: str) -> None:
    good = (given.folder / f"{name}.json").read_bytes()
    for damage in (b"", b"\xff", b"{}", good[:-1], good + b"{", b"[" * 10_000):
        path = given.written("damaged.json", damage)
        if name == "evidence":
            done = given.verify(evidence=path)
        elif name in ("root", "policy"):
            done = given.verify(**{"anchor" if name == "root" else "policy": path})
        else:
            others = [given.folder / f"{other}.json" for other in ("platform", "workload") if other != name]
            done = given.verify("--release", path, "--release", *others)
        refused(done, 5)


def test_a_newer_document_is_not_guessed_at(given: Given) -> None:
    for name in ("evidence", "platform", "policy"):
        newer = (given.folder / f"{name}.json").read_bytes().replace(b'"version":1}', b'"version":2}')
        path = given.written("newer.json", newer)
        if name == "platform":
            done = given.verify("--release", path)
        else:
            done = given.verify(evidence=path) if name == "evidence" else given.verify(policy=path)
        assert refused(done, 7).code == "DC003"


def test_a_result_is_signed_by_a_p256_key_or_not_at_all(given: Given) -> None:
    for damage in (b"", b"no key", (given.folder / "ak.pub").read_bytes()):
        done = given.verify("--signing-key", given.written("signing.pem", damage))
        refused(done, 5)
        assert done.out == ""


# Last, since it publishes


def publish_larger(desk: Desk) -> None:
    """Another workload release, whose image has 16 MiB that no other has."""
    (desk.folder / "large.img").write_bytes(os.urandom(LARGE))
    desk.release(desk.write_workload(title="Large", image="large.img", accepts=(1, 9)))


def test_a_full_disk_keeps_the_old_release_whole(bench: Bench) -> None:
    publish_larger(bench.desk)
    host = bench.off()
    var, copy, size = bench.var, bench.folder / "state", LARGE // MIB + 200
    shutil.copytree(bench.var, copy, symlinks=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}M,mode=711", "tmpfs", var], check=True)
    try:
        shutil.copytree(copy, var, symlinks=True, dirs_exist_ok=True)
        bench.on()
        filler, looked_up = var / "filler", ("tuf", "floor", "store/partial")
        fill(filler, leave=LARGE // 2)
        before = bench.state(*looked_up)
        refusal = refused(host.vmgate("update", "apply"), 1)
        assert refusal.code == "CN002"
        # The artifact, and what is kept for state.
        (needed,) = map(int, re.findall(r"room for ([0-9]+) bytes", refusal.remedy))
        assert LARGE <= needed < LARGE + 2 * MIB
        assert bench.state(*looked_up) == before
        assert bench.last("update-apply") == "failed"
        # Without room for its record nothing may start.
        fill(filler, leave=0)
        before = bench.state()
        assert refused(host.vmgate("vm", "start", VM_NAME), 1).code == "CN002"
        assert bench.vm_state() == "shut off"
        assert bench.state() == before
        filler.unlink()
        assert "workload: release 2" in host.vmgate("update", "apply").out
        assert host.vmgate("audit", "verify").exit == 0
    finally:
        bench.off()
        subprocess.run(["umount", var], check=True)


def fill(filler: Path, leave: int) -> None:
    """Let a file take all of its file system but ``leave`` bytes."""
    with filler.open("ab") as file:
        free = shutil.disk_usage(filler.parent).free
        os.posix_fallocate(file.fileno(), file.tell(), free - leave)
