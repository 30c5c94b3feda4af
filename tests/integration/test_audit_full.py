# SPDX-License-Identifier: Apache-2.0
"""The audit trail on a file system that is really full: nothing happens unrecorded, and the failure is recorded."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.audit import AuditTrail, records, verify
from agent.offload.start import audit_status
from content.errors import StorageFull

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> Path:
    """Write until there is no room."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while stream.write(bytes(1_000)):
            pass
    return ballast


def act(trail: AuditTrail) -> None:
    """Do things until one cannot be recorded."""
    for number in range(100):
        trail.append("vm-start", "started", f"guest{number}", "uid 0", note="x" * 900)


def test_a_full_disk_stops_what_must_be_recorded_and_is_recorded(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [1_800_000_000]
    trail = AuditTrail(disk / "audit", lambda: now[0], BOOT)
    trail.append("vm-start", "done", "guest", "uid 0")
    ballast = fill(disk)
    before = trail.head
    with pytest.raises(StorageFull):
        act(trail)
    for _ in range(4):
        now[0] += 60
        with pytest.raises(StorageFull):
            trail.append("vm-start", "started", "guest", "uid 0", note="x" * 900)
    assert trail.failure
    told = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(told) == 1, "once for each failure, to the journal"
    status = audit_status(trail, None)
    assert status["audit_alarm"] is True
    assert "NOTHING CAN BE RECORDED" in str(status["audit"])
    assert verify(disk / "audit").sequence >= before.sequence, "what was recorded is still there and whole"

    ballast.unlink()
    now[0] += 60
    trail.append("vm-start", "started", "guest", "uid 0")
    *_, failure, after = records(disk / "audit")
    assert (failure.event, failure.outcome) == ("audit-failure", "failed")
    details = dict(failure.details)
    assert (details["code"], details["unwritten"], details["since"]) == ("CN002", "5", "1800000000")
    assert failure.time == now[0]
    assert after.subject == "guest"
    assert verify(disk / "audit") == trail.head
    assert audit_status(trail, None)["audit_alarm"] is False


def test_an_agent_does_not_start_on_a_full_disk(disk: Path) -> None:
    AuditTrail(disk / "audit", lambda: 1_800_000_000, BOOT).append("vm-start", "done", "guest", "uid 0")
    fill(disk)
    with pytest.raises(StorageFull):
        AuditTrail(disk / "audit", lambda: 1_800_000_000, BOOT).append("agent", "started", "host", "agent")
    assert verify(disk / "audit").sequence == 1
