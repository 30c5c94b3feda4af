# SPDX-License-Identifier: Apache-2.0
"""Many refusals in a short time are flagged once, and the flag goes when it has been quiet."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.alarm_rules import LASTS, REFUSALS, SECONDS, Refusals
from agent.audit import AuditTrail, records, verify
from lab.crash import intercepted

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"


class Host:
    """A host whose clock the test sets."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000
        self.folder = folder
        self.trail = AuditTrail(folder, lambda: self.now, BOOT)
        self.rule = Refusals(self.trail)
        self.trail.observers.append(self.rule.see)

    def refuse(self, count: int, every: int = 0) -> None:
        for _ in range(count):
            self.trail.append("vm-start", "refused", "guest", "uid 0", check="way-in")
            self.now += every

    def alarms(self) -> list[dict[str, str]]:
        return [dict(record.details) for record in records(self.folder) if record.event == "audit-alarm"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_many_refusals_are_one_alarm(host: Host) -> None:
    host.refuse(REFUSALS - 1)
    assert (host.alarms(), host.rule.alarm(host.now)) == ([], False)
    host.refuse(20)
    assert host.alarms() == [{"rule": "refusals", "count": "5", "seconds": "600", "last": "5"}]
    assert host.rule.alarm(host.now)
    assert verify(host.folder) == host.trail.head


def test_few_in_a_long_time_are_none(host: Host) -> None:
    host.refuse(30, SECONDS // (REFUSALS - 1) + 1)
    assert host.alarms() == []


def test_what_was_not_refused_does_not_count(host: Host) -> None:
    for outcome in ("done", "started", "failed") * 5:
        host.trail.append("vm-start", outcome, "guest", "uid 0")
    assert host.alarms() == []


def test_an_alarm_ends_when_it_was_quiet_and_another_may_come(host: Host) -> None:
    host.refuse(REFUSALS)
    host.now += LASTS
    assert host.rule.alarm(host.now)
    host.now += 1
    assert not host.rule.alarm(host.now)
    host.refuse(REFUSALS - 1)
    assert not host.rule.alarm(host.now)
    host.refuse(1)
    assert host.rule.alarm(host.now)
    assert len(host.alarms()) == 2


def test_an_alarm_that_cannot_be_recorded_does_not_undo_what_was(host: Host) -> None:
    host.refuse(REFUSALS - 1)
    writes = 0

    def full(name: str, real: object, arguments: tuple[object, ...]) -> object:
        nonlocal writes
        writes += name == "write"
        if name == "write" and writes > 2:  # the record and its head were written
            raise OSError(28, "No space left on device")
        return real(*arguments)  # type: ignore[operator]

    with intercepted(full):
        host.refuse(1)
    assert host.trail.head.sequence == REFUSALS
    assert host.rule.alarm(host.now)
    assert "No space" in host.trail.failure
