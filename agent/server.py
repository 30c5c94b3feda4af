# SPDX-License-Identifier: Apache-2.0
"""The agent's Unix socket: one request, one response.

The kernel vouches for who calls; whether they may is asked of ``Access`` for each request before its handler. Each
request is bounded before it is parsed; each error becomes one line. This module does not know what the verbs do.
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeAlias

from agent.errors import AgentSaid, BadRequest, InternalFailure, NotPermitted, NotReady
from agent.peers import Peer, peer_of
from agent.roles import Permit
from content import durable
from documents.canonical import Json
from documents.errors import Exit, VmgateError
from documents.local_api import Request, Response

Handler: TypeAlias = Callable[["Call"], dict[str, Json]]

log = logging.getLogger(__name__)

READ_SECONDS = 30

MAX_OF_ONE, MAX_OF_OTHERS = 16, 64
"""Requests at once of one user who is not root, and of all those together: they must not wear the agent out."""


class Access(Protocol):
    """Who decides about requests (``agent.access``)."""

    def permit(self, peer: Peer, request: Request) -> Permit:
        """Let a request through, or raise an error of exit code 4."""

    def others(self) -> bool:
        """Whether anybody but root may have something to ask."""


class Call:
    """One request on its way through a handler: its arguments are taken by name, and who asked is known.

    Args:
        request: parsed.
        permit: whose it is, and how far it goes.

    Attributes:
        actor: what the caller says it is, and its user id.
        permit: as above.
    """

    def __init__(self, request: Request, permit: Permit) -> None:
        self.actor = f"{request.actor} (uid {permit.uid})"
        self.permit = permit
        self._arguments = dict(request.arguments)

    def take(self, name: str, default: str | None = None) -> str:
        """One argument; its text is not checked yet."""
        untrusted = self._arguments.pop(name, default)
        if untrusted is None:
            raise _bad(f"the argument {name!r} is missing")
        return untrusted

    def require_fresh(self) -> None:
        """Refuse whoever is not root and has not just proved who it is.

        Raises:
            NotPermitted: so it is.
        """
        if not self.permit.fresh:
            raise NotPermitted(
                "the request was refused", cause=f"user {self.permit.uid} is not root", remedy="use sudo"
            )

    def finish(self) -> None:
        """Refuse arguments that nobody took."""
        if self._arguments:
            raise _bad("it has an unknown argument")


def _bad(cause: str) -> BadRequest:
    return BadRequest("the request was refused", cause=cause, remedy="use the vmgate command of the agent's version")


class Server:
    """Serves until ``close``.

    Args:
        path: the socket; a stale one is replaced, a living one is not.
        handlers: by verb.
        access: decides about each request; no one else's word counts, nor the socket's mode.
        given: the socket, where somebody listens on it for the agent. It is left in place then: who calls while the
            agent restarts waits there.
    """

    def __init__(
        self, path: Path, handlers: Mapping[str, Handler], access: Access, given: socket.socket | None = None
    ) -> None:
        self._path, self._access, self._given = path, access, given is not None
        if given is not None:
            self._server = _SocketServer(str(path), handlers, access, given)
            return
        durable.make_directory(path.parent, 0o755)
        _remove_stale(path)
        mask = os.umask(0o177)
        try:
            self._server = _SocketServer(str(path), handlers, access)
        except OSError as error:
            raise NotReady(
                "the agent does not listen",
                cause=f"{path}: {error.strerror or error}",
                remedy="choose a shorter --root",
            ) from error
        finally:
            os.umask(mask)

    def look(self) -> None:
        """Let other users connect while any of them may have a role. It saves trouble; the check is another's."""
        with suppress(FileNotFoundError):  # removed by somebody: nobody connects any more, and that is not mended here
            self._path.chmod(0o666 if self._access.others() else 0o600)

    def serve(self) -> None:
        """Answer requests, each in a thread, until ``close`` is called from another thread."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Take no more requests. Those that are being answered go on."""
        threading.Thread(target=self._server.shutdown, daemon=True).start()

    def drain(self, seconds: float) -> bool:
        """Wait until all that was taken is answered; returns whether it is."""
        return self._server.wait_until_idle(seconds)

    def remove(self) -> None:
        """Remove the socket, unless somebody listens on it for the next agent."""
        if not self._given:
            durable.remove(self._path)


class _SocketServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, path: str, handlers: Mapping[str, Handler], access: Access, given: socket.socket | None = None
    ) -> None:
        self.handlers = handlers
        self.access = access
        self._seats: Counter[int] = Counter()
        self._lock = threading.Condition()
        self._taken = 0
        super().__init__(path, _Connection, bind_and_activate=given is None)
        if given is not None:
            self.socket.close()
            self.socket = given

    @contextmanager
    def seat(self, uid: int) -> Iterator[None]:
        """A place for one request.

        Raises:
            NotReady: there is none for that user.
        """
        with self._lock:
            if uid != 0 and (self._seats[uid] >= MAX_OF_ONE or self._seats.total() - self._seats[0] >= MAX_OF_OTHERS):
                raise NotReady("the request was refused", cause="too many at once", remedy="wait, then try again")
            self._seats[uid] += 1
        try:
            yield
        finally:
            with self._lock:
                self._seats[uid] -= 1
                if not self._seats[uid]:
                    del self._seats[uid]

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Count what was taken, before a thread of its own answers it."""
        with self._lock:
            self._taken += 1
        super().process_request(request, client_address)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Answer it; runs in a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._taken -= 1
                self._lock.notify_all()

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no request is being answered; returns whether it is so."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._taken, seconds)


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
        peer = peer_of(self.request)
        with self.server.seat(peer.uid):
            return self._answer(peer)

    def _answer(self, peer: Peer) -> dict[str, Json]:
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
        return handler(Call(request, self.server.access.permit(peer, request)))


def _remove_stale(path: Path) -> None:
    """Remove the socket of an agent that is gone. The caller holds the host's lock, so no living agent owns it."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise NotReady("the agent does not listen", cause=f"{path} is not a socket", remedy="remove it")
    durable.remove(path)
