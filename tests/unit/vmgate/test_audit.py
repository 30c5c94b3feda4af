# SPDX-License-Identifier: Apache-2.0
"""``vmgate audit``: what is listed, followed and exported is what the trail has; a broken trail is not exported."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.audit import AuditTrail, trail_path
from agent.paths import HostPaths
from documents.audit import AuditRecord, verify_chain
from documents.errors import Exit
from vmgate.commands.audit import command

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
START = 1_795_651_200
"""2026-11-26, 00:00 UTC."""


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    """Of six records, one an hour."""
    times = iter(range(START, START + 86_400, 3_600))
    trail = AuditTrail(HostPaths(tmp_path).audit, lambda: next(times), BOOT)
    for number in range(6):
        trail.append("vm-start", "done" if number % 2 else "refused", f"guest{number}", "uid 0")
    return trail


def run(root: Path, *words: str) -> Result:
    return CliRunner().invoke(command, [words[0], "--root", str(root), *words[1:]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [1, 2, 3, 4, 5, 6]),
        (("--last", "2"), [5, 6]),
        (("--outcome", "done"), [2, 4, 6]),
        (("--outcome", "refused", "--last", "1"), [5]),
        (("--subject", "guest3"), [4]),
        (("--since", "2026-11-26T04:00:00Z"), [5, 6]),
        (("--until", "2026-11-26T02:00:00Z"), [1, 2]),
        (("--since", "2026-11-27"), []),
        (("--event", "vm-stop"), []),
    ],
)
def test_list(tmp_path: Path, trail: AuditTrail, options: tuple[str, ...], expected: list[int]) -> None:
    assert trail.head.sequence == 6
    done = run(tmp_path, "list", "-o", "json", *options)
    assert [record["sequence"] for record in json.loads(done.stdout)["records"]] == expected


@pytest.mark.parametrize("options", [("--since", "yesterday"), ("--until", ""), ("--outcome", "maybe")])
def test_a_wrong_question_is_a_wrong_use(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert run(tmp_path, "list", *options).exit_code == Exit.USAGE


def test_export_is_the_trail_byte_for_byte(tmp_path: Path, trail: AuditTrail) -> None:
    done = run(tmp_path, "export")
    assert done.stdout_bytes == trail_path(HostPaths(tmp_path).audit).read_bytes()
    assert verify_chain(done.stdout_bytes.splitlines()) == trail.head
    part = run(tmp_path, "export", "--first", "2", "--last", "4", "--outcome", "done").stdout_bytes.splitlines()
    assert [AuditRecord.parse(line).sequence for line in part] == [2, 4]
    assert run(tmp_path, "export", "--format", "syslog").stdout.count("[vmgate@32473 ") == 6


def test_export_to_a_file(tmp_path: Path, trail: AuditTrail) -> None:
    target = tmp_path / "copy.jsonl"
    assert run(tmp_path, "export", "--to", str(target)).exit_code == 0
    assert target.read_bytes() == trail_path(HostPaths(tmp_path).audit).read_bytes()
    assert trail.head.sequence == 6


def test_a_broken_trail_is_not_exported(tmp_path: Path, trail: AuditTrail) -> None:
    path = trail_path(HostPaths(tmp_path).audit)
    path.write_bytes(path.read_bytes().replace(b"guest3", b"guest4"))
    target = tmp_path / "copy.jsonl"
    done = run(tmp_path, "export", "--to", str(target))
    assert done.exit_code != 0
    assert getattr(done.exception, "code", "") == "DC020"
    assert not target.exists()
    assert trail.head.sequence == 6


def test_follow_shows_what_comes(tmp_path: Path, trail: AuditTrail) -> None:
    done = run(tmp_path, "follow", "--from", "2", "--count", "2", "--outcome", "done", "--json")
    assert [AuditRecord.parse(line.encode()).sequence for line in done.stdout.splitlines()] == [2, 4]

    def act() -> None:
        trail.append("vm-stop", "done", "guest9", "uid 0")

    later = threading.Timer(1.5, act)
    later.start()
    done = run(tmp_path, "follow", "--count", "1")
    later.join()
    assert done.stdout == "7  2026-11-26T06:00:00Z  vm-stop  done  guest9  uid 0\n"
