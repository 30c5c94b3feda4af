# SPDX-License-Identifier: Apache-2.0
"""The agent's socket: whatever is sent, the answer is one document on one line, and a failure is one sentence."""

from __future__ import annotations

import io
import os
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent import hook_script
from agent.client import call
from agent.errors import AgentAway, AgentSaid, NotReady, Refused
from agent.server import Call, Handler, Server
from documents.canonical import Json, encode
from documents.errors import Exit
from documents.local_api import Request, Response
from lab.callers import access_for

GUARD = 20
"""Seconds after which something hangs."""


def echo(request: Call) -> dict[str, Json]:
    text = request.take("text", "nothing")
    request.finish()
    return {"text": text, "actor": request.actor}


def refuse(request: Call) -> dict[str, Json]:
    raise Refused("guest was not started", cause="a\nb \x1b[31m" + "x" * 9_000, remedy="see `vmgate vm why guest`")


def bug(request: Call) -> dict[str, Json]:
    raise KeyError("the secret inside")


def unspeakable(request: Call) -> dict[str, Json]:
    return {"load": 0.5}  # type: ignore[dict-item]


def passed_on(request: Call) -> dict[str, Json]:
    raise AgentSaid("error[AG010]: no; cause; remedy", Exit.POLICY)


def allow(request: Call) -> dict[str, Json]:
    request.take("xml")
    return {"allowed": request.take("name")}


def deny(request: Call) -> dict[str, Json]:
    raise Refused("guest was not started", cause="its disk was changed", remedy="see `vmgate vm why guest`")


HANDLERS: dict[str, Handler] = {
    "test/echo": echo,
    "test/refuse": refuse,
    "test/bug": bug,
    "test/unspeakable": unspeakable,
    "test/passed-on": passed_on,
    "gate/prepare": allow,
    "gate/started": deny,
    "gate/stopped": deny,
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a name short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name:
        yield Path(name)


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Path]]:
    """Start agents with the given handlers; give their socket."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(handlers: dict[str, Handler] = HANDLERS, path: Path = folder / "run/agent.sock") -> Path:
        server = Server(path, handlers, access_for(path.parent, handlers))
        thread = threading.Thread(target=server.serve)
        thread.start()
        running.append((server, thread))
        return path

    yield start
    for server, thread in running:
        server.close()
        thread.join(GUARD)
        assert not thread.is_alive()


def raw(path: Path, data: bytes, *, hang_up: bool = True) -> bytes:
    """Send bytes, perhaps no more after them, and return all that comes back."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(GUARD)
        connection.connect(str(path))
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
    return answer


def answered(path: Path, data: bytes, status: Exit, *words: str) -> None:
    """The answer is one line with one sentence and no result, and the agent goes on."""
    answer = raw(path, data)
    assert answer.count(b"\n") == 1
    response = Response.parse(answer[:-1])
    assert response.exit == status
    assert response.result == {}
    assert response.error.isprintable()
    assert response.error.startswith("error[")
    assert "Traceback" not in response.error
    for word in words:
        assert word in response.error
    assert call(path, "test/echo", "test", text="still here")["text"] == "still here"


def line(verb: str, *arguments: tuple[str, str]) -> bytes:
    return Request(verb=verb, arguments=arguments, actor="test").encode() + b"\n"


def test_request_and_answer(serve: Callable[..., Path]) -> None:
    path = serve()
    text = "any text \n \0 \u202e \U0001f512"
    assert call(path, "test/echo", "test", text=text) == {"text": text, "actor": f"test (uid {os.getuid()})"}
    assert call(path, "test/echo", "test")["text"] == "nothing"


def test_the_socket_is_for_its_owner_only(serve: Callable[..., Path]) -> None:
    assert stat.S_IMODE(serve().stat().st_mode) == 0o600


def test_oversized_request(serve: Callable[..., Path]) -> None:
    path = serve()
    answered(path, b"x" * (Request.LIMIT + 100_000) + b"\n", Exit.USAGE, "too long")
    answered(path, line("test/echo", ("text", "x" * Request.LIMIT)), Exit.USAGE, "too long")


