# SPDX-License-Identifier: Apache-2.0
"""What runs is what was let start, or it is told what is not. Runs are numbers and XML here; no libvirt is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.drift import DRIFT, UNGATED, Fault, faults
from agent.launched import Launched, LaunchedDomains
from content import durable
from hypervisor.libvirt import Live

NAME = "hello"
XML = "<domain type='qemu'><name>hello</name><title>Hello</title></domain>"
NOTED = Launched(run=3, xml=XML)


def live(**other: object) -> Live:
    values: dict[str, object] = {
        "name": NAME, "run": 3, "state": "running", "starting": False, "xml": XML.encode(), "taints": (),
    }  # fmt: skip
    return Live(**{**values, **other})  # type: ignore[arg-type]


def found(one: Live, *, started: tuple[str, ...] = (NAME,), noted: Launched | None = NOTED) -> tuple[Fault, ...]:
    return faults([one], started, lambda name: noted if name == NAME else None)


def test_what_was_let_start_is_no_fault() -> None:
    assert found(live()) == ()
    assert found(live(state="paused")) == ()
    assert found(live(xml=XML.replace("'qemu'>", "'qemu' id='3'>").encode())) == ()


def test_what_is_just_being_started_is_looked_at_later() -> None:
    assert found(live(starting=True), started=()) == ()


def test_a_domain_without_a_start_in_the_log_was_not_let_start() -> None:
    (fault,) = found(live(), started=())
    assert (fault.kind, fault.name, fault.run) == (UNGATED, NAME, 3)


def test_a_start_of_which_nobody_knows_what_it_was_is_none() -> None:
    (fault,) = found(live(), noted=None)
    assert fault.kind == UNGATED


def test_another_run_of_a_vm_that_was_let_start_is_no_run_that_was_let_start() -> None:
    (fault,) = found(live(run=4))
    assert (fault.kind, fault.why) == (UNGATED, "run 4 of it was not let start, run 3 was")


def test_a_run_that_libvirt_gave_no_number_is_none() -> None:
    (fault,) = found(live(), noted=Launched(run=-1, xml=XML))
    assert fault.kind == UNGATED


def test_a_taint_is_told_and_what_any_domain_may_have_is_not() -> None:
    (fault,) = found(live(taints=("tainted: custom monitor control commands issued",)))
    assert (fault.kind, fault.why) == (DRIFT, "tainted: custom monitor control commands issued")
    assert found(live(taints=("tainted: use of deprecated configuration settings",))) == ()
    (fault,) = found(live(taints=("tainted: use of deprecated configuration settings", "tainted: something new")))
    assert fault.why == "tainted: something new", "what is not known is no harmless one"


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (XML.replace(">Hello<", ">Bye<"), "/domain/title[1]: expected Hello, found Bye"),
        ("<domain", "/domain: expected domain XML, found not readable"),
    ],
)
def test_another_domain_is_named(xml: str, why: str) -> None:
    (fault,) = found(live(xml=xml.encode()))
    assert fault.kind == DRIFT
    assert fault.why.startswith(why)


Spoil = Callable[[Path], None]


def test_what_was_noted_is_what_was_let_start(tmp_path: Path) -> None:
    launched = LaunchedDomains(tmp_path / "launched")
    assert launched.of(NAME) is None
    launched.note(NAME, XML, XML.replace("'qemu'>", "'qemu' id='12'>").encode())
    noted = launched.of(NAME)
    assert noted is not None
    assert noted.run == 12
    assert found(live(run=12), noted=noted) == ()
    launched.forget(NAME)
    assert launched.of(NAME) is None


@pytest.mark.parametrize("number", ["", "x", "-1", "1e3", "٣", "9" * 40])
def test_what_is_no_number_of_a_run_is_none(tmp_path: Path, number: str) -> None:
    launched = LaunchedDomains(tmp_path)
    launched.note(NAME, XML, f"<domain id='{number}'/>".encode())
    noted = launched.of(NAME)
    assert noted is not None
    assert noted.run == -1


@pytest.mark.parametrize("content", [b"", b"{}", b"<network/>", b"\xff" * 10, b"<domain>"])
def test_a_note_that_is_damaged_is_none(tmp_path: Path, content: bytes) -> None:
    durable.write_file(tmp_path / NAME, content)
    assert LaunchedDomains(tmp_path).of(NAME) is None
