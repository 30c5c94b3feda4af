# SPDX-License-Identifier: Apache-2.0
"""A socket that systemd keeps: who calls while no agent is there waits for the next one; what was taken is answered."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import hook_script
from agent.client import call, require_answer
from agent.errors import AgentAway
from agent.server import Call, Server
from documents.canonical import Json
from lab.callers import access_for

GUARD = 20
NAME = "guest"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a name short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name:
        yield Path(name)


@pytest.fixture
def kept(folder: Path) -> Iterator[socket.socket]:
    """The socket, listened on by nobody who answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "agent.sock"))
        listening.listen()
        yield listening


class Agent:
    """Serves on a copy of the socket, as each agent that systemd starts does."""

    def __init__(self, folder: Path, kept: socket.socket, *, allows: bool = True) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        self._allows = allows
        handlers = {"gate/prepare": self._allow, "test/slow": self._slow}
        self.server = Server(folder / "agent.sock", handlers, access_for(folder, handlers), kept.dup())
        self._thread = threading.Thread(target=self.server.serve)
        self._thread.start()

    def _allow(self, request: Call) -> dict[str, Json]:
        request.take("xml")
        return {"allowed": request.take("name") if self._allows else ""}

    def _slow(self, request: Call) -> dict[str, Json]:
        self.asked.set()
        assert self.go.wait(GUARD)
        return {"done": True}

    def end(self, seconds: float = GUARD) -> bool:
        """As at SIGTERM; returns whether all that was taken is answered."""
        self.server.close()
        self._thread.join(GUARD)
        assert not self._thread.is_alive()
        answered = self.server.drain(seconds)
        self.server.remove()
        return answered


@pytest.mark.parametrize("allows", [True, False])
def test_the_hook_waits_for_the_next_agent_and_gets_its_answer(
    allows: bool, folder: Path, kept: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_script, "AGENT", str(folder / "agent.sock"))
    assert Agent(folder, kept).end()
    answers: list[bool] = []

    def hook() -> None:
        answer = json.loads(hook_script.call(NAME, "prepare", "<domain/>"))
        answers.append(answer.get("result") == {"allowed": NAME})

    waiting = threading.Thread(target=hook)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    following = Agent(folder, kept, allows=allows)
    waiting.join(GUARD)
    assert answers == [allows]
    following.end()


def test_without_a_next_agent_the_hooks_deadline_is_a_no(
    folder: Path, kept: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hook_script, "AGENT", str(folder / "agent.sock"))
    monkeypatch.setattr(hook_script, "SECONDS", 0.2)
    monkeypatch.setattr("sys.stdin", (folder / "agent.sock").parent.joinpath("xml").open("w+"))
    assert hook_script.main([NAME, "prepare", "begin", "-"]) == 5
    assert capsys.readouterr().err.startswith("error[AG003]: the vmgate agent did not answer")


def test_what_was_taken_is_answered_before_the_agent_ends(folder: Path, kept: socket.socket) -> None:
    agent = Agent(folder, kept)
    answers: list[object] = []
    caller = threading.Thread(target=lambda: answers.append(call(folder / "agent.sock", "test/slow", "test")))
    caller.start()
    assert agent.asked.wait(GUARD)
    assert not agent.end(0.2)
    agent.go.set()
    assert agent.server.drain(GUARD)
    caller.join(GUARD)
    assert answers == [{"done": True}]


def test_the_socket_stays_when_the_agent_ends(folder: Path, kept: socket.socket) -> None:
    Agent(folder, kept).end()
    assert (folder / "agent.sock").is_socket()


def test_an_agent_that_answers_nobody_is_noticed_in_time(folder: Path, kept: socket.socket) -> None:
    with pytest.raises(AgentAway):
        require_answer(folder / "agent.sock", 0.2)
