# SPDX-License-Identifier: Apache-2.0
"""The caller's side of the agent's Unix socket. Light on purpose: every command that changes a host starts here.

This module does not decide anything and does not retry: a call may have had its effect.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from agent.errors import AgentAway, AgentSaid, NotPermitted
from documents.canonical import Json
from documents.errors import Exit
from documents.local_api import Request, Response

SECONDS = 24 * 3600
"""A hang guard for the longest call, an update over a slow line; an agent that ends is noticed at once."""


def call(path: Path, verb: str, actor: str, **arguments: str) -> dict[str, Json]:
    """Ask the agent and return its result.

    Args:
        path: the agent's socket.
        verb: such as ``vm/start``.
        actor: who asks.
        arguments: texts by name.

    Raises:
        AgentAway: nobody answers there.
        NotPermitted: its socket is closed to this user.
        AgentSaid: the agent answered with an error; ``status`` is the exit code.
    """
    request = Request(verb=verb, actor=actor, arguments=tuple(sorted(arguments.items())))
    return _asked(path, request, SECONDS)


def require_answer(path: Path, seconds: float) -> None:
    """Ask the agent something that costs it nothing, to see whether it answers at all.

    Args:
        path: the agent's socket.
        seconds: between two signs of life.

    Raises:
        AgentError: it does not, or not with a yes.
    """
    _asked(path, Request(verb="update/progress", actor="watchdog", arguments=()), seconds)


def _asked(path: Path, request: Request, seconds: float) -> dict[str, Json]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            with suppress(BrokenPipeError):  # sent away unheard: the answer says why
                connection.sendall(request.encode() + b"\n")
            with connection.makefile("rb") as stream:
                untrusted_line = stream.readline(Response.LIMIT + 1)
    except PermissionError as error:
        raise NotPermitted(
            "the agent was not asked", cause=f"nobody but root has a role on this host: {path}", remedy="use sudo"
        ) from error
    except OSError as error:
        raise AgentAway(
            "the vmgate agent did not answer",
            cause=f"{path}: {error.strerror or error}",
            remedy="start it with `vmgate agent run`, then look at `vmgate status`",
        ) from error
    if not untrusted_line.endswith(b"\n"):
        raise AgentAway("the vmgate agent did not answer", cause="it closed the connection", remedy="look at its log")
    response = Response.parse(untrusted_line[:-1])
    if response.exit != Exit.DONE:
        raise AgentSaid(response.error, Exit(response.exit))
    return response.result
