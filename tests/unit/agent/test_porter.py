# SPDX-License-Identifier: Apache-2.0
"""Asking the process outside of the agent's box: what is no good answer of root's counts against the VM."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.answering import answer
from agent.errors import PorterAway
from agent.porter import Porter, is_boxed
from agent.porter_line import MAX_ANSWER, MAX_QUESTION, PorterLine, reply, replying
from content.errors import StorageFailed
from content.store import ContentStore
from hypervisor.by_hand import Machine

GUARD = 20
DIGEST = "5a" * 32
UUID = "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d21"
MACHINE = Machine(process=7, started=3, uid=1000, program="qemu-system-x86_64", kvm=True)


class Doing(Porter):
    """A porter that mounts nothing, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(ContentStore(Path("/nowhere")), Path("/nowhere/vmm"))
        self.asked: list[tuple[str, ...]] = []
        self.in_use = False
        self.broken = False

    def mount(self, digest: str) -> None:
        self.asked.append(("mount", digest))
        if self.broken:
            raise StorageFailed("the image was not mounted", cause="no loop device; is free\n", remedy="none")

    def unmount(self, digest: str) -> bool:
        self.asked.append(("unmount", digest))
        return not self.in_use

    def is_mounted(self, digest: str) -> bool:
        self.asked.append(("mounted", digest))
        return self.in_use

    def flaw(self, digest: str) -> str:
        self.asked.append(("flaw", digest))
        return "nothing is mounted" if self.broken else ""

    def stranger(self, digest: str, uuid: str) -> str:
        self.asked.append(("stranger", digest, uuid))
        return "QEMU is /usr/bin/\udcff\n" if self.broken else ""

    def machines(self) -> tuple[Machine, ...]:
        if self.broken:
            raise ProcessLookupError(3, "No such process")
        return (MACHINE,)


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[PorterLine]:
    """Somebody who listens where the porter would."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name, socket.socket(socket.AF_UNIX) as server:
        path = Path(name, "porter.sock")
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield PorterLine(path, 5)
        thread.join(GUARD)
        assert not thread.is_alive()


@contextmanager
def porter() -> Iterator[tuple[Doing, PorterLine]]:
    """A porter, and the line to it."""
    doing = Doing()
    with listening(lambda server: answer(server, replying(doing), MAX_QUESTION, 0.3)) as line:
        yield doing, line


def says(words: bytes) -> Callable[[socket.socket], None]:
    """Answers one question with these words."""

    def once(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(200)
            connection.sendall(words)

    return once


def test_all_that_is_asked_is_done_and_told() -> None:
    with porter() as (doing, line):
        line.mount(DIGEST)
        assert line.unmount(DIGEST)
        assert not line.is_mounted(DIGEST)
        assert (line.flaw(DIGEST), line.stranger(DIGEST, UUID)) == ("", "")
        assert line.machines() == (MACHINE,)
        doing.in_use = True
        assert not line.unmount(DIGEST)
        assert line.is_mounted(DIGEST)
    assert doing.asked[:5] == [
        ("mount", DIGEST), ("unmount", DIGEST), ("mounted", DIGEST), ("flaw", DIGEST), ("stranger", DIGEST, UUID),
    ]  # fmt: skip


def test_what_failed_there_is_told_here() -> None:
    with porter() as (doing, line):
        doing.broken = True
        with pytest.raises(PorterAway, match="no loop device, is free"):
            line.mount(DIGEST)
        with pytest.raises(PorterAway, match="No such process"):
            line.machines()
        assert line.flaw(DIGEST) == "nothing is mounted"
        assert line.stranger(DIGEST, UUID) == "QEMU is /usr/bin/??"


@pytest.mark.parametrize(
    "words",
    [
        b"", b"{}\n", b'{"text":""}', b'{"done":true}\n', b'{"text":1}\n', b'{"text":"","more":1}\n',
        b'{"error":"","text":""}\n', b'{"text": ""}\n', b"\xff\n", b"x" * (MAX_ANSWER + 100),
    ],
)  # fmt: skip
def test_without_a_good_answer_an_image_is_flawed_and_a_process_a_stranger(words: bytes) -> None:
    for ask in (lambda line: line.flaw(DIGEST), lambda line: line.stranger(DIGEST, UUID)):
        with listening(says(words)) as line:
            assert ask(line).startswith("nobody looked: ")


@pytest.mark.parametrize("words", [b"", b"{}\n", b'{"done":1}\n', b'{"done":"true"}\n', b'{"text":""}\n'])
def test_without_a_good_answer_nothing_was_mounted_or_unmounted(words: bytes) -> None:
    for ask in (PorterLine.mount, PorterLine.unmount, PorterLine.is_mounted):
        with listening(says(words)) as line, pytest.raises(PorterAway):
            ask(line, DIGEST)


@pytest.mark.parametrize(
    "words",
    [
        b'{"machines":[1]}\n', b'{"machines":[{"kvm":true}]}\n', b'{"machines":{}}\n',
        b'{"machines":[{"kvm":true,"process":0,"program":"x","started":1,"uid":0}]}\n',
    ],
)  # fmt: skip
def test_machines_in_another_form_are_refused(words: bytes) -> None:
    with listening(says(words)) as line, pytest.raises(PorterAway, match="no answer"):
        line.machines()


def test_where_nobody_listens_nothing_is_done() -> None:
    line = PorterLine(Path("/nowhere/porter.sock"))
    with pytest.raises(PorterAway, match="No such file"):
        line.mount(DIGEST)
    assert line.flaw(DIGEST).startswith("nobody looked: ")
    assert line.stranger(DIGEST, UUID).startswith("nobody looked: ")


@pytest.mark.parametrize(
    "question",
    [
        b"", b"\n", b"mount", f"mount {DIGEST}/..".encode(), b"mount ../../etc", f"mount {DIGEST.upper()}".encode(),
        f"mount {DIGEST} {UUID}".encode(), f"stranger {DIGEST}".encode(), f"flaw {DIGEST}\nmachines".encode(),
        f"remove {DIGEST}".encode(), b"machines now", b"\xff" * 20,
    ],
)  # fmt: skip
def test_what_is_no_question_is_not_done(question: bytes) -> None:
    doing = Doing()
    assert reply(doing, question) == b'{"error":"that is no question"}\n'
    assert doing.asked == []


@pytest.mark.parametrize(
    ("status", "boxed"),
    [
        ("Name:\tvmgate\nCapEff:\t000001ffffffffff\n", False),
        ("Name:\tvmgate\nCapEff:\t00000000300000eb\n", True),
        ("CapEff:\t0000000000200000\n", True),
        ("CapPrm:\t000001ffffffffff\n", True),
        ("CapEff:\tall\n", True),
        ("", True),
    ],
)
def test_who_may_not_mount_and_look_is_in_a_box(status: str, boxed: bool) -> None:
    assert is_boxed(status) is boxed
