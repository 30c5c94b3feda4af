# SPDX-License-Identifier: Apache-2.0
"""The table of audit events is what the source records: no event besides, none that nobody records, no detail missing.

Events that need no TPM and no libvirt are provoked here; the records of every host of the other tests are held against
the same table when that host ends (``lab.host``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from agent.alarm_rules import REFUSALS, Refusals
from agent.audit import AuditTrail, records
from agent.audit_settings import AuditSettings
from agent.contact import Contact
from agent.errors import HookFailed, HookUntrusted, ServerRefused, ServerUnreachable
from agent.hooks import Hooks
from agent.offload.worker import SETTLE_SECONDS, Offload
from agent.pause import Pause
from content.errors import ContentError
from documents.audit import OUTCOMES, AuditHead, AuditSent
from documents.audit_events import EVENTS, UNRECORDED
from documents.errors import VmgateError
from lab.audit_page import PAGE, page
from lab.audit_table import recorded, require_as_promised
from lab.crash import intercepted

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
NOW = 1_800_000_000


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text() == page(), "write it anew: PYTHONPATH=tests python -m lab.audit_page"


def test_the_table_is_sound() -> None:
    names = [event.name for event in EVENTS]
    assert len(set(names)) == len(names)
    for event in EVENTS:
        assert event.rows, event.name
        assert [outcome for outcome, _ in event.details if outcome not in OUTCOMES] == []
        for _, details in event.details:
            assert list(details) == sorted(set(details)), event.name
    assert all(item.why for item in UNRECORDED)


def test_the_source_records_what_the_table_has_and_nothing_else() -> None:
    calls = recorded()
    assert len(calls) > 30
    assert [call.where for call in calls if not call.names] == [], "whose event this test cannot see"
    found = {name for call in calls for name in call.names}
    assert sorted(found - {event.name for event in EVENTS}) == [], "not in the table"
    assert sorted({event.name for event in EVENTS} - found) == [], "nobody records it"


def test_every_call_gives_what_the_table_promises() -> None:
    table = {event.name: event for event in EVENTS}
    for call in recorded():
        for name in call.names:
            if not call.outcome:
                continue
            promised = table[name].required(call.outcome)
            assert promised is not None, f"{call.where}: {name} has no outcome {call.outcome}"
            assert call.open or set(promised) <= call.details, f"{call.where}: {name} {call.outcome}"


class Place:
    """A host without a TPM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.trail = AuditTrail(folder / "audit", lambda: self.now, BOOT)

    def came(self) -> set[tuple[str, str]]:
        """Which events and outcomes are in the trail, each as the table has it."""
        return require_as_promised(records(self.folder / "audit"))


def silence(place: Place) -> None:
    contact = Contact(place.folder / "contact", place.trail, lambda: place.now, 7)
    contact.heard()
    place.now += 8 * 86_400
    assert contact.silent()


def pause(place: Place) -> None:
    pause = Pause(place.folder / "pause", place.trail, lambda: place.now)
    pause.begin(NOW + 100, "a fair", "uid 0")
    pause.end("uid 0")


def hooks(place: Place) -> None:
    place.folder.chmod(0o755)
    folder = place.folder / "etc/vmgate/hooks"
    before = folder / "update-before.d"
    before.mkdir(parents=True, mode=0o755)
    hook = before / "10-hook"
    hooks = Hooks(folder, place.folder, place.trail, 60, os.getuid())
    for script, mode in (("true", 0o755), ("exit 1", 0o755), ("true", 0o777)):
        hook.write_text(f"#!/bin/sh\n{script}\n")
        hook.chmod(mode)
        with suppress(HookFailed, HookUntrusted):
            hooks.run("update-before", "uid 0", {})


def full_disk(place: Place) -> None:
    def full(name: str, real: Callable[..., object], arguments: tuple[object, ...]) -> object:
        if name == "write":
            raise OSError(28, "No space left on device")
        return real(*arguments)

    with intercepted(full), suppress(ContentError):
        place.trail.append("agent", "done", "host", "agent")
    place.trail.append("agent", "done", "host", "agent")


class Paper:
    """A channel to nowhere; it breaks when told to."""

    peer = "127.0.0.1"
    fingerprint = "ab" * 32
    broken: VmgateError | None = None

    def send(self, data: bytes) -> None:
        assert data

    def check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def unacknowledged(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to close."""


def channel(place: Place) -> None:
    """Refused, unreachable, open, broken, silent for too long, open, ended; and a trail that was exchanged."""
    gone = ServerUnreachable("not sent", cause="gone", remedy="wait")
    refused = ServerRefused("not sent", cause="another's name", remedy="look")
    paper = Paper()
    answers: list[VmgateError | Paper] = [refused, gone, paper, gone, gone]

    def connect(_: AuditSettings) -> Paper:
        answer = answers.pop(0) if answers else paper
        if isinstance(answer, VmgateError):
            raise answer
        return answer

    settings = AuditSettings(server="tls://logs.example.org:6514", ca_file="/ca", crl_file="/crl")
    sent = place.folder / "sent"
    sent.write_bytes(AuditSent(head=AuditHead(sequence=9, hash="ab" * 32), time=NOW).encode())
    worker = Offload(
        settings, place.trail, place.folder / "audit", sent, "desk", lambda: place.now, connect,
        lambda: float(place.now),
    )  # fmt: skip
    for _ in range(3):
        worker.step()
        place.now += 400
    paper.broken = gone
    worker.step()
    paper.broken = None
    for seconds in (86_401, 86_401, 400, int(SETTLE_SECONDS)):
        place.now += seconds
        worker.step()
    worker.close()
    assert AuditSent.parse(sent.read_bytes()).head.sequence > 0


def refusals(place: Place) -> None:
    place.trail.observers.append(Refusals(place.trail).see)
    for _ in range(REFUSALS):
        place.trail.append("vm-start", "refused", "guest", "uid 0", check="way-in")


def both(event: str, *outcomes: str) -> set[tuple[str, str]]:
    return {(event, outcome) for outcome in outcomes}


@pytest.mark.parametrize(
    ("provoke", "expected"),
    [
        (silence, both("update-silence", "failed")),
        (pause, both("update-pause", "started", "done") | both("update-resume", "started", "done")),
        (hooks, both("update-hook", "started", "done", "failed", "refused")),
        (refusals, both("vm-start", "refused") | both("audit-alarm", "done")),
        (full_disk, both("audit-failure", "failed") | both("agent", "done")),
        (
            channel,
            both("audit-channel-open", "done", "failed", "refused")
            | both("audit-channel-close", "done", "failed")
            | both("audit-silence", "failed")
            | both("audit-sent", "refused"),
        ),
    ],
)
def test_provoked(tmp_path: Path, provoke: Callable[[Place], None], expected: set[tuple[str, str]]) -> None:
    place = Place(tmp_path)
    provoke(place)
    assert place.came() == expected


def test_a_record_that_is_not_as_promised_is_found(tmp_path: Path) -> None:
    for number, (event, outcome, details) in enumerate(
        [("made-up", "done", {}), ("agent", "refused", {}), ("agent", "started", {})]
    ):
        trail = AuditTrail(tmp_path / str(number), lambda: NOW, BOOT)
        trail.append(event, outcome, "host", "agent", **details)
        with pytest.raises(AssertionError):
            require_as_promised(records(tmp_path / str(number)))
