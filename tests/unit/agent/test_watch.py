# SPDX-License-Identifier: Apache-2.0
"""Faults are answered as policy says, recorded once, and answered again when somebody undid it; failures are told once.

libvirt is a list of runs here; the tests of the gate have the real one.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent import watch as module
from agent.audit import AuditTrail, records
from agent.launched import Launched
from agent.watch import Watch
from agent.watching import Watching
from documents.event import MeasuredEvent
from hypervisor.by_hand import Machine
from hypervisor.errors import HypervisorError, LibvirtAway
from hypervisor.libvirt import Live
from lab.audit_table import require_as_promised
from measure.launches import Launch

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
XML = "<domain type='qemu'><name>hello</name></domain>"
EVENT = MeasuredEvent(event="vm-start", subject="hello", fsverity="0" * 64)
GOOD = Live(name="hello", run=3, state="running", starting=False, xml=XML.encode(), taints=())
CHANGED = replace(GOOD, taints=("tainted: monitor",))
FOREIGN = replace(GOOD, name="foreign", run=9)
HAND = Machine(process=77, started=5, uid=1000, program="qemu-system-x86_64", kvm=True)


class Place:
    """A host whose libvirt says what a test sets."""

    def __init__(self, folder: Path) -> None:
        self.runs: tuple[Live, ...] = (GOOD,)
        self.hand: tuple[Machine, ...] = ()
        self.answer = "suspend"
        self.broken: HypervisorError | None = None
        self.did: list[tuple[str, str]] = []
        self.gone: list[tuple[str, int]] = []
        self.trail = folder / "audit"
        self.audit = AuditTrail(self.trail, lambda: 1_800_000_000, BOOT)
        self.watch = Watch(
            self,
            lambda: {"hello": Launch(event=EVENT, runs=True)},
            lambda name: Launched(run=3, xml=XML) if name == "hello" else None,
            lambda: self.hand,
            lambda: self.answer,
            self.audit,
            lambda name, run: self.gone.append((name, run)),
        )

    def active(self) -> tuple[Live, ...]:
        return self.runs

    def suspend(self, name: str) -> None:
        self._do("suspend", name)
        self.runs = tuple(replace(run, state="paused") if run.name == name else run for run in self.runs)

    def kill(self, name: str) -> None:
        self._do("kill", name)
        self.runs = tuple(run for run in self.runs if run.name != name)

    def _do(self, what: str, name: str) -> None:
        if self.broken is not None:
            raise self.broken
        self.did.append((what, name))

    def outcomes(self) -> list[tuple[str, str, str]]:
        require_as_promised(records(self.trail))
        return [(record.event, record.subject, record.outcome) for record in records(self.trail)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0)
    return Place(tmp_path)


def test_where_all_is_as_it_was_let_start_nothing_happens(place: Place) -> None:
    place.watch.look()
    assert (place.did, place.outcomes(), place.watch.standing()) == ([], [], ())


@pytest.mark.parametrize("answer", ["suspend", "kill"])
@pytest.mark.parametrize(("run", "event"), [(CHANGED, "vm-drift"), (FOREIGN, "vm-ungated")])
def test_a_fault_is_answered_as_policy_says_and_recorded_before_and_after(
    place: Place, run: Live, event: str, answer: str
) -> None:
    place.answer, place.runs = answer, (GOOD, run) if run.name != GOOD.name else (run,)
    place.watch.look()
    assert place.did == [(answer, run.name)]
    assert place.outcomes() == [(event, run.name, "started"), (event, run.name, "done")]
    assert [fault.kind for fault in place.watch.standing()] == [event]
    assert [finding.outcome for finding in place.watch.findings()] == ["warn"]
    assert place.watch.told()[0] == {
        "kind": event,
        "name": run.name,
        "run": run.run,
        "why": place.watch.standing()[0].why,
    }


def test_what_stands_suspended_is_left_alone_and_what_somebody_resumed_is_not(place: Place) -> None:
    place.runs = (CHANGED,)
    place.watch.look()
    place.watch.look()
    assert len(place.did) == 1
    place.runs = (CHANGED,)
    place.watch.look()
    assert len(place.did) == 2
    assert len(place.outcomes()) == 4


def test_an_answer_that_fails_is_told_once_and_tried_again(place: Place) -> None:
    place.runs = (CHANGED,)
    place.broken = HypervisorError("x", cause="libvirt has a job", remedy="wait")
    for _ in range(3):
        place.watch.look()
    assert place.outcomes() == [("vm-drift", "hello", "started"), ("vm-drift", "hello", "failed")]
    place.broken = None
    place.watch.look()
    assert place.did == [("suspend", "hello")]
    assert place.outcomes()[-1] == ("vm-drift", "hello", "done")


def test_a_domain_that_stops_between_two_looks_is_none_that_nobody_let_start(place: Place) -> None:
    looks = iter([(GOOD, FOREIGN), (GOOD,)])
    place.active = lambda: next(looks)  # type: ignore[method-assign]
    place.watch.look()
    assert (place.did, place.outcomes()) == ([], [])


def test_a_run_that_libvirt_has_not_is_ended_in_the_log_too(place: Place) -> None:
    """The hook was called by hand, or libvirt could not tell of the end."""
    looks = iter([(), (GOOD,), (), ()])
    place.active = lambda: next(looks)  # type: ignore[method-assign]
    place.watch.look()
    assert place.gone == [], "it came back: it was just being started or stopped"
    place.watch.look()
    assert place.gone == [("hello", 3)]


def test_without_libvirt_a_look_changes_nothing(place: Place) -> None:
    def away() -> tuple[Live, ...]:
        raise LibvirtAway("x", cause="it does not run", remedy="start it")

    place.runs = (CHANGED,)
    place.watch.look()
    standing = place.watch.standing()
    place.active = away  # type: ignore[method-assign]
    place.watch.look()
    assert place.watch.standing() == standing, "what is not seen is not over"


def test_a_full_disk_does_not_let_a_fault_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise HypervisorError("x", cause="no room", remedy="make room")

    monkeypatch.setattr(place.audit, "append", full)
    place.runs = (CHANGED,)
    place.watch.look()
    assert place.did == [("suspend", "hello")]


def test_a_qemu_by_hand_is_told_at_the_second_look_and_recorded_once(place: Place) -> None:
    place.hand = (HAND,)
    place.watch.look()
    assert place.outcomes() == []
    for _ in range(3):
        place.watch.look()
    assert place.outcomes() == [("vm-by-hand", "qemu-system-x86_64", "done")]
    assert place.did == [], "nobody ends it"
    (fault,) = place.watch.standing()
    assert fault.why == "process 77 of user 1000, with KVM"
    place.hand = (replace(HAND, started=6),)
    place.watch.look()
    assert place.watch.standing() == (), "the same number and another process"


class Bell:
    """Events of libvirt that a test rings."""

    def __init__(self, changed: threading.Event) -> None:
        self.changed = changed
        self.closed = threading.Event()

    def listen(self) -> bool:
        return True

    def close(self) -> None:
        self.closed.set()


def test_a_flood_of_events_costs_few_looks_and_the_end_is_heard() -> None:
    bells: list[Bell] = []
    looked = threading.Semaphore(0)

    def events(changed: threading.Event) -> Bell:
        bells.append(Bell(changed))
        return bells[0]

    watching = Watching(looked.release, events, sweep=3600)
    for _ in range(10_000):
        bells[0].changed.set()
    assert looked.acquire(timeout=60)
    watching.end()
    assert bells[0].closed.wait(60)
    assert not looked.acquire(timeout=0) or not looked.acquire(timeout=0), "at most one look more"


def test_without_any_event_it_looks_all_the_same() -> None:
    looked = threading.Semaphore(0)
    watching = Watching(looked.release, Bell, sweep=0.01)
    assert looked.acquire(timeout=60)
    assert looked.acquire(timeout=60)
    watching.end()
