# SPDX-License-Identifier: Apache-2.0
"""Work that may wait: done once for all that asked, done at once when somebody cannot wait, and not after that."""

from __future__ import annotations

import threading

from agent.deferred import Deferred

LONG = 3_600.0
GUARD = 30


class Work:
    def __init__(self) -> None:
        self.times = 0
        self.done = threading.Event()

    def __call__(self) -> None:
        self.times += 1
        self.done.set()


def test_it_is_done_once_for_all_that_asked() -> None:
    work = Work()
    deferred = Deferred(work, 0.05)
    for _ in range(5):
        deferred.soon()
    assert work.done.wait(GUARD)
    assert work.times == 1
    work.done.clear()
    deferred.soon()
    assert work.done.wait(GUARD)
    assert work.times == 2


def test_it_waits() -> None:
    work = Work()
    deferred = Deferred(work, LONG)
    deferred.soon()
    assert work.times == 0
    deferred.cancel()


def test_what_is_done_now_is_not_done_again() -> None:
    work = Work()
    deferred = Deferred(work, LONG)
    deferred.soon()
    timer = deferred._timer
    deferred.now()
    assert work.times == 1
    assert timer is not None
    timer.join(GUARD)
    assert not timer.is_alive()
    assert work.times == 1


def test_a_timer_that_comes_too_late_does_nothing() -> None:
    work = Work()
    deferred = Deferred(work, LONG)
    late = threading.Thread(target=deferred._due)
    late.start()
    late.join(GUARD)
    assert work.times == 0