def test_largest_request(serve: Callable[..., Path]) -> None:
    length = Request.LIMIT - len(line("test/echo", ("text", ""))) + 1
    assert call(serve(), "test/echo", "test", text="x" * length)["text"] == "x" * length


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_truncated_request(serve: Callable[..., Path], cut: int) -> None:
    answered(serve(), line("test/echo")[:cut], Exit.USAGE, "not complete")


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"{}\n",
        b"GET / HTTP/1.1\r\n",
        b"\xff\xfe\n",
        line("test/echo").replace(b'"version":1', b'"version":2'),
        line("test/echo").replace(b"test/echo", b"../echo"),
        line("test/echo")[:-2] + b',"zz":1}\n',
        b" " + line("test/echo"),
        encode({"a": []}) + b"\n",
    ],
)
def test_malformed_request(serve: Callable[..., Path], data: bytes) -> None:
    path = serve()
    response = Response.parse(raw(path, data)[:-1])
    assert response.exit in (Exit.REFUSED, Exit.NOT_READY)
    assert response.error.startswith("error[DC00")
    assert call(path, "test/echo", "test")["text"] == "nothing"


def test_unknown_verb(serve: Callable[..., Path]) -> None:
    answered(serve(), line("vm/open-sesame"), Exit.USAGE, "'vm/open-sesame' is unknown")


def test_unknown_and_missing_argument(serve: Callable[..., Path]) -> None:
    path = serve()
    answered(path, line("test/echo", ("other", "x")), Exit.USAGE, "unknown argument")
    answered(path, line("gate/prepare"), Exit.USAGE, "'xml' is missing")


def test_only_the_first_line_is_a_request(serve: Callable[..., Path]) -> None:
    answer = raw(serve(), line("test/echo") + line("test/bug"))
    assert answer.count(b"\n") == 1
    assert Response.parse(answer[:-1]).exit == Exit.DONE


def test_refusal_is_one_bounded_line(serve: Callable[..., Path]) -> None:
    path = serve()
    answered(path, line("test/refuse"), Exit.REFUSED, "error[AG010]: guest was not started; a\\nb \\x1b[31mxxx")
    with pytest.raises(AgentSaid) as caught:
        call(path, "test/refuse", "test")
    assert caught.value.status == Exit.REFUSED
    assert len(caught.value.line()) == 4_000


def test_bug_is_a_refusal_that_tells_nothing(serve: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    path = serve()
    answered(path, line("test/bug"), Exit.FAILED, "error[AG099]")
    assert b"secret" not in raw(path, line("test/bug"))
    assert "the secret inside" in caplog.text, "the log says more"


def test_a_result_that_cannot_be_sent_is_a_bug_too(serve: Callable[..., Path]) -> None:
    answered(serve(), line("test/unspeakable"), Exit.FAILED, "error[AG099]")


def test_an_error_of_another_agent_is_passed_on(serve: Callable[..., Path]) -> None:
    answered(serve(), line("test/passed-on"), Exit.POLICY, "error[AG010]: no; cause; remedy")


def test_two_at_once(serve: Callable[..., Path]) -> None:
    """The first call is answered only after the second was."""
    first_is_in, go_on = threading.Event(), threading.Event()

    def slow(request: Call) -> dict[str, Json]:
        first_is_in.set()
        assert go_on.wait(GUARD)
        return {}

    path = serve({**HANDLERS, "test/slow": slow})
    answers: list[dict[str, Json]] = []
    first = threading.Thread(target=lambda: answers.append(call(path, "test/slow", "test")))
    first.start()
    assert first_is_in.wait(GUARD)
    assert call(path, "test/echo", "test")["text"] == "nothing"
    assert answers == []
    go_on.set()
    first.join(GUARD)
    assert answers == [{}]


def test_a_silent_caller_holds_up_nobody(serve: Callable[..., Path]) -> None:
    path = serve()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(path))
        silent.sendall(b"{")
        assert call(path, "test/echo", "test")["text"] == "nothing"


def test_a_caller_that_goes_away(serve: Callable[..., Path]) -> None:
    path = serve()
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(line("test/echo", ("text", "x" * 500_000)))
    assert call(path, "test/echo", "test")["text"] == "nothing"


def test_stale_socket_is_replaced(serve: Callable[..., Path], folder: Path) -> None:
    """An agent that was killed leaves its socket."""
    path = folder / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(AgentAway):
        call(path, "test/echo", "test")
    serve(path=path)
    assert call(path, "test/echo", "test")["text"] == "nothing"


