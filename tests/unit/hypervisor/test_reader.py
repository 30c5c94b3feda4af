# SPDX-License-Identifier: Apache-2.0
"""Who reads a guest can do nothing else, and whatever it does instead of answering is a refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from documents.canonical import encode
from hypervisor.errors import CoreMalformed, KernelMissing, NoRoomForMemory, ReaderFailed
from hypervisor.introspection import reader
from hypervisor.introspection.answers import read_answer
from hypervisor.introspection.reader import memory_image, read_guest
from lab import guest_memory as made

ROOT = Path(__file__).resolve().parents[3]
CONFINED = (
    "import os, sys, socket, ctypes; sys.path.insert(0, {!r}); "
    "from hypervisor.introspection.confinement import confine; confine(0); {}"
)
SIGSYS = -31


def written(data: bytes) -> Callable[[Path], None]:
    """What libvirt does: write to a file that is there, by its name."""

    def dump(path: Path) -> None:
        with path.open("wb") as file:
            file.write(data)

    return dump


def held() -> list[str]:
    """Images of memory that this process still holds."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [link for link in links if "vmgate-guest-memory" in link]


def test_a_guest_is_read_by_a_confined_process() -> None:
    core = made.guest(("init", "sh")).core()
    with memory_image(len(core), written(core)) as image:
        assert held()
        found: Any = read_guest(image, "tasks")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(image, b"a change")
    assert [task["name"] for task in found["tasks"]] == ["swapper/0", "init", "sh"]
    assert not held()


def test_an_image_goes_whatever_happens() -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half of it")
        raise KeyError

    with pytest.raises(KeyError), memory_image(1, fail):
        pass
    assert not held()
    with memory_image(7, written(b"garbage")) as image, pytest.raises(CoreMalformed, match="too short"):
        read_guest(image, "tasks")
    assert not held()


def test_an_image_that_is_being_read_cannot_be_changed() -> None:
    with memory_image(4, written(b"core")) as image:
        path = Path(f"/proc/self/fd/{image}")
        writable = os.open(path, os.O_RDWR)
        for change in (lambda: os.write(writable, b"other"), lambda: os.ftruncate(writable, 0)):
            with pytest.raises(PermissionError):
                change()
        os.close(writable)
        assert path.read_bytes() == b"core"


def test_a_host_without_room_reads_nothing() -> None:
    with pytest.raises(NoRoomForMemory), memory_image(2**60, written(b"")):
        pass


@pytest.mark.parametrize(
    "act",
    [
        "open('/etc/passwd')", "open('/dev/shm/vmgate-left', 'w')", "socket.socket()", "os.fork()",
        "os.execv('/bin/true', ['true'])", "os.kill(os.getppid(), 0)", "ctypes.CDLL(None).ptrace(0, 0, 0, 0)",
        "ctypes.CDLL(None).unshare(0x10000000)", "os.setuid(0)", "os.link('/etc/passwd', '/tmp/x')", "os.listdir('/')",
    ],
)  # fmt: skip
def test_a_confined_process_that_does_anything_else_is_ended(act: str) -> None:
    # Loaded before, as the reader has all loaded that it needs.
    code = CONFINED.format(str(ROOT), act).replace("confine(0);", "libc = ctypes.CDLL(None); confine(0);")
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=False)
    assert done.returncode == SIGSYS, done.stderr
    assert done.stdout == b""


def test_a_confined_process_is_nobody_and_has_bounds() -> None:
    code = (
        "status = open('/proc/self/status'); limits = open('/proc/self/limits'); confine(0); "
        "os.write(1, os.read(status.fileno(), 9999) + os.read(limits.fileno(), 9999))"
    )
    code = CONFINED.format(str(ROOT), "0").replace("confine(0); 0", code)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    said = dict(line.split(":", 1) for line in done.stdout.decode().splitlines() if ":" in line)
    assert {name: said[name].split() for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapPrm")} == {
        "NoNewPrivs": ["1"], "Seccomp": ["2"], "CapEff": ["0" * 16], "CapPrm": ["0" * 16],
    }  # fmt: skip
    if os.getuid() == 0:
        assert said["Uid"].split() == said["Gid"].split() == ["65534"] * 4
        assert said["Groups"].split() == []


def program(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Another program in the reader's place: one that a guest took over."""
    monkeypatch.setattr(reader, "_START", code)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise SystemExit(0)", "without an answer"),
        ("import os; os.kill(os.getpid(), 9)", "status -9 and without an answer"),
        ("import time; time.sleep(1000)", "did not answer within 0.5 seconds"),
        ("print('hello')", "not JSON|Expecting|canonical"),
        ("print('{}', end='')", "'view' is missing"),
        ("import sys; sys.stdout.write('x' * 20_000_000)", "did not answer within"),
        ("import os; os.write(1, b'{'); os.kill(os.getpid(), 9)", "Expecting"),
    ],
    ids=["nothing", "killed", "hangs", "words", "empty", "flood", "half"],
)
def test_a_reader_that_misbehaves_is_refused(monkeypatch: pytest.MonkeyPatch, code: str, cause: str) -> None:
    program(monkeypatch, code)
    seconds = 0.5 if "sleep" in code else 60
    with Path("/dev/null").open("rb") as nothing, pytest.raises(ReaderFailed, match=cause):
        read_guest(nothing.fileno(), "tasks", seconds=seconds)


def test_a_reader_that_cannot_be_started_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    with Path("/dev/null").open("rb") as nothing, pytest.raises(ReaderFailed, match="No such file"):
        read_guest(nothing.fileno(), "tasks")


@pytest.mark.parametrize(
    "members",
    [
        {}, {"ended": "fine"}, {"view": "modules"}, {"btf": "x"}, {"more": 1}, {"tasks": [{"pid": 1}]},
        {"tasks": [{"pid": -1, "uid": 0, "kernel": True, "listed": True, "name": "a"}]},
        {"tasks": [{"pid": 1, "uid": 0, "kernel": True, "listed": True, "name": "\x1b[2J"}]},
        {"tasks": [{"pid": 1, "uid": 0, "kernel": True, "listed": True, "name": "a" * 17}]},
        {"tasks": [{"pid": 1, "uid": 0, "kernel": True, "listed": True, "name": "a"}] * 70_000},
        {"error": "HY001", "cause": "?"}, {"error": "HY043"},
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_refused(members: dict[str, Any]) -> None:
    good = {"view": "tasks", "btf": "ab" * 32, "tasks": [], "ended": "whole", "compared": True}
    assert read_answer(encode(good), "tasks") == good
    with pytest.raises(ReaderFailed):
        read_answer(encode({**good, **members} if members else {}), "tasks")


def test_the_readers_errors_keep_their_kind() -> None:
    with pytest.raises(KernelMissing, match="it is not there"):
        read_answer(encode({"error": "HY043", "cause": "it is not there"}), "tasks")
