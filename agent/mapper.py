# SPDX-License-Identifier: Apache-2.0
"""The one question that the agent may not ask the kernel itself, answered by a process that can nothing else.

systemd starts it when the agent asks, and hands it the socket; nobody but root can connect. It ends when nobody asked
for a while. What is asked, and how, is in ``content.device_mapper``.
"""

from __future__ import annotations

import socket

from content.device_mapper import MAX_QUESTION, SECONDS, reply

IDLE_SECONDS = 300.0


def answer(listening: socket.socket, idle: float = IDLE_SECONDS) -> None:
    """Answer one after the other, until nobody asks for ``idle`` seconds."""
    listening.settimeout(idle)
    while True:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            return
        with connection:
            connection.settimeout(SECONDS)
            _answer(connection)


def _answer(connection: socket.socket) -> None:
    try:
        with connection.makefile("rb") as stream:
            connection.sendall(reply(stream.readline(MAX_QUESTION)))
    except OSError:  # whoever asked went away, or says nothing: the next one is answered
        return
