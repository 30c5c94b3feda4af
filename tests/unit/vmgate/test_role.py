# SPDX-License-Identifier: Apache-2.0
"""`vmgate role` and `vmgate banner`: what they print, and that people see the banner before they change something.

The agent is played here; what it decides is shown elsewhere.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import banner, role_matrix
from agent.paths import HostPaths
from agent.roles import FUNCTIONS
from agent.server import Call, Handler, Server
from documents.canonical import Json
from documents.management import FLEET_FUNCTIONS, ROLES
from lab.callers import access_for
from lab.command import GUARD, clean_environment, refused, run
from lab.publisher import VMGATE

WARNING = "TEST TEST Warning Message TEST TEST\nBefugten vorbehalten: Ärger \x1b[31m\u202e\n"
SHOWN = ["TEST TEST Warning Message TEST TEST", "Befugten vorbehalten: Ärger \\x1b[31m\\u202e"]


class Agent:
    """Does whatever it is told to.

    Attributes:
        told: what it was asked: verb and arguments.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[tuple[str, dict[str, str]]] = []
        names = {
            "vm/kill": ("name",), "role/grant": ("role", "kind", "account", "vms"),
            "role/revoke": ("role", "kind", "account"), "banner/set": ("text",),
            "config/check": (), "config/approve": ("shown",), "role/list": (),
        }  # fmt: skip
        handlers = {verb: self._answering(verb, names[verb]) for verb in names}
        self._server = Server(root / "run/vmgate/agent.sock", handlers, access_for(root, handlers))
        self._thread = threading.Thread(target=self._server.serve)
        self._thread.start()

    def _answering(self, verb: str, names: tuple[str, ...]) -> Handler:
        def answer(call: Call) -> dict[str, Json]:
            self.told.append((verb, {name: call.take(name) for name in names}))
            call.finish()
            grants: list[Json] = [{"role": "user", "kind": "group", "name": "staff", "vms": ["desk", "lab"]}]
            return {"refused": "", "things": [], "proposal": "{}", "number": 1, "grants": grants}

        return answer

    def close(self) -> None:
        self._server.close()
        self._thread.join(GUARD)


@pytest.fixture
def agent() -> Iterator[Agent]:
    with tempfile.TemporaryDirectory(prefix="vmgate-") as folder:
        agent = Agent(Path(folder))
        banner.write(_banner(agent.root), WARNING)
        yield agent
        agent.close()


def _banner(root: Path) -> Path:
    path = HostPaths(root).banner
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def on_a_terminal(agent: Agent, *words: str, typed: str = "") -> list[str]:
    """Run the command for somebody at a terminal; gives the lines of it, standard output among them."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [VMGATE, *words, "--root", str(agent.root)], stdin=slave, stdout=slave, stderr=slave, env=clean_environment()
    ) as child:
        os.close(slave)
        os.write(master, typed.encode())
        shown = b""
        try:
            while part := os.read(master, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
        child.wait(GUARD)
    os.close(master)
    assert child.returncode == 0, shown
    return shown.decode().replace("\r", "").splitlines()


def test_people_see_the_banner_before_they_change_something(agent: Agent) -> None:
    """Literally, with what would act on the terminal made visible."""
    assert on_a_terminal(agent, "vm", "kill", "desk") == [*SHOWN, "desk switched off"]
    assert [verb for verb, _ in agent.told] == ["vm/kill"]


def test_they_see_it_before_they_are_asked_and_only_once(agent: Agent) -> None:
    lines = on_a_terminal(agent, "config", "approve", typed="y\n")
    lines = [line for line in lines if line != "y"]  # the terminal's echo, which comes when it likes
    assert lines[:2] == SHOWN
    assert not set(SHOWN) & set(lines[2:])
    assert [verb for verb, _ in agent.told] == ["config/check", "config/approve"]


def test_looking_takes_no_banner(agent: Agent) -> None:
    assert not set(SHOWN) & set(on_a_terminal(agent, "role", "list"))


def test_programs_see_none(agent: Agent) -> None:
    done = run("vm", "kill", "desk", "--root", agent.root)
    assert (done.exit, done.out, done.err) == (0, "desk switched off\n", "")


def test_without_one_nothing_is_shown(agent: Agent) -> None:
    banner.write(_banner(agent.root), "")
    assert on_a_terminal(agent, "vm", "kill", "desk") == ["desk switched off"]


def test_the_banner_is_set_literally(agent: Agent, tmp_path: Path) -> None:
    text = "100 % 'sicher' \u00e4\n\u2028 {x} \\n\n"
    (tmp_path / "text").write_text(text)
    assert run("banner", "set", "--file", tmp_path / "text", "--root", agent.root).out == "the banner was set\n"
    assert run("banner", "set", "--root", agent.root, "--", "").out == "the banner was taken away\n"
    assert agent.told == [("banner/set", {"text": text}), ("banner/set", {"text": ""})]


def test_the_banner_is_shown_and_told(agent: Agent) -> None:
    assert run("banner", "show", "--root", agent.root).out.splitlines() == SHOWN
    assert json.loads(run("banner", "show", "-o", "json", "--root", agent.root).out)["text"] == WARNING


@pytest.mark.parametrize("words", [(), ("text", "--file", "/dev/null"), ("x" * 4_001,)], ids=["none", "both", "long"])
def test_what_is_no_banner(agent: Agent, words: tuple[str, ...]) -> None:
    refused(run("banner", "set", *words, "--root", agent.root), 2)
    assert agent.told == []


def test_grants_are_asked_for_and_listed(agent: Agent) -> None:
    options = ("--group", "staff", "--vm", "desk", "--vm", "lab")
    done = run("role", "grant", "user", *options, "--root", agent.root)
    assert done.out == "group staff has the role user for desk, lab\n"
    assert agent.told == [("role/grant", {"role": "user", "kind": "group", "account": "staff", "vms": "desk lab"})]
    listed = [line.split() for line in run("role", "list", "--root", agent.root).out.splitlines()]
    assert listed == [["ROLE", "TO", "NAME", "VMS"], ["user", "group", "staff", "desk", "lab"]]


def test_a_role_is_taken_back(agent: Agent) -> None:
    done = run("role", "revoke", "auditor", "--user", "ann", "--root", agent.root)
    assert done.out == "user ann has no longer the role auditor\n"
    assert agent.told == [("role/revoke", {"role": "auditor", "kind": "user", "account": "ann"})]


@pytest.mark.parametrize("verb", ["grant", "revoke"])
@pytest.mark.parametrize("words", [("auditor",), ("auditor", "--user", "a", "--group", "b"), ("root", "--user", "a")])
def test_a_grant_that_is_none(agent: Agent, verb: str, words: tuple[str, ...]) -> None:
    refused(run("role", verb, *words, "--root", agent.root), 2)
    assert agent.told == []


def test_the_matrix_is_the_table() -> None:
    told = json.loads(run("role", "matrix", "-o", "json").out)
    assert told["roles"].keys() == ROLES.keys()
    table = (*FUNCTIONS, *FLEET_FUNCTIONS)
    assert [function["verbs"] for function in told["functions"]] == [list(function.verbs) for function in table]
    assert [function["roles"] for function in told["functions"]] == [dict(function.roles) for function in table]
    assert run("role", "matrix", "-o", "markdown").out == role_matrix.markdown()
    lines = run("role", "matrix").out.splitlines()
    assert len(lines) == 1 + len(table)
    assert lines[0].split()[:3] == ["NO", "FUNCTION", "ADMINISTRATOR"]
