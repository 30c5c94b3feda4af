# SPDX-License-Identifier: Apache-2.0
"""A pause is bounded, has a reason, outlives the process, ends by itself or by word, and all of it is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.audit import AuditTrail, records
from agent.errors import NotFound, PauseRefused
from agent.pause import MAX_PAUSE, Pause

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
NOW = 1_800_000_000


class Host:
    """A host whose clock the test sets."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.path = folder / "update-pause"
        self._audit = folder / "audit"
        self.trail = AuditTrail(self._audit, lambda: self.now, BOOT)

    def pause(self) -> Pause:
        """As an agent that was just started has it."""
        return Pause(self.path, self.trail, lambda: self.now)

    def events(self) -> list[tuple[str, str]]:
        return [(record.event, record.outcome) for record in records(self._audit)]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_it_lasts_until_its_end(host: Host) -> None:
    host.pause().begin(NOW + 100, "a fair", "admin")
    pause = host.pause().now()
    assert pause is not None
    assert (pause.until, pause.reason, pause.actor) == (NOW + 100, "a fair", "admin")
    host.now += 99
    assert host.pause().now() is not None
    host.now += 1
    assert host.pause().now() is None
    assert host.events() == [("update-pause", "started"), ("update-pause", "done")]


def test_it_ends_by_word(host: Host) -> None:
    host.pause().begin(NOW + 100, "a fair", "admin")
    host.pause().end("admin")
    assert host.pause().now() is None
    assert host.events()[-2:] == [("update-resume", "started"), ("update-resume", "done")]
    with pytest.raises(NotFound, match="not paused"):
        host.pause().end("admin")


@pytest.mark.parametrize("until", [NOW, NOW - 1, 0, NOW + MAX_PAUSE + 1, 2**40])
def test_without_an_end_in_bounds_it_is_refused(host: Host, until: int) -> None:
    host.pause().begin(NOW + 50, "before", "admin")
    before = host.path.read_bytes()
    with pytest.raises(PauseRefused):
        host.pause().begin(until, "a fair", "admin")
    assert host.path.read_bytes() == before
    assert len(host.events()) == 2


@pytest.mark.parametrize("reason", ["", "two\nlines", "x" * 301, "\x1b[2J"])
def test_without_a_reason_it_is_refused(host: Host, reason: str) -> None:
    with pytest.raises(PauseRefused, match="reason"):
        host.pause().begin(NOW + 50, reason, "admin")
    assert not host.path.exists()


def test_a_damaged_one_can_be_ended(host: Host) -> None:
    host.path.write_bytes(b"{}")
    host.pause().end("admin")
    assert host.pause().now() is None
