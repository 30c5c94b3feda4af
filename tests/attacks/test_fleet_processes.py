# SPDX-License-Identifier: Apache-2.0
"""Processes of a fleet's service that are killed: no verdict is lost, none is invented, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.fleet_service import GUARD, serving
from lab.paper_host import PaperHost

WORKER = b"multiprocessing.spawn"


def workers(parent: int) -> set[int]:
    """The processes that serve, of a service of several."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(child) for child in children if WORKER in Path(f"/proc/{child}/cmdline").read_bytes()}


def until(what: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + GUARD
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs, and is not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "service"


def test_killed_processes_lose_no_verdict_and_leave_none_behind(folder: Path) -> None:
    with serving(folder, "sqlite:///fleet.db", "--processes", "2") as (service, caller):
        host = PaperHost(1)
        caller.enrol(host, service.token())
        assert caller.attest(host).status == "warning"
        before = workers(service.pid)
        assert len(before) == 2
        # One is killed: the other answers, and a third takes the first one's place.
        os.kill(min(before), signal.SIGKILL)
        assert service.standing(host.name) == "trusted"
        until(lambda: len(workers(service.pid) - before) == 1 and len(workers(service.pid)) == 2)
        assert caller.attest(host).status == "warning"
        assert len(service.run("show", host.name)["verdicts"]) == 2
        # The first process is killed: nobody goes on to serve without one that watches.
        left = workers(service.pid)
        service.stop(signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in left))
        assert service.standing(host.name) == "trusted"
        assert service.start().attest(host).status == "warning"
        assert len(service.run("show", host.name)["verdicts"]) == 3
