# SPDX-License-Identifier: Apache-2.0
"""Silence of the repository becomes an alarm, once for each silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.audit import AuditTrail, records
from agent.contact import DAY, Contact, is_silent
from documents.unattended import UpdateContact

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
NOW = 1_800_000_000


class Host:
    """A host whose clock the test sets."""

    def __init__(self, folder: Path, days: int = 7) -> None:
        self.now = NOW
        self.path = folder / "update-contact"
        self._audit = folder / "audit"
        self._days = days
        self.trail = AuditTrail(self._audit, lambda: self.now, BOOT)

    def contact(self) -> Contact:
        """As an agent that was just started has it."""
        return Contact(self.path, self.trail, lambda: self.now, self._days)

    def alarms(self) -> list[dict[str, str]]:
        return [dict(record.details) for record in records(self._audit) if record.event == "update-silence"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("after", "silent"),
    [(0, False), (7 * DAY, False), (7 * DAY + 1, True), (700 * DAY, True), (-DAY, False), (-DAY - 1, True)],
)
def test_when_a_silence_is_an_alarm(after: int, silent: bool) -> None:
    assert is_silent(UpdateContact(time=NOW, heard=True, told=False), NOW + after, 7) is silent


def test_an_alarm_is_recorded_once_and_ends_with_the_next_word(host: Host) -> None:
    host.contact().heard()
    host.now += 8 * DAY
    for _ in range(3):
        assert host.contact().silent()
    assert host.alarms() == [{"days": "7", "last": str(NOW)}]
    host.contact().heard()
    assert not host.contact().silent()
    host.now += 8 * DAY
    assert host.contact().silent()
    assert len(host.alarms()) == 2, "another silence, another alarm"


def test_a_host_that_never_heard_anything_counts_from_its_first_look(host: Host) -> None:
    assert not host.contact().silent()
    host.now += 8 * DAY
    assert host.contact().silent()
    assert host.alarms() == [{"days": "7", "last": "never"}]


def test_a_host_without_a_repository_has_no_alarm(tmp_path: Path) -> None:
    host = Host(tmp_path, days=0)
    host.contact().heard()
    host.now += 800 * DAY
    assert not host.contact().silent()
    assert host.alarms() == []


def test_a_damaged_record_ends_with_the_next_word(host: Host) -> None:
    host.path.write_bytes(b"{}")
    host.contact().heard()
    assert host.contact().look().heard
