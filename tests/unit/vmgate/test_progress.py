# SPDX-License-Identifier: Apache-2.0
"""What `vmgate update apply` shows while the agent works, and when it shows nothing. The agent is played here."""

from __future__ import annotations

import os
import pty
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import NotReady
from agent.progress import Transfer
from agent.server import Call, Server
from documents.canonical import Json
from lab.callers import access_for
from lab.command import GUARD, clean_environment, refused, run
from lab.publisher import VMGATE

DONE = {
    "changed": True, "generation": 2, "state": "confirmed", "stale": False, "reboot": False, "held_back": [],
    "early": [], "releases": [{"channel": "platform", "number": 2}],
}  # fmt: skip
RESULT = "platform: release 2\ngeneration 2 is confirmed\n"
TOTAL = 45_000_000


class Agent:
    """Updates until it was asked three times how far it is, or at once if nobody asks.

    Attributes:
        asked: how often it was asked.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked = 0
        self.watched = False
        self.fails = False
        self.transfer = Transfer()
        self._enough = threading.Event()
        self.handlers = {"update/apply": self._apply, "update/progress": self._progress}
        self._server = Server(root / "run/vmgate/agent.sock", self.handlers, access_for(root, self.handlers))
        self._thread = threading.Thread(target=self._server.serve)
        self._thread.start()

    def close(self) -> None:
        self._server.close()
        self._thread.join(GUARD)

    def _apply(self, call: Call) -> dict[str, Json]:
        with self.transfer.running() as tell:
            tell(12_000_000, TOTAL)
            assert not self.watched or self._enough.wait(GUARD)
        if self.fails:
            raise NotReady("nothing was applied", cause="so it is", remedy="wait")
        return dict(DONE)

    def _progress(self, call: Call) -> dict[str, Json]:
        call.finish()
        self.asked += 1
        if self.asked == 3:
            self._enough.set()
        return self.transfer.told()


@pytest.fixture
def agent() -> Iterator[Agent]:
    with tempfile.TemporaryDirectory(prefix="vg-") as name:
        running = Agent(Path(name))
        yield running
        running.close()


def _on_a_terminal(*arguments: str | Path) -> tuple[str, str]:
    """What a command writes to standard output, and to a terminal that is its standard error."""
    master, slave = pty.openpty()
    environment = clean_environment() | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [str(VMGATE), *map(str, arguments)], stdout=subprocess.PIPE, stderr=slave, env=environment, text=True
    ) as command:
        os.close(slave)
        drawn = b""
        while part := _read(master):
            drawn += part
        out = command.stdout.read() if command.stdout else ""
    os.close(master)
    assert command.returncode == 0, drawn
    return out, drawn.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # what a pseudo-terminal says when its other end is closed
        return b""


def test_bytes_rate_and_time_left_on_a_terminal(agent: Agent) -> None:
    agent.watched = True
    out, drawn = _on_a_terminal("update", "apply", "--root", agent.root)
    assert out == RESULT
    assert "fetching" in drawn
    assert "12.0/45.0 MB" in drawn
    assert "-:--:--" in drawn, "the rate is not known yet, so no time is made up"
    assert agent.asked >= 3


def test_nothing_in_a_pipe(agent: Agent) -> None:
    done = run("update", "apply", "--root", agent.root)
    assert (done.exit, done.out, done.err) == (0, RESULT, "")
    assert agent.asked == 0


def test_nothing_when_it_is_to_be_quiet(agent: Agent) -> None:
    out, drawn = _on_a_terminal("update", "apply", "--quiet", "--root", agent.root)
    assert (out, drawn) == (RESULT, "")
    assert agent.asked == 0


def test_lines_in_a_pipe_if_asked(agent: Agent) -> None:
    agent.watched = True
    done = run("update", "apply", "--progress", "-o", "json", "--root", agent.root)
    assert done.exit == 0
    assert done.out.startswith("{")
    assert done.err == "fetching 12.0/45.0 MB ? -:--:--"


def test_an_error_stays_one_line(agent: Agent) -> None:
    agent.fails = True
    done = run("update", "apply", "--root", agent.root)
    assert refused(done, 7).code == "AG012"


def test_an_agent_that_cannot_tell_still_updates(agent: Agent) -> None:
    del agent.handlers["update/progress"]
    done = run("update", "apply", "--progress", "--root", agent.root)
    assert (done.exit, done.out, done.err) == (0, RESULT, "")


def test_numbers_are_kept_only_while_something_is_fetched() -> None:
    transfer = Transfer()
    assert transfer.told() == {"running": False, "done": 0, "total": 0}
    with transfer.running() as tell:
        tell(1, 2)
        tell(2, 2)
        assert transfer.told() == {"running": True, "done": 2, "total": 2}
    assert transfer.told() == {"running": False, "done": 0, "total": 0}
