# SPDX-License-Identifier: Apache-2.0
"""What runs follows from starts and stops alone; and a start that names a release must be of what that release has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.canonical import decode, encode
from documents.errors import DocumentError
from documents.event import MeasuredEvent
from documents.local_set import LocalVm
from documents.release import Origin
from documents.verdict import Finding
from lab.measuring import digest, launch, logged, platform, started, stopped, switched, workload
from measure.cel import CelRecord
from measure.launches import launch_findings, launches, running
from measure.pcr import LAUNCH_PCR, VMM_PCR

Events = list[tuple[int, MeasuredEvent]]
NAMES = ("desk", "lab", "web")
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(("start", "stop", "drop")), st.integers(1, 3)))


def step(name: str, what: str, number: int) -> tuple[int, MeasuredEvent]:
    if what == "start":
        return started(name, number)
    return stopped(name, number) if what == "stop" else launch("key-drop", name, digest(f"vm/{name} {number}"), number)


def test_what_was_started_and_not_stopped_runs() -> None:
    events = [started("desk", 1), started("lab", 1), stopped("desk", 1)]
    found = running(logged(events))
    assert list(found) == ["lab"]
    assert found["lab"].event == started("lab", 1)[1]


def test_a_new_start_does_not_end_an_old_one() -> None:
    """A host that forgot a stop may still run the old VM: it is judged until somebody says that it stopped."""
    records = logged([started("desk", 1), started("desk", 2)])
    assert [one.runs for one in launches(records)] == [True, True]
    assert running(records)["desk"].event.origin == Origin.of("desktops", 2)
    assert not running(logged([started("desk", 1), started("desk", 2), stopped("desk", 2)]))


@given(STEPS)
def test_it_is_the_same_however_it_is_asked(steps: list[tuple[str, str, int]]) -> None:
    """The list of what runs, the verdict's findings and a model that a reader would write down agree."""
    model: dict[str, bool] = {}
    for name, what, _ in steps:
        if what != "drop":
            model[name] = what == "start"
    records = logged([step(*one) for one in steps])
    names = {name for name, runs in model.items() if runs}
    assert set(running(records)) == names
    found = {f.subject for f in launch_findings(records, (), (), set()) if "still running" in f.found}
    assert found == names
    assert len(launches(records)) == sum(what == "start" for _, what, _ in steps)


def test_what_is_logged_for_the_other_register_is_no_start() -> None:
    records = [replace(entry, pcr=VMM_PCR) for entry in logged([started("desk", 1)])]
    assert not launches(records)


def judged(*events: tuple[int, MeasuredEvent]) -> list[str]:
    now, before = workload(2, "desk"), workload(1, "desk", "lab")
    return [f.outcome for f in findings(logged(events), now, before)]


def findings(records: tuple[CelRecord, ...], now: object, before: object) -> list[Finding]:
    return list(launch_findings(records, (now,), (before,), set()))  # type: ignore[arg-type]


def told(number: int, claimed: int, channel: str = "desktops") -> tuple[int, MeasuredEvent]:
    pcr, event = started("desk", number)
    return pcr, replace(event, origin=Origin.of(channel, claimed))


def test_a_start_names_the_release_of_its_definition() -> None:
    assert judged(started("desk", 2)) == ["pass"]
    assert judged(started("desk", 1)) == ["warn"]


@pytest.mark.parametrize(("number", "claimed", "channel"), [(1, 2, "desktops"), (2, 1, "desktops"), (2, 2, "servers")])
def test_a_start_that_names_another_release_is_forged(number: int, claimed: int, channel: str) -> None:
    pcr, event = told(number, claimed, channel)
    (finding,) = findings(logged([(pcr, event)]), workload(2, "desk"), workload(1, "desk"))
    assert finding.outcome == "fail"
    assert event.origin is not None
    assert event.origin.target in finding.found
    # To stop it does not make it good.
    (finding,) = findings(logged([(pcr, event), stopped("desk", claimed)]), workload(2, "desk"), workload(1, "desk"))
    assert finding.outcome == "fail"


def test_the_same_definition_in_a_release_that_a_verifier_does_not_have_passes() -> None:
    """The VM goes on over an update that did not change it; what it was started by is not at hand any more."""
    assert judged(told(2, 7)) == ["pass"]


def test_a_start_without_a_release_is_forged() -> None:
    pcr, event = started("desk", 2)
    assert judged((pcr, replace(event, origin=None))) == ["fail"]


