# SPDX-License-Identifier: Apache-2.0
"""The outputs that other programs are written against: image digest, measure replay and vm lint."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from documents.event import MeasuredEvent
from lab import command
from lab import event_logs as write
from lab.command import GUARD, refused
from measure import cel, cel_cbor

LINTED = {"id", "level", "xpath", "why", "fix", "sfr"}


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 3_000_000])
def test_image_digest_is_what_fsverity_says(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(number * 7 % 251 for number in range(size)))
    theirs = subprocess.run(["fsverity", "digest", path], capture_output=True, text=True, check=True, timeout=GUARD)
    ours = command.run("image", "digest", path)
    assert ours.out == theirs.stdout.split()[0] + "\n"
    told = json.loads(command.run("image", "digest", path, "-o", "json").out)
    assert told == {"api_version": 1, "fsverity": ours.out.strip().removeprefix("sha256:"), "length": size}


def test_image_digest_of_what_is_no_file(tmp_path: Path) -> None:
    refused(command.run("image", "digest", tmp_path / "none"), 3)
    refused(command.run("image", "digest", tmp_path), 1)
    (tmp_path / "e\x1b[31m\n").write_bytes(b"")
    assert command.run("image", "digest", tmp_path / "e\x1b[31m\n").exit == 0


def extended(alg: str, *contents: bytes) -> str:
    value = bytes(write.SIZE[alg])
    for content in contents:
        value = hashlib.new(alg, value + hashlib.new(alg, content).digest()).digest()
    return value.hex()


def test_measure_replay_of_a_boot_log(tmp_path: Path) -> None:
    banks = ("sha1", "sha256")
    log = tmp_path / "log"
    log.write_bytes(write.header(banks) + write.measured(7, write.SEPARATOR, bytes(4), banks))
    done = command.run("measure", "replay", log, "-o", "json")
    assert (done.exit, done.err) == (0, "")
    pcrs = {alg: {"7": extended(alg, bytes(4))} for alg in banks}
    told = json.loads(done.out)
    assert told.keys() == {"format", "events", "pcrs"}
    assert (told["format"], told["events"]) == ("tcg-crypto-agile", 2)
    assert {alg: {"7": told["pcrs"][alg]["7"]} for alg in banks} == pcrs


def test_measure_replay_of_our_own_log(tmp_path: Path) -> None:
    events = [MeasuredEvent(event="component", subject=f"part/{n}", fsverity="ab" * 32) for n in range(3)]
    records = [cel.record(number, 13, event, ("sha256",)) for number, event in enumerate(events)]
    for form, log in (
        ("cel-json", b"".join(map(cel.encode_record, records))),
        ("cel-cbor", cel_cbor.encode_log(records)),
    ):
        (tmp_path / "log").write_bytes(log)
        told = json.loads(command.run("measure", "replay", tmp_path / "log", "-o", "json").out)
        assert (told["format"], told["events"]) == (form, 3)
        assert told["pcrs"]["sha256"]["13"] == extended("sha256", *(event.encode() for event in events))


def test_measure_replay_of_systemds_log_over_a_boot_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(write.systemd_record(11, "ready"))
    (tmp_path / "boot").write_bytes(write.header(("sha256",)) + write.measured(11, 13, b".linux\0", ("sha256",)))
    alone = json.loads(command.run("measure", "replay", tmp_path / "log", "-o", "json").out)
    assert alone == {"format": "systemd", "events": 1, "pcrs": {"sha256": {"11": extended("sha256", b"ready")}}}
    done = command.run("measure", "replay", tmp_path / "log", "--after", tmp_path / "boot", "-o", "json")
    assert (done.exit, done.err) == (0, "")
    assert json.loads(done.out)["pcrs"]["sha256"]["11"] == extended("sha256", b".linux\0", b"ready")
    refused(command.run("measure", "replay", tmp_path / "boot", "--after", tmp_path / "boot"), 5)
    assert command.run("measure", "replay", tmp_path / "log", "--ima", "--after", tmp_path / "boot").exit == 2


def test_measure_replay_names_what_it_accepts(tmp_path: Path) -> None:
    padded = write.header(("sha256",)) + write.measured(7, write.SEPARATOR, bytes(4), ("sha256",)) + bytes(64)
    (tmp_path / "log").write_bytes(padded)
    assert json.loads(command.run("measure", "replay", tmp_path / "log", "-o", "json").out)["quirks"] == ["padding"]
    told = command.run("measure", "replay", tmp_path / "log").out
    assert "accepted: one byte repeated behind the last event, 0x00 or 0xff (padding)\n" in told


def test_measure_replay_of_an_ima_list(tmp_path: Path) -> None:
    data = write.ima_data(b"sha1:\0" + b"d" * 20, b"/init\0")
    for form, entry in (
        ("ima-binary", write.ima_binary(10, b"ima-ng", data)),
        ("ima-ascii", write.ima_ascii(10, b"ima-ng", data, b"sha1:" + b"64" * 20, b"/init")),
    ):
        (tmp_path / "list").write_bytes(entry * 2)
        done = command.run("measure", "replay", tmp_path / "list", "--ima", "-o", "json")
        assert (done.exit, done.err) == (0, "")
        told = json.loads(done.out)
        assert (told["format"], told["events"]) == (form, 2)
        assert told["pcrs"]["sha256"]["10"] == extended("sha256", data, data)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"{}\n", b"\xff" * 1_000, b"garbage"], ids=repr)
def test_measure_replay_of_what_is_no_log(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log").write_bytes(data)
    for more in ([], ["--ima"]):
        done = command.run("measure", "replay", tmp_path / "log", *more)
        assert refused(done, 5).code == "ME005"
        assert done.out == ""


def test_vm_lint_denies_with_one_shape(tmp_path: Path) -> None:
    path = tmp_path / "vm.xml"
    path.write_text("<domain type='kvm'><name>x</name><devices><hostdev mode='capabilities'/></devices></domain>")
    done = command.run("vm", "lint", path, "-o", "json")
    assert done.exit == 6
    told = json.loads(done.out)
    assert told.keys() == {"api_version", "findings"}
    assert told["findings"]
    for finding in told["findings"]:
        assert finding.keys() == LINTED
        assert finding["level"] in ("deny", "grant", "warn")
    assert any(finding["level"] == "deny" for finding in told["findings"])
    refusal = refused(command.run("vm", "lint", path), 6)
    assert refusal.code == "VG004"


def test_vm_lint_of_what_is_no_domain(tmp_path: Path) -> None:
    path = tmp_path / "vm.xml"
    bomb = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><domain>&b;</domain>'
    for text in ("", "no xml", "<domain", bomb, "<domain>" * 5_000, "<other/>", '<domain name="&#x9b;31m"/>'):
        path.write_text(text)
        done = command.run("vm", "lint", path, "-o", "json")
        assert done.exit == 6, text[:40]
        assert {finding["level"] for finding in json.loads(done.out)["findings"]} >= {"deny"}
        assert refused(command.run("vm", "lint", path), 6)
    path.write_bytes(b"<domain>" + b" " * 10_000_000 + b"</domain>")
    refused(command.run("vm", "lint", path), 5)
    refused(command.run("vm", "lint", tmp_path / "none.xml"), 3)
    refused(command.run("vm", "lint", tmp_path), 2)


MAC = "<interface type='network'><mac address='52:54:00:00:00:01'/></interface>"


def test_vm_lint_of_the_vms_of_a_host(tmp_path: Path) -> None:
    for name in ("one", "two"):
        text = f"<domain type='kvm'><name>{name}</name><memory>1024</memory><devices>{MAC}</devices></domain>"
        (tmp_path / name).write_text(text)
    words = ("vm", "lint", tmp_path / "one", tmp_path / "two")
    told = json.loads(command.run(*words, "-o", "json").out)["findings"]
    shared = [finding for finding in told if "others" in finding]
    assert {(f["id"], f["file"], *f["others"]) for f in shared} == {
        ("HV053", str(tmp_path / "one"), str(tmp_path / "two")),
        ("HV053", str(tmp_path / "two"), str(tmp_path / "one")),
    }
    assert {finding["file"] for finding in told} == {str(tmp_path / "one"), str(tmp_path / "two")}
    assert "(as in " in command.run(*words).out
    over = json.loads(command.run(*words, "--max-memory", "1", "-o", "json").out)["findings"]
    assert "HV083" in {finding["id"] for finding in over if "others" in finding}
    assert refused(command.run(*words), 6).code == "VG004"


def test_vm_lint_for_code_hosts(tmp_path: Path) -> None:
    (tmp_path / "a b.xml").write_text(f"<domain type='kvm'>\n<devices>{MAC}</devices></domain>")
    done = command.run("vm", "lint", tmp_path / "a b.xml", "-o", "sarif")
    assert done.exit == 6
    (run,) = json.loads(done.out)["runs"]
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert {place["artifactLocation"]["uri"] for place in places} == {f"{tmp_path}/a%20b.xml"}


def test_vm_lint_repairs_what_is_safe_and_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "vm.xml"
    path.write_text("<domain type='kvm'><name>x</name><cpu/><devices><redirdev/><filesystem/></devices></domain>")
    before = path.read_bytes()
    done = command.run("vm", "lint", "--fix", path)
    assert done.exit == 6
    assert path.read_bytes() == before
    assert "redirdev" not in done.out
    assert "filesystem" in done.out
    assert done.err.splitlines()[0].startswith("repaired: HV040, ")
    assert any(line.startswith("left: HV020 deny ") for line in done.err.splitlines())
    assert command.run("vm", "lint", "--fix", path, path).exit == 2
