# SPDX-License-Identifier: Apache-2.0
"""Asking the process that does what the agent's box does not allow, and what that process answers.

A question is a line: a word, and then a digest or a UUID. An answer is a line of canonical JSON: one member ``done``,
``text`` or ``machines``, or ``error``. Nobody but root can connect, and only root's answers are believed. Where no good
answer comes, an image counts as flawed, a VM's process as a stranger, and nothing as mounted or unmounted.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.errors import PorterAway
from agent.porter import Porter
from content.errors import ContentError
from documents.canonical import Json, decode, encode
from documents.errors import DocumentError
from documents.fields import Fields
from hypervisor.by_hand import Machine

T = TypeVar("T")

MAX_QUESTION = 160
MAX_ANSWER = 128 * 1024
MAX_MACHINES = 200
SECONDS = 60.0
"""For an answer; systemd may have to start that process first."""

_DIGEST = r"[0-9a-f]{64}"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_QUESTION = re.compile(
    rf"(?P<word>mount|unmount|mounted|flaw) (?P<digest>{_DIGEST})"
    rf"|stranger (?P<of>{_DIGEST}) (?P<uuid>{_UUID})|machines",
    re.ASCII,
)
_TEXT = re.compile(r"[^\n]*")
_MAX_TEXT = 1_000
_PEER = struct.Struct("3i")
"""struct ucred (unix(7))."""


class PorterLine:
    """The agent's side; the same as ``agent.porter.Porter``.

    Args:
        path: where the process listens.
        seconds: for one answer.
    """

    def __init__(self, path: Path, seconds: float = SECONDS) -> None:
        self._path = path
        self._seconds = seconds

    def mount(self, digest: str) -> None:
        """Mount an image; raises PorterAway, also where the kernel refused."""
        self._ask(f"mount {digest}", _done)

    def unmount(self, digest: str) -> bool:
        """Unmount an image; returns whether it went. Raises PorterAway, also where the kernel refused."""
        return self._ask(f"unmount {digest}", _done)

    def is_mounted(self, digest: str) -> bool:
        """Whether anything is mounted there. Raises PorterAway."""
        return self._ask(f"mounted {digest}", _done)

    def flaw(self, digest: str) -> str:
        """Why what is mounted is not the stored image; empty where it is, and only on that process's word."""
        try:
            return self._ask(f"flaw {digest}", _text)
        except PorterAway as error:
            return f"nobody looked: {error.cause}"

    def stranger(self, digest: str, uuid: str) -> str:
        """What of a running VM is not of an image; empty where all is, and only on that process's word."""
        try:
            return self._ask(f"stranger {digest} {uuid}", _text)
        except PorterAway as error:
            return f"nobody looked: {error.cause}"

    def machines(self) -> tuple[Machine, ...]:
        """QEMU processes that are no domains of this libvirt. Raises PorterAway."""
        return self._ask("machines", read_machines)

    def _ask(self, question: str, read: Callable[[Fields], T]) -> T:
        try:
            untrusted = self._answer(question)
        except OSError as error:
            raise _away(f"{self._path}: {error.strerror or error}") from error
        return read_answer(untrusted, read)

    def _answer(self, question: str) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(self._seconds)
            line.connect(str(self._path))
            peer = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            if _PEER.unpack(peer)[1] not in {0, os.geteuid()}:
                raise PermissionError(1, "another than root listens there")
            line.sendall(question.encode() + b"\n")
            with line.makefile("rb") as stream:
                return stream.readline(MAX_ANSWER + 1)


def read_answer(untrusted: bytes, read: Callable[[Fields], T]) -> T:
    """What an answer says.

    Args:
        untrusted: one line.
        read: takes the members that this answer must have, and no others.

    Raises:
        PorterAway: an error, or no answer to this question.
    """
    try:
        if not untrusted.endswith(b"\n"):
            raise _away("it answered with half a line")
        answer = Fields(decode(untrusted[:-1], MAX_ANSWER), "answer")
        if answer.has("error"):
            raise _away(_limited(answer, "error"))
        found = read(answer)
        answer.finish()
    except DocumentError as error:
        raise _away(f"it answered with what is no answer: {error.cause}") from error
    return found


def read_machines(answer: Fields) -> tuple[Machine, ...]:
    """The members of an answer about machines."""
    return answer.take_list("machines", _read_machine, MAX_MACHINES)


def reply(porter: Porter, untrusted_question: bytes) -> bytes:
    """What that process answers; to what is no question, that it is none.

    Args:
        porter: does it.
        untrusted_question: one line.
    """
    asked = _QUESTION.fullmatch(untrusted_question.removesuffix(b"\n").decode("ascii", "replace"))
    if asked is None:
        return _line({"error": "that is no question"})
    try:
        return _line(_does(porter, asked))
    except ContentError as error:
        return _line({"error": _plain(error.cause)})
    except OSError as error:  # a process went away while it was looked at
        return _line({"error": _plain(error.strerror or str(error))})


def replying(porter: Porter) -> Callable[[bytes], bytes]:
    """``reply`` of one porter."""
    return partial(reply, porter)


def _does(porter: Porter, asked: re.Match[str]) -> dict[str, Json]:
    if asked["of"] is not None:
        return {"text": _plain(porter.stranger(asked["of"], asked["uuid"]))}
    digest = asked["digest"]
    match asked["word"]:
        case "mount":
            porter.mount(digest)
            return {"done": True}
        case "unmount":
            return {"done": porter.unmount(digest)}
        case "mounted":
            return {"done": porter.is_mounted(digest)}
        case "flaw":
            return {"text": _plain(porter.flaw(digest))}
    return {"machines": [_machine(one) for one in porter.machines()[:MAX_MACHINES]]}


def _machine(machine: Machine) -> Json:
    return {
        "kvm": machine.kvm,
        "process": machine.process,
        "program": _plain(machine.program)[:256] or "unknown",
        "started": machine.started,
        "uid": machine.uid,
    }


def _read_machine(untrusted: Json) -> Machine:
    fields = Fields(untrusted, "machine")
    machine = Machine(
        process=fields.take_int("process", 1, 2**31),
        started=fields.take_int("started", 0, 2**63 - 1),
        uid=fields.take_int("uid", 0, 2**32),
        program=fields.take_text("program", _TEXT),
        kvm=fields.take_bool("kvm"),
    )
    fields.finish()
    return machine


def _done(answer: Fields) -> bool:
    return answer.take_bool("done")


def _text(answer: Fields) -> str:
    return _limited(answer, "text")


def _limited(answer: Fields, name: str) -> str:
    return answer.take_text(name, _TEXT, _MAX_TEXT, empty=True)


def _plain(text: str) -> str:
    """Names of files may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in text)[:_MAX_TEXT]


def _line(answer: dict[str, Json]) -> bytes:
    return encode(answer) + b"\n"


def _away(cause: str) -> PorterAway:
    return PorterAway(
        "nothing was done outside of the agent's box", cause=cause, remedy="see `systemctl status vmgate-porter`"
    )
