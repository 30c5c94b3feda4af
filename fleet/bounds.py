# SPDX-License-Identifier: Apache-2.0
"""How much a request may be: bytes of head and body, and seconds for each. What is more is not read.

A middle layer of ASGI and a protocol of uvicorn's with a little more patience than none. Neither knows what a request
is about. Source: ASGI 3.0 (HTTP connection scope).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fleet.errors import RequestTooLarge

HEAD_LIMIT: Final = 16_384
"""Bytes of request line and headers."""

HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 60.0
SMALL: Final = 4_096
"""Bytes of a body where nothing else is said."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Bounds:
    """Counts what comes in, and looks at the clock.

    Args:
        app: what is behind.
        limits: most bytes of a body, by the last part of the path.
        seconds: for a whole body.
    """

    def __init__(self, app: App, limits: Mapping[str, int], seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._limits = limits
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            # A lifespan is let through; there is nothing else, and a server that offers more is told so.
            await self._app(scope, receive, send)
            return
        most = self._limits.get(str(scope["path"]).rpartition("/")[2], SMALL)
        # The server has seen that it is a number.
        said = max((int(value) for name, value in scope["headers"] if name == b"content-length"), default=0)
        until = asyncio.get_running_loop().time() + self._seconds
        taken, whole = 0, False

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal taken, whole
            if whole:  # what comes now is that the client went away
                return await receive()
            if said > most:
                raise _refused(f"its body has more than {most} bytes")
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError as error:
                raise _refused(f"its body was not there within {self._seconds:g} seconds") from error
            taken, whole = taken + len(message.get("body", b"")), not message.get("more_body", False)
            if taken > most:
                raise _refused(f"its body has more than {most} bytes")
            return message

        await self._app(scope, bounded, send)


class PatientProtocol(HttpToolsProtocol):
    """Uvicorn's, with bounds for the head of a request: half of one keeps no connection for ever."""

    _until: asyncio.TimerHandle | None = None
    _head = 0
    _piece = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes while a head is not whole."""
        self._piece = len(data)
        self._head += self._piece
        super().data_received(data)
        if self._until is not None and self._head > HEAD_LIMIT:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin to wait for the head of this request."""
        # It begins in this piece, nobody says where: who sends a second request in one piece with a first has less.
        self._head = self._piece
        if self._until is None:
            self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._wait_no_longer()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._until = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _wait_no_longer(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None


def _refused(cause: str) -> RequestTooLarge:
    return RequestTooLarge("the request was not read", cause=cause, remedy="see `vmgate explain FL040`")
