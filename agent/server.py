# SPDX-License-Identifier: Apache-2.0
"""The agent's Unix socket: one request, one response, for root only.

The kernel vouches for the caller's user id (SO_PEERCRED). Each request is bounded before it is parsed; each error
becomes one line. This module does not know what the verbs do.
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import stat
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from agent.errors import AgentSaid, BadRequest, InternalFailure, NotPermitted, NotReady
from content import durable
from documents.canonical import Json
from documents.errors import Exit, VmgateError
from documents.local_api import Request, Response

Handler: TypeAlias = Callable[["Call"], dict[str, Json]]

log = logging.getLogger(__name__)

READ_SECONDS = 30


class Call:
    """One request on its way through a handler: its arguments are taken by name, and who asked is known.

    Args:
        request: parsed.
        uid: the caller's user id, which the kernel vouches for.

    Attributes:
        actor: what the caller says it is, and its user id.
    """

    def __init__(self, request: Request, uid: int) -> None:
        self.actor = f"{request.actor} (uid {uid})"
        self._uid = uid
        self._arguments = dict(request.arguments)

    def take(self, name: str, default: str | None = None) -> str:
        """One argument; its text is not checked yet."""
        untrusted = self._arguments.pop(name, default)
        if untrusted is None:
            raise _bad(f"the argument {name!r} is missing")
        return untrusted

    def require_root(self) -> None:
        """Refuse whoever is not root, also the user as whom the agent runs.

        Raises:
            NotPermitted: it is not.
        """
        if self._uid != 0:
            raise _not_root(self._uid)

    def finish(self) -> None:
        """Refuse arguments that nobody took."""
        if self._arguments:
            raise _bad("it has an unknown argument")


def _not_root(uid: int) -> NotPermitted:
    return NotPermitted("the request was refused", cause=f"user {uid} is not root", remedy="use sudo")


def _bad(cause: str) -> BadRequest:
    return BadRequest("the request was refused", cause=cause, remedy="use the vmgate command of the agent's version")


class Server:
    """Serves until ``close``.

    Args:
        path: the socket; a stale one is replaced, a living one is not.
        handlers: by verb.
        owner: the only user id that is served, besides 0.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler], owner: int) -> None:
        durable.make_directory(path.parent, 0o755)
        _remove_stale(path)
        mask = os.umask(0o177)
        try:
            self._server = _SocketServer(str(path), handlers, owner)
        except OSError as error:
            raise NotReady(
                "the agent does not listen",
                cause=f"{path}: {error.strerror or error}",
                remedy="choose a shorter --root",
            ) from error
        finally:
            os.umask(mask)

    def serve(self) -> None:
        """Answer requests, each in a thread, until ``close`` is called from another thread."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop answering. Requests that are being answered go on."""
        threading.Thread(target=self._server.shutdown, daemon=True).start()


class _SocketServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, handlers: Mapping[str, Handler], owner: int) -> None:
        self.handlers = handlers
        self.owner = owner
        super().__init__(path, _Connection)


class _Connection(socketserver.StreamRequestHandler):
    server: _SocketServer
    timeout = READ_SECONDS

    def handle(self) -> None:
        """Answer one request; whatever goes wrong is an answer too, also a result that cannot be sent."""
        try:
            line = Response(exit=Exit.DONE, error="", result=self._result()).encode()
        except AgentSaid as error:
            line = Response(exit=error.status, error=error.line()[:4_000], result={}).encode()
        except VmgateError as error:
            line = Response(exit=error.exit, error=error.line()[:4_000], result={}).encode()
        except Exception:  # the entry point of every request: a bug must be a refusal, not a dead thread
            log.exception("a request failed")
            failure = InternalFailure(
                "the request failed", cause="the agent met a bug", remedy="report it with the agent's log"
            )
            line = Response(exit=failure.exit, error=failure.line(), result={}).encode()
        try:
            self.wfile.write(line + b"\n")
        except OSError:
            log.warning("the caller went away before its answer")

    def _result(self) -> dict[str, Json]:
        uid = _peer(self.request)
        if uid not in {0, self.server.owner}:
            raise _not_root(uid)
        try:
            untrusted_line = self.rfile.readline(Request.LIMIT + 2)
        except OSError as error:
            raise _bad("it did not arrive in time") from error
        if not untrusted_line.endswith(b"\n"):
            raise _bad("it is too long or not complete")
        request = Request.parse(untrusted_line[:-1])
        handler = self.server.handlers.get(request.verb)
        if handler is None:
            raise _bad(f"the verb {request.verb!r} is unknown")
        return handler(Call(request, uid))


def _peer(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _remove_stale(path: Path) -> None:
    """Remove the socket of an agent that is gone. The caller holds the host's lock, so no living agent owns it."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise NotReady("the agent does not listen", cause=f"{path} is not a socket", remedy="remove it")
    durable.remove(path)