OLD_FORM = {"event": "vm-start", "fsverity": "ab" * 32, "subject": "desk", "type": "vmgate.event", "version": 1}
NEW_FORM = OLD_FORM | {"target": "releases/desktops/1.json", "origin_version": "1", "vtpm": "cd" * 32}


def test_an_event_of_the_old_form_is_refused() -> None:
    assert MeasuredEvent.parse(encode(NEW_FORM)).vtpm == "cd" * 32
    with pytest.raises(DocumentError):
        MeasuredEvent.parse(encode(OLD_FORM))


@pytest.mark.parametrize(
    "changes",
    [
        {"target": None},
        {"origin_version": None},
        {"vtpm": None},
        {"vtpm": ""},
        {"vtpm": "AB" * 32},
        {"target": "releases/desktops/0.json"},
        {"target": "releases/desktops/01.json"},
        {"target": "releases/desktops/current.json"},
        {"target": "releases/../1.json"},
        {"target": "releases/desktops/1.json\n"},
        {"target": "assignments/desktops/1.json"},
        {"origin_version": ""},
        {"origin_version": "a b"},
        {"event": "vm-stop"},
        {"event": "host"},
    ],
)
def test_no_other_form_of_a_start_is_read(changes: dict[str, str | None]) -> None:
    value = {name: text for name, text in (NEW_FORM | changes).items() if text is not None}
    with pytest.raises(DocumentError):
        MeasuredEvent.parse(encode(value))


def test_what_is_of_the_host_itself_came_with_no_release() -> None:
    plain = OLD_FORM | {"event": "host", "subject": "host/settings"}
    assert MeasuredEvent.parse(encode(plain)).origin is None
    with pytest.raises(DocumentError):
        MeasuredEvent.parse(encode(plain | {"target": "releases/platform/1.json", "origin_version": "1"}))


def test_an_old_releases_switch_and_components_measure_as_they_did() -> None:
    """Byte for byte, or the policies that its publisher signed would open nothing any more."""
    new = platform(2)
    old = replace(new, reference=tuple(replace(value, origin=None) for value in new.reference))
    for pcr, event in switched(old):
        members = decode(event.encode(), 1_000, "event")
        assert isinstance(members, dict)
        assert set(members) == {"event", "fsverity", "subject", "type", "version"}
        assert pcr == VMM_PCR


def local(event: str, salt: bytes = bytes(32)) -> tuple[int, MeasuredEvent]:
    vm = LocalVm(
        name="mine", uuid="00000000-0000-4000-8000-000000000001", fsverity="cd" * 32, length=1, number=1, salt=salt
    )
    vtpm = "ab" * 32 if event == "vm-start" else ""
    return LAUNCH_PCR, MeasuredEvent(event=event, subject=vm.subject, fsverity=vm.measured, vtpm=vtpm)


@pytest.mark.parametrize(
    ("events", "allowed", "outcomes"),
    [
        ([local("vm-start")], True, ["warn"]),
        ([local("vm-start")], False, ["fail"]),
        ([local("vm-start"), local("vm-stop")], True, ["warn"]),
        ([local("vm-start"), local("vm-stop")], False, ["warn"]),
        ([local("vm-start"), local("vm-start", b"a" * 32), local("vm-stop")], False, ["warn", "fail"]),
        ([local("vm-start"), started("desk", 2)], True, ["warn", "pass"]),
    ],
)
def test_a_local_vm_is_never_better_than_a_warning_and_fails_while_nobody_allows_it(
    events: Events, allowed: bool, outcomes: list[str]
) -> None:
    found = list(launch_findings(logged(events), (workload(2, "desk"),), (), set(), local=allowed))
    assert [finding.outcome for finding in found] == outcomes
    assert found[0].authority == "local"
    assert "mine" not in found[0].subject + found[0].found


def test_a_release_cannot_claim_a_pseudonym_nor_a_local_vm_a_name() -> None:
    """What begins like one and names a release, or the other way round, is forged."""
    for subject, origin in (("local/ab", Origin.of("desktops", 2)), ("desk", None)):
        pcr, event = started("desk", 2)
        (finding,) = findings(
            logged([(pcr, replace(event, subject=subject, origin=origin))]), workload(2, "desk"), workload(1)
        )
        assert finding.outcome == "fail"
