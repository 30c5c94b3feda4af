# SPDX-License-Identifier: Apache-2.0
"""The hook's own no: an agent that is slow, mad or gone in the middle; and a reconnect, which nothing turns into a no.

What the hook makes of whole answers is shown with the server's tests.
"""

from __future__ import annotations

import io
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent import hook_script
from documents.errors import Exit
from documents.local_api import Request, Response

GUARD = 60
YES = b'{"error":"","exit":0,"result":{"allowed":"guest"},"type":"vmgate.response","version":1}\n'
DEEP = b"[" * 200_000 + b"\n"


def ask(monkeypatch: pytest.MonkeyPatch, path: Path, operation: str, sub: str = "begin") -> int:
    monkeypatch.setattr(hook_script, "AGENT", str(path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"<domain/>")))
    return hook_script.main(["guest", operation, sub, "-"])


@contextmanager
def listening(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Something listens where the agent should, and answers one question."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(GUARD)
        assert not thread.is_alive()


def test_a_good_answer_is_a_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def good(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(YES)

    with listening(tmp_path / "s", good):
        assert ask(monkeypatch, tmp_path / "s", "prepare") == 0


def test_an_answer_that_trickles_is_late_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and all of them do not."""
    monkeypatch.setattr(hook_script, "SECONDS", 0.5)
    gone = threading.Event()

    def trickle(connection: socket.socket) -> None:
        connection.recv(65536)
        try:
            while not gone.wait(0.05):
                connection.sendall(b" ")
        except OSError:
            gone.set()

    with listening(tmp_path / "s", trickle):
        assert ask(monkeypatch, tmp_path / "s", "prepare") == 5
        gone.set()


def test_an_agent_that_says_nothing_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_script, "SECONDS", 0.2)
    with listening(tmp_path / "s", _wait):
        assert ask(monkeypatch, tmp_path / "s", "prepare") == 5


def _wait(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_an_agent_that_ends_in_the_middle_of_its_yes_said_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(YES[:-1])

    with listening(tmp_path / "s", half):
        assert ask(monkeypatch, tmp_path / "s", "prepare") == 5


MAD = [
    b"",
    b"\n",
    b"{}\n",
    b"null\n",
    b"\xff\n",
    DEEP,
    b'{"exit":0,"error":"","result":[]}\n',
    YES.replace(b"guest", b"x"),
]


@pytest.mark.parametrize("answer", MAD, ids=range(len(MAD)))
@pytest.mark.parametrize("operation", ["prepare", "started"])
def test_a_mad_answer_is_a_no_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], operation: str, answer: bytes
) -> None:
    def mad(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with listening(tmp_path / "s", mad):
        assert ask(monkeypatch, tmp_path / "s", operation) == 5
    said = capsys.readouterr().err
    assert said.startswith("error[AG00")
    assert said.count("\n") == 1


@pytest.mark.parametrize("answer", [*MAD, YES.replace(b'"exit":0', b'"exit":5')], ids=range(len(MAD) + 1))
def test_no_answer_at_a_reconnect_kills_a_vm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    def mad(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with listening(tmp_path / "s", mad):
        assert ask(monkeypatch, tmp_path / "s", "reconnect") == 0
    assert ask(monkeypatch, tmp_path / "nothing", "reconnect") == 0, "nor does an agent that is away"
    assert capsys.readouterr().err == ""


@given(name=st.text(max_size=60), xml=st.text(max_size=300))
@example(name='"\\\b\t\n\f\r\x00\x1f\x7f\u2028é€😀', xml="<a>\r\n</a>")
def test_its_question_and_the_yes_that_it_waits_for_are_the_agents(name: str, xml: str) -> None:
    """Written by hand, for the json module takes longer than the question; and canonical, byte for byte."""
    arguments = (("name", name), ("xml", xml))
    request = Request(verb="gate/prepare", actor="libvirt hook", arguments=arguments)
    said: list[bytes] = []

    class Agent:
        """A socket that is asked once."""

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

        def settimeout(self, _: float) -> None:
            """Never late."""

        def connect(self, _: str) -> None:
            """There."""

        def sendall(self, line: bytes) -> None:
            said.append(line)

        def recv(self, _: int) -> bytes:
            return Response(exit=Exit.DONE, error="", result={"allowed": name}).encode() + b"\n"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", lambda *_: Agent())
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(xml.encode())))
        assert hook_script.main([name, "prepare", "begin", "-"]) == 0
    assert said == [request.encode() + b"\n"]
