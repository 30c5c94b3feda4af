# SPDX-License-Identifier: Apache-2.0
"""The loop of the processes that do for the agent what it may not: one line in, one line out.

systemd starts such a process when the agent asks, and hands it the socket; nobody but root can connect. It ends when
nobody asked for a while. What is asked, and how, is in ``content.device_mapper`` and ``agent.porter_line``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

SECONDS = 10.0
"""For a line of who connected, and for taking the answer."""

IDLE_SECONDS = 300.0


def answer(listening: socket.socket, reply: Callable[[bytes], bytes], longest: int, idle: float = IDLE_SECONDS) -> None:
    """Answer one after the other, until nobody asks for ``idle`` seconds.

    Args:
        listening: the socket.
        reply: gives the answer to an untrusted line.
        longest: bytes of a line that are read.
        idle: seconds.
    """
    listening.settimeout(idle)
    while True:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            return
        with connection:
            connection.settimeout(SECONDS)
            _answer(connection, reply, longest)


def _answer(connection: socket.socket, reply: Callable[[bytes], bytes], longest: int) -> None:
    try:
        with connection.makefile("rb") as stream:
            connection.sendall(reply(stream.readline(longest)))
    except OSError:  # whoever asked went away, or says nothing: the next one is answered
        return
