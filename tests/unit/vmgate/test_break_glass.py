# SPDX-License-Identifier: Apache-2.0
"""`vmgate update import --allow-stale`: what it asks before it asks the agent, which is played here."""

from __future__ import annotations

import os
import pty
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.server import Call, Handler, Server
from documents.canonical import Json
from lab.callers import access_for
from lab.command import GUARD, clean_environment, refused, run
from lab.publisher import VMGATE

STALE = ("--allow-stale", "400", "--reason", "no newer stick")
DONE = {
    "changed": True, "generation": 2, "state": "confirmed", "stale": True, "reboot": False, "held_back": [],
    "early": [], "releases": [{"channel": "platform", "number": 2}],
}  # fmt: skip


class Agent:
    """Imports whatever it is told to.

    Attributes:
        told: days and reason of each import.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bundle = root / "release-2.bundle"
        self.bundle.touch()
        self.told: list[tuple[str, str]] = []
        handlers: dict[str, Handler] = {"update/import": self._import}
        self._server = Server(root / "run/vmgate/agent.sock", handlers, access_for(root, handlers))
        self._thread = threading.Thread(target=self._server.serve)
        self._thread.start()

    def close(self) -> None:
        self._server.close()
        self._thread.join(GUARD)

    def _import(self, call: Call) -> dict[str, Json]:
        assert call.take("bundle") == str(self.bundle)
        self.told.append((call.take("allow_stale", ""), call.take("reason", "")))
        call.finish()
        return dict(DONE)

    def words(self, *options: str) -> tuple[str, ...]:
        return ("update", "import", str(self.bundle), "--root", str(self.root), *options)


@pytest.fixture
def agent() -> Iterator[Agent]:
    with tempfile.TemporaryDirectory(prefix="vmgate-") as folder:
        agent = Agent(Path(folder))
        yield agent
        agent.close()


def typed(agent: Agent, answer: str) -> tuple[int, str]:
    """The command on a terminal where somebody types; gives its exit code and what the terminal showed of it."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [VMGATE, *agent.words(*STALE)], stdin=slave, stdout=subprocess.PIPE, stderr=slave, env=clean_environment()
    ) as child:
        os.close(slave)
        os.write(master, answer.encode() + b"\n")
        child.communicate(timeout=GUARD)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:
        pass
    os.close(master)
    return child.returncode, shown.decode()


def test_an_import_as_ever_asks_nothing(agent: Agent) -> None:
    assert run(*agent.words()).exit == 0
    assert agent.told == [("", "")]


def test_a_script_says_yes_beforehand(agent: Agent) -> None:
    done = run(*agent.words(*STALE, "-y"))
    assert (done.exit, done.err) == (0, "")
    assert "its metadata had expired: whether newer releases exist is not known" in done.out
    assert agent.told == [("400", "no newer stick")]


@pytest.mark.parametrize(
    "options",
    [
        ("--allow-stale", "400", "-y"),
        ("--allow-stale", "400", "--reason", "", "-y"),
        ("--reason", "no newer stick", "-y"),
    ],
)
def test_days_and_reason_belong_together(agent: Agent, options: tuple[str, ...]) -> None:
    assert refused(run(*agent.words(*options)), 2).code == "AG030"
    assert agent.told == []


@pytest.mark.parametrize("days", ["0", "3661", "-3", "many"])
def test_days_are_bounded(agent: Agent, days: str) -> None:
    assert refused(run(*agent.words("--allow-stale", days, "--reason", "x", "-y")), 2).code == "VG002"
    assert agent.told == []


def test_nobody_there_to_confirm_it_means_no(agent: Agent) -> None:
    done = run(*agent.words(*STALE))
    assert done.exit == 2
    assert "error[AG030]: nothing was imported; nobody confirmed it; confirm it on a terminal, or give -y" in done.err
    assert agent.told == []


@pytest.mark.parametrize("answer", ["yes", "release-2.bundle"])
def test_who_types_the_name_or_yes_goes_on(agent: Agent, answer: str) -> None:
    status, shown = typed(agent, answer)
    assert status == 0, shown
    assert "recorded with your reason" in shown
    assert agent.told == [("400", "no newer stick")]


@pytest.mark.parametrize("answer", ["", "y", "no", "release-1.bundle", "YES"])
def test_who_types_anything_else_does_not(agent: Agent, answer: str) -> None:
    status, shown = typed(agent, answer)
    assert (status, "error[AG030]" in shown) == (2, True), shown
    assert agent.told == []
