# SPDX-License-Identifier: Apache-2.0
"""Fresh authentication: only pkcheck's yes is one. A script stands in for pkcheck; polkit itself is not shown here."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from agent.errors import NotFresh
from agent.fresh import Polkit
from agent.peers import Account, Peer, account_of, is_known, peer_of
from documents.errors import Exit

PEER = Peer(pid=4711, uid=1000, started=123456)


def stand_in(folder: Path, body: str) -> Path:
    path = folder / "pkcheck"
    path.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\n{body}\n')
    path.chmod(0o755)
    return path


def test_polkit_is_asked_about_this_process_and_no_other(tmp_path: Path) -> None:
    Polkit(stand_in(tmp_path, "exit 0")).prove(PEER, "roles")
    asked = (tmp_path / "asked").read_text().split()
    assert asked == [
        "--action-id", "org.vmgate.roles", "--process", "4711,123456,1000", "--allow-user-interaction",
    ]  # fmt: skip


@pytest.mark.parametrize("body", ["exit 1", "exit 2", "exit 3", "exit 127", "kill -9 $$"])
def test_anything_else_is_a_no(tmp_path: Path, body: str) -> None:
    with pytest.raises(NotFresh, match="polkit did not say yes to org") as caught:
        Polkit(stand_in(tmp_path, body)).prove(PEER, "approve")
    assert caught.value.exit == Exit.NOT_PERMITTED


def test_no_answer_is_a_no(tmp_path: Path) -> None:
    with pytest.raises(NotFresh, match="in time"):
        Polkit(stand_in(tmp_path, "exec sleep 60"), 0.2).prove(PEER, "roles")


def test_no_polkit_is_a_no(tmp_path: Path) -> None:
    with pytest.raises(NotFresh, match="polkit was not asked"):
        Polkit(tmp_path / "pkcheck").prove(PEER, "roles")


def test_a_caller_that_ended_is_not_asked_about(tmp_path: Path) -> None:
    with pytest.raises(NotFresh, match="has ended"):
        Polkit(stand_in(tmp_path, "exit 0")).prove(Peer(pid=4711, uid=1000), "roles")
    assert not (tmp_path / "asked").exists()


def connected(script: str, folder: Path) -> tuple[Peer, subprocess.Popen[bytes]]:
    """What the kernel says of another user's process that connected."""
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        folder.chmod(0o755)
        listener.listen()
        code = f"import os,socket,sys,time; os.setgid(1); os.setuid(1); s=socket.socket(socket.AF_UNIX); {script}"
        process = subprocess.Popen(
            ["python3", "-I", "-S", "-c", code], stdin=subprocess.PIPE, cwd=folder  # closing its input ends it
        )  # fmt: skip
        connection, _ = listener.accept()
        with connection:
            if "_exit" in script:
                process.wait(60)
            return peer_of(connection), process


def test_the_kernel_tells_who_connected_and_since_when_it_runs(tmp_path: Path) -> None:
    peer, process = connected("s.connect('socket'); sys.stdin.read()", tmp_path)
    started = int(Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    process.communicate()
    assert started
    assert peer == Peer(pid=process.pid, uid=1, started=started)


def test_a_process_that_ended_has_no_start(tmp_path: Path) -> None:
    peer, process = connected("s.connect('socket'); os._exit(0)", tmp_path)
    assert peer == Peer(pid=process.pid, uid=1, started=0)


def test_accounts_are_the_hosts() -> None:
    account = account_of(os.getuid())
    assert is_known("user", account.name)
    assert all(is_known("group", name) for name in account.groups)
    assert account.groups
    assert not is_known("user", "nobody-of-that-name")
    assert not is_known("group", "nobody-of-that-name")
    assert account_of(2**31 - 7) == Account()
    assert account_of(65534) == Account(), "it stands for whomever the kernel cannot name"
