# SPDX-License-Identifier: Apache-2.0
"""Commands for a rig's host over its virtual serial port: a root shell at the other end, no network, no login.

This is a test seam: the unit that listens is part of the rig's image and of no product. One command at a time.
"""

from __future__ import annotations

import base64
import secrets
import shlex
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CHUNK = 128 * 1024
"""Bytes that are written into a file at a time."""


class ChannelDead(Exception):
    """The host gave no answer."""


class Done(NamedTuple):
    """What a command did: exit code, and standard output and error as they came."""

    code: int
    output: str


class Channel:
    """The machine's end of the port.

    Args:
        path: of the Unix socket.
        check: raises if the machine is beyond help; called while waiting.
    """

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self._check = check
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.settimeout(0.2)
        self._received = b""

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close()

    def run(self, command: str, seconds: float) -> tuple[int, bytes]:
        """Run a shell command as root; returns exit code and output.

        Raises:
            ChannelDead: it did not end in time; nothing else can be run then.
        """
        nonce = secrets.token_hex(8)
        # No prompt and no echo on this port, and no program is started but what the command itself starts.
        self._send(f"(eval {shlex.quote(command)}) </dev/null 2>&1; code=$?; echo; echo {nonce} $code\n", seconds)
        deadline = time.monotonic() + seconds
        end = self._receive_until(f"\n{nonce} ".encode(), deadline)
        line = self._receive_until(b"\n", deadline, end)
        output, code = self._received[: end - len(nonce) - 2], int(self._received[end:line])
        self._received = self._received[line:]
        return code, output

    def write(self, path: str, data: bytes, seconds: float) -> None:
        """Make a file on the host.

        Raises:
            ChannelDead: no answer came, or the file could not be written.
        """
        target = shlex.quote(path)
        chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)] or [b""]
        for number, chunk in enumerate(chunks):
            arrow = ">>" if number else ">"
            text = base64.encodebytes(chunk).decode()
            code, said = self.run(f"base64 -d {arrow}{target} <<'@'\n{text}@\n", seconds)
            if code:
                raise ChannelDead(f"{path} was not written: {said.decode(errors='replace')}")

    def _send(self, text: str, seconds: float) -> None:
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(text.encode())
        except OSError as error:
            self._check()
            raise ChannelDead(f"the machine took no command: {error}") from error
        finally:
            self._socket.settimeout(0.2)

    def _receive_until(self, mark: bytes, deadline: float, start: int = 0) -> int:
        """Wait for a mark; returns where it ends in what was received."""
        while (found := self._received.find(mark, start)) < 0:
            self._receive(deadline)
        return found + len(mark)

    def _receive(self, deadline: float) -> None:
        try:
            part = self._socket.recv(1 << 20)
        except TimeoutError:
            self._check()
            if time.monotonic() > deadline:
                raise ChannelDead("the host did not answer in time") from None
            return
        if not part:
            self._check()
            raise ChannelDead("the machine closed the channel")
        self._received += part
