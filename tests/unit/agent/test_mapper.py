# SPDX-License-Identifier: Apache-2.0
"""The helper that may ask the device mapper: what is no yes of root's is a no. The kernel's own answer is the rig's."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.answering import answer
from content import device_mapper
from content.device_mapper import MAX_QUESTION, NO, YES, by_helper, reply

GUARD = 20


@pytest.fixture
def folder() -> Iterator[Path]:
    """A kernel's folder with one mapped device and one disk, and room for a socket."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name:
        (Path(name) / "254:0/dm").mkdir(parents=True)
        (Path(name) / "8:1").mkdir()
        yield Path(name)


@contextmanager
def listening(folder: Path, serve: Callable[[socket.socket], object]) -> Iterator[Path]:
    """Somebody who listens where the helper would."""
    path = folder / "mapper.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield path
        thread.join(GUARD)
        assert not thread.is_alive()


def says(words: bytes) -> Callable[[socket.socket], None]:
    """Answers one question with these words."""

    def once(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(words)

    return once


def test_the_helper_is_asked_for_a_mapped_device_and_ends_when_nobody_asks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(device_mapper, "by_kernel", lambda device: asked.append(device) or True)
    with listening(folder, lambda server: answer(server, reply, MAX_QUESTION, 0.5)) as path:
        assert by_helper("254:0", path, folder)
        # Somebody who says nothing, and somebody who goes away, are no harm to the next one.
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(path))
        assert by_helper("254:0", path, folder)
    assert asked == ["254:0", "254:0"]


@pytest.mark.parametrize("words", [NO, b"", b"yes", b"yes \n", b"YES\n", b"yes\n\n"[:3], b"x" * 100])
def test_what_is_no_yes_is_a_no(words: bytes, folder: Path) -> None:
    with listening(folder, says(words)) as path:
        assert not by_helper("254:0", path, folder)


def test_a_yes_is_a_yes(folder: Path) -> None:
    with listening(folder, says(YES)) as path:
        assert by_helper("254:0", path, folder)


def test_where_no_helper_is_or_the_device_is_no_mapped_one_the_answer_is_no(folder: Path) -> None:
    assert not by_helper("254:0", folder / "mapper.sock", folder)
    assert not by_helper("8:1", folder / "mapper.sock", folder)


@pytest.mark.parametrize("question", [b"", b"\n", b"254", b"254:0:1\n", b"../1:0\n", b"\xff:1\n", b"9" * 32, b"1:\n"])
def test_what_is_no_device_is_answered_with_no(question: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_mapper, "by_kernel", lambda _: True)
    assert reply(question) == NO


@pytest.mark.parametrize(("told", "said"), [(True, YES), (False, NO), (None, NO)])
def test_the_kernels_answer_is_passed_on(told: bool | None, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_mapper, "by_kernel", lambda _: told)
    assert reply(b"254:0\n") == said
