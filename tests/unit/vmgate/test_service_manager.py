# SPDX-License-Identifier: Apache-2.0
"""Telling systemd how far the agent is."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agent.errors import NotReady
from vmgate.wiring import tell_service_manager


@pytest.mark.parametrize("abstract", [False, True])
def test_the_one_who_listens_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"vmgate-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        tell_service_manager("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_nobody_listening_is_fine_and_one_that_is_gone_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell_service_manager("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(NotReady, match="not told"):
        tell_service_manager("READY=1")
