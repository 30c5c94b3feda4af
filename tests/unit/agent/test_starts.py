# SPDX-License-Identifier: Apache-2.0
"""Nobody defines a VM while it starts, and no call of libvirt's holds the gate up for good."""

from __future__ import annotations

import threading

import pytest

from agent import starts
from agent.bounded import within
from agent.starts import Starts
from agent.vm_errors import LibvirtLate
from hypervisor.errors import HypervisorError

GUARD = 60


def test_a_vm_is_on_its_way_from_the_question_to_the_end_and_no_longer() -> None:
    known = Starts()
    assert not known.on_its_way("desk")
    known.begin("desk")
    assert known.on_its_way("desk")
    assert not known.on_its_way("vault")
    known.end("desk")
    known.end("desk")
    assert not known.on_its_way("desk")


def test_a_start_whose_end_nobody_saw_is_none_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Starts()
    known.begin("desk")
    monkeypatch.setattr(starts, "LONGEST_SECONDS", 0.0)
    assert not known.on_its_way("desk")


def test_who_wants_the_same_vm_waits_and_who_wants_another_does_not() -> None:
    known, order, there = Starts(), list[str](), threading.Event()

    def define() -> None:
        with known.alone("vault"):
            there.set()
        with known.alone("desk"):
            order.append("defined")

    with known.alone("desk"), known.alone("desk"):
        other = threading.Thread(target=define)
        other.start()
        assert there.wait(GUARD)
        order.append("started")
    other.join(GUARD)
    assert order == ["started", "defined"]


def test_what_is_done_in_time_is_given_and_what_fails_is_told() -> None:
    def fail() -> str:
        raise HypervisorError("x", cause="broken", remedy="mend it")

    assert within(GUARD, lambda: "told", "it was not done", "nobody told") == "told"
    with pytest.raises(HypervisorError, match="broken"):
        within(GUARD, fail, "it was not done", "nobody told")


def test_a_late_call_is_told_and_undone_once_it_ends() -> None:
    free, undone = threading.Event(), threading.Event()
    with pytest.raises(LibvirtLate, match=r"nobody told in 0\.1 seconds"):
        within(0.1, lambda: free.wait(GUARD), "it was not done", "nobody told", undone.set)
    assert not undone.is_set()
    free.set()
    assert undone.wait(GUARD)