def test_what_is_no_socket_stays(folder: Path) -> None:
    path = folder / "agent.sock"
    path.write_bytes(b"precious")
    with pytest.raises(NotReady, match="is not a socket"):
        Server(path, HANDLERS, access_for(folder, HANDLERS))
    assert path.read_bytes() == b"precious"


def test_too_long_a_path_is_one_line(folder: Path) -> None:
    with pytest.raises(NotReady, match="choose a shorter --root"):
        Server(folder / ("x" * 120) / "agent.sock", HANDLERS, access_for(folder, HANDLERS))


def test_no_agent_is_one_line(folder: Path) -> None:
    with pytest.raises(AgentAway, match="did not answer") as caught:
        call(folder / "agent.sock", "test/echo", "test")
    assert caught.value.exit == Exit.NOT_READY


def test_the_kernel_tells_who_asks(serve: Callable[..., Path], folder: Path) -> None:
    """Even with the socket's mode opened by mistake, another user is refused."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    path = serve()
    folder.chmod(0o755)
    path.chmod(0o666)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, raw(path, line("test/echo")))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        response = Response.parse(stream.read()[:-1])
    os.waitpid(child, 0)
    assert response.exit == Exit.NOT_PERMITTED
    assert "user 65534" in response.error
    assert "has no role on this host" in response.error


def ask_hook(
    monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str, xml: bytes = b"<domain>\n\xe2\x82\xac \"'\\</domain>"
) -> int:
    """Run the libvirt hook's entry point against an agent."""
    monkeypatch.setattr(hook_script, "AGENT", str(path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(xml)))
    return hook_script.main(list(arguments))


def test_the_hook_lets_through_what_the_agent_allows(
    serve: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its hand-written request is canonical: the agent reads it."""
    path = serve()
    assert ask_hook(monkeypatch, path, "guest", "prepare", "begin", "-") == 0
    assert ask_hook(monkeypatch, path, "guest", "stopped", "end", "-") == 0, "a failure after the fact stops nothing"
    assert ask_hook(monkeypatch, path, "guest", "unknown", "begin", "-") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "xml", "code"),
    [
        (("guest", "started", "begin", "-"), b"<domain/>", "error[AG010]: guest was not started"),
        (("guest", "restore", "begin", "-"), b"<domain/>", "error[AG015]"),
        (("guest", "prepare", "begin", "-"), b"\xff", "error[AG003]"),
        (("guest", "prepare", "begin", "-"), b"x" * (hook_script.MAX_XML + 1), "error[AG003]"),
        (("guest",), b"", "error[AG001]"),
    ],
)
def test_the_hook_refuses(
    serve: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    xml: bytes,
    code: str,
) -> None:
    assert ask_hook(monkeypatch, serve(), *arguments, xml=xml) != 0
    error = capsys.readouterr().err
    assert error.startswith(code)
    assert error.count("\n") == 1


def test_agent_away_means_no(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask_hook(monkeypatch, folder / "agent.sock", "guest", "prepare", "begin", "-") == 5
    assert capsys.readouterr().err.startswith("error[AG003]: the vmgate agent did not answer; ")


@pytest.mark.parametrize(
    "answer", [{}, {"allowed": "other"}, {"allowed": True}, {"allowed": ["guest"]}, {"refused": "guest"}]
)
def test_an_answer_that_does_not_allow_this_vm_means_no(
    serve: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: dict[str, Json],
) -> None:

    def misunderstood(request: Call) -> dict[str, Json]:
        return answer

    path = serve({"gate/prepare": misunderstood})
    assert ask_hook(monkeypatch, path, "guest", "prepare", "begin", "-") == 5
    assert capsys.readouterr().err.startswith("error[AG002]")


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"\n", b"[]\n", b"1\n", b"null\n", b'{"exit":0}\n', b"\xff\n", b"[" * 9_999]
)
def test_an_answer_that_is_none_means_no(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    """Something else than the agent listens."""
    path = folder / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def impostor() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=impostor)
        thread.start()
        assert ask_hook(monkeypatch, path, "guest", "prepare", "begin", "-") == 5
        thread.join(GUARD)
    error = capsys.readouterr().err
    assert error.startswith("error[AG00")
    assert error.count("\n") == 1
