# SPDX-License-Identifier: Apache-2.0
"""The socket that systemd hands over, taken by a process as systemd would start it; anything else is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vmgate

SITE = Path(vmgate.__file__).parents[1]
TAKES = """
import os, socket, sys
sys.path.insert(0, {site!r})
made = {made}
os.dup2(made.fileno(), 3)
os.environ.update(LISTEN_PID={pid}, LISTEN_FDS={count!r}, LISTEN_FDNAMES="x")
from documents.errors import VmgateError
from vmgate.service_manager import given_socket
try:
    given = given_socket()
except VmgateError as error:
    print(error.line())
else:
    print("none" if given is None else (given.getsockname(), os.get_inheritable(given.fileno())))
print("LISTEN_FDS" in os.environ)
"""


def taken(made: str, pid: str = "str(os.getpid())", count: str = "1") -> list[str]:
    """What a process that was given a socket says of it, and whether a child of its would think it its own."""
    script = TAKES.format(site=str(SITE), made=made, pid=pid, count=count)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def listens(folder: Path) -> str:
    path = str(folder / "s")
    return f"socket.socket(socket.AF_UNIX); made.bind({path!r}); made.listen()"


def test_the_socket_is_taken_and_no_child_gets_it(tmp_path: Path) -> None:
    assert taken(listens(tmp_path)) == [str((str(tmp_path / "s"), False)), "False"]


@pytest.mark.parametrize(("pid", "count"), [("'1'", "1"), ("''", "1"), ("str(os.getpid())", "0")])
def test_another_process_socket_is_left_alone(pid: str, count: str, tmp_path: Path) -> None:
    assert taken(listens(tmp_path), pid, count) == ["none", "False"]


@pytest.mark.parametrize(
    ("made", "count", "cause"),
    [
        ("socket.socket(socket.AF_UNIX)", "1", "not a Unix stream socket that listens"),
        ("socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)", "1", "not a Unix stream socket that listens"),
        ("socket.create_server(('127.0.0.1', 0))", "1", "not a Unix stream socket that listens"),
        ("open('/dev/null')", "1", "Socket operation on non-socket"),
        ("socket.socket(socket.AF_UNIX)", "2", "2 sockets were given"),
        ("socket.socket(socket.AF_UNIX)", "x", "x sockets were given"),
    ],
)
def test_anything_else_is_refused(made: str, count: str, cause: str) -> None:
    (line, _) = taken(made, count=count)
    assert line.startswith("error[VG020]: the agent does not listen; ")
    assert cause in line
