# SPDX-License-Identifier: Apache-2.0
"""Serve a repository as static files over HTTP, by default to this machine only. Any web server does the same.

Only names of repository files are answered, compared as they stand: nothing is decoded, listed or followed. It speaks
no TLS, since nothing that it serves is secret or trusted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from updater.repository.errors import CannotServe

SERVED = re.compile(
    r"(metadata/(?!\.)[A-Za-z0-9._-]{1,120}\.json"
    r"|targets/releases/[a-z0-9][a-z0-9._-]{0,62}/[0-9a-f]{64}\.[a-z0-9]{1,10}\.json"
    r"|blobs/[0-9a-f]{2}/[0-9a-f]{64}"
    r"|packs/[0-9a-f]{2}/[0-9a-f]{64}/(head|spans|frames|from-[0-9a-f]{64}))"
)
RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{1,15})?")
CHUNK = 256 * 1024
IDLE = 30.0
"""Seconds after which a silent client is dropped."""

Report = Callable[[str, str, int], None]
"""Called with method, path and status of each request; the path is untrusted."""


class RepositoryServer(ThreadingHTTPServer):
    """A server of one repository. ``serve_forever`` runs it; ``url`` is known from the start.

    Args:
        repository: its folder.
        host: the address to listen on.
        port: 0 for any free one.
        report: told about each request, from the threads of the server.

    Raises:
        CannotServe: there is no repository, or the address is taken or not allowed.
    """

    daemon_threads = True

    def __init__(self, repository: Path, host: str = "127.0.0.1", port: int = 0, report: Report | None = None) -> None:
        self.repository = repository.resolve()
        self.report = report
        if not (self.repository / "metadata").is_dir():
            raise CannotServe(
                "the repository is not served", cause=f"{repository} holds none", remedy="name the repository's folder"
            )
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise CannotServe(
                "the repository is not served", cause=f"{host}:{port}: {error.strerror}", remedy="choose another port"
            ) from error

    @property
    def url(self) -> str:
        """Where it answers, with a slash at the end."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"


class _Handler(BaseHTTPRequestHandler):
    server: RepositoryServer
    protocol_version = "HTTP/1.1"
    server_version = "vmgate"
    sys_version = ""
    timeout: ClassVar[float] = IDLE
    # The body is sent after the headers, and must not wait until the client has acknowledged them (40 ms).
    disable_nagle_algorithm: ClassVar[bool] = True

    def do_GET(self) -> None:
        """Answer with a file."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without the file's bytes."""
        self._answer(body=False)

    def log_message(self, *arguments: object) -> None:
        """Nothing is printed here; ``log_request`` reports."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Tell the owner of the server."""
        if self.server.report is not None:
            self.server.report(self.command, self.path, int(code) if isinstance(code, int) else 0)

    def _answer(self, *, body: bool) -> None:
        descriptor = self._open()
        if descriptor is None:
            self._head(HTTPStatus.NOT_FOUND, 0)
            return
        try:
            size = os.fstat(descriptor).st_size
            start, end = self._range(size)
            if start > 0 and start >= size:
                self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, f"bytes */{size}")
                return
            whole = (start, end) == (0, size)
            status = HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT
            self._head(status, end - start, None if whole else f"bytes {start}-{end - 1}/{size}")
            while body and start < end and (data := os.pread(descriptor, min(CHUNK, end - start), start)):
                self.wfile.write(data)
                start += len(data)
            # A file that shrank meanwhile leaves the answer short: the connection must not be used again.
            self.close_connection = self.close_connection or (body and start < end)
        except ConnectionError:
            self.close_connection = True
        finally:
            os.close(descriptor)

    def _open(self) -> int | None:
        """The file of the request, if it is one of a repository."""
        name = self.path.removeprefix("/")
        if not SERVED.fullmatch(name):
            return None
        try:
            return os.open(self.server.repository / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None

    def _range(self, size: int) -> tuple[int, int]:
        """First byte and end; ranges of other forms are ignored, as RFC 9110 section 14.2 allows."""
        match = RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None:
            return 0, size
        start = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
        return (start, end) if start < end or start >= size else (0, size)

    def _head(self, status: HTTPStatus, length: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()
