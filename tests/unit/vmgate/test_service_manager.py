# SPDX-License-Identifier: Apache-2.0
"""Telling systemd how far the agent is, and that it works."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.errors import AgentAway, NotReady
from vmgate.service_manager import Watchdog, tell


@pytest.mark.parametrize("abstract", [False, True])
def test_the_one_who_listens_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"vmgate-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        tell("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_nobody_listening_is_fine_and_one_that_is_gone_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(NotReady, match="not told"):
        tell("READY=1")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Stands where systemd listens, and asked for a sign of life every three seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listening


def heard(manager: socket.socket) -> list[bytes]:
    """All that was told."""
    told = []
    with suppress(BlockingIOError):
        while True:
            told.append(manager.recv(100))
    return told


def fails() -> None:
    raise AgentAway("the vmgate agent did not answer", cause="test", remedy="none")


def test_the_watchdog_is_told_after_a_look_and_not_at_each_turn(manager: socket.socket) -> None:
    looked = []
    watchdog = Watchdog(lambda: looked.append(1))
    assert [watchdog.look(), watchdog.look()] == ["", ""]
    assert heard(manager) == [b"WATCHDOG=1"]
    assert looked == [1]


def test_an_agent_that_does_not_answer_is_not_vouched_for_and_is_looked_at_again(manager: socket.socket) -> None:
    checks = iter([fails, fails, lambda: None])

    def check() -> None:
        next(checks)()

    watchdog = Watchdog(check)
    assert "AG" in watchdog.look()
    assert "AG" in watchdog.look()
    assert heard(manager) == []
    assert watchdog.look() == ""
    assert heard(manager) == [b"WATCHDOG=1"]


@pytest.mark.parametrize(("usec", "pid"), [("", ""), ("0", ""), ("-1", ""), ("x", ""), ("3000000", "1")])
def test_who_is_not_asked_says_nothing(
    usec: str, pid: str, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert Watchdog(fails).look() == ""
    assert heard(manager) == []
