# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy on loopback: passes requests on, tunnels, or answers by itself for everybody."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Proxy(ThreadingHTTPServer):
    """Does as told.

    Attributes:
        requests: (method, target) of each request.
        headers: of each request.
        answer: answers instead of the server that was meant.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is not worth a word."""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    timeout = 20

    def log_message(self, *arguments: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        if self._noted():
            return
        target = urlsplit(self.path)
        connection = HTTPConnection(target.netloc, timeout=20)
        connection.request("GET", target.path, headers={k: v for k, v in self.headers.items() if k != "Connection"})
        response = connection.getresponse()
        self.send_response(response.status)
        for name, value in response.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.read())
        connection.close()

    def do_CONNECT(self) -> None:
        if self._noted():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
            back.start()
            _pump(self.connection, there)
            back.join()
        self.close_connection = True

    def _noted(self) -> bool:
        self.server.requests.append((self.command, self.path))
        self.server.headers.append(dict(self.headers.items()))
        if self.server.answer is None:
            return False
        self.server.answer(self)
        self.close_connection = True
        return True


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def proxying() -> Iterator[Proxy]:
    """A running proxy."""
    proxy = Proxy()
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
