# SPDX-License-Identifier: Apache-2.0
"""Requests that are too large or too slow: counted and timed in this process, without a network but loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn import Config, Server

from fleet import bounds
from fleet.bounds import HEAD_LIMIT, SMALL, Bounds, PatientProtocol
from fleet.errors import RequestTooLarge


async def read_all(_scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """An application that reads its body and says how long it was."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"size": size})


def asked(
    *pieces: bytes, length: int | None = None, path: str = "/v1/things", seconds: float = 5, wait: float = 0
) -> int:
    """What the application counted."""
    left, said = list(pieces), list[Any]()

    async def receive() -> Any:
        await asyncio.sleep(wait)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        said.append(message["size"])

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(Bounds(read_all, {"large": 10 * SMALL}, seconds)(scope, receive, send))
    return int(said[0])


def test_as_much_as_is_allowed_goes_through() -> None:
    assert asked(b"x" * SMALL) == SMALL
    assert asked(b"x" * SMALL, b"y" * SMALL, path="/v1/large") == 2 * SMALL
    assert asked(b"") == 0


@pytest.mark.parametrize(
    ("pieces", "length"),
    [((b"x" * (SMALL + 1),), None), ((b"x" * SMALL, b"y"), None), ((b"",), SMALL + 1), ((b"",), 10**30)],
)
def test_more_is_refused_as_soon_as_it_is_known(pieces: tuple[bytes, ...], length: int | None) -> None:
    with pytest.raises(RequestTooLarge) as caught:
        asked(*pieces, length=length)
    assert f"{SMALL} bytes" in caught.value.cause


def test_a_body_that_drips_is_refused() -> None:
    with pytest.raises(RequestTooLarge) as caught:
        asked(*[b"x"] * 100, seconds=0.1, wait=0.02)
    assert "seconds" in caught.value.cause


async def hello(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def spoken(*pieces: bytes, pause: float = 0) -> bytes:
    """What a server answers until it closes the connection, or has nothing more to say."""

    async def speak() -> bytes:
        server = Server(Config(hello, http=PatientProtocol, port=0, lifespan="off", log_level="critical"))
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has nothing to wait for
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            async with asyncio.timeout(20):
                answer = await reader.read()
        except ConnectionError:
            pass
        writer.close()
        server.should_exit = True
        await task
        return answer

    return asyncio.run(speak())


def test_half_a_head_keeps_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 0.2)
    assert spoken() == b""
    assert spoken(b"GET / HTTP/1.1\r\nHost: x\r\n") == b""
    # Nor does the second one of a connection that was good before.
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert spoken(whole, b"GET / HTTP/1.1\r\n").count(b"200 OK") == 1
    assert spoken(b"GET / HTTP/1.1\r\n", *[b"A: b\r\n"] * 40, pause=0.02) == b""


def test_a_head_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # By its length, long before the clock would.
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 600)
    assert spoken(b"GET / HTTP/1.1\r\n", b"A: " + b"x" * (HEAD_LIMIT + 1)) == b""
    assert spoken(b"GET / HTTP/1.1\r\nA: " + b"x" * (HEAD_LIMIT + 1)) == b""
    assert b"200 OK" in spoken(b"GET / HTTP/1.1\r\nConnection: close\r\nA: " + b"x" * 8_000 + b"\r\n\r\n")
