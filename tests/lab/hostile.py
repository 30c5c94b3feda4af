# SPDX-License-Identifier: Apache-2.0
"""A repository's web server that can be told to misbehave, and a host that updates from it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from content.store import ContentStore
from documents.errors import VmgateError
from documents.host_state import Generation
from keys.anchor import TrustAnchor
from lab.publishing import Publisher
from updater.client.http import HttpSource, Patience
from updater.client.places import Places
from updater.client.source import Source
from updater.client.transaction import Update
from updater.repository.serve import RepositoryServer, _Handler

CHANNELS = ("platform", "desktop")
AGENT = "0.1.0"
PATIENT = Patience(connect=5, silence=5, window=5, rate=1, total=60)
STATE_FILES = ("journal", "floor", "generations/current")

Rule = Callable[[_Handler], None]


class Answers(_Handler):
    """Answers by rule where there is one, else as the real server does."""

    server: HostileServer

    def do_GET(self) -> None:  # noqa: N802 - the name that the standard library calls
        rule = self.server.rules.get(self.path.removeprefix("/"), self.server.every)
        if rule is None:
            super().do_GET()
            return
        try:
            rule(self)
        except ConnectionError:
            self.server.hung_up.set()
        self.close_connection = True


class HostileServer(RepositoryServer):
    """Serves a repository, but for what ``rules`` say by name and ``every`` for all the rest.

    Attributes:
        requests: (path, Range header or nothing) of each request.
        headers: of each request.
        connections: how many were made.
        hung_up: set when a client left while it was being answered.
    """

    def __init__(self, repository: Path, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.rules: dict[str, Rule] = {}
        self.every: Rule | None = None
        self.hung_up = threading.Event()
        super().__init__(repository)
        self.RequestHandlerClass = Counting
        self._tls = tls

    @property
    def url(self) -> str:
        """Where it answers."""
        return super().url.replace("http:", "https:") if self._tls else super().url

    def get_request(self) -> tuple[socket.socket, object]:
        """A new connection; the TLS handshake comes with the first bytes that are read."""
        connection, address = super().get_request()
        self.connections += 1
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves, or does not believe the certificate, is not worth a word."""


class Counting(Answers):
    """Notes each request before it is answered."""

    def do_GET(self) -> None:  # noqa: N802 - the name that the standard library calls
        self.server.requests.append((self.path.removeprefix("/"), self.headers.get("Range")))
        self.server.headers.append(dict(self.headers.items()))
        super().do_GET()


@contextmanager
def served(repository: Path, tls: ssl.SSLContext | None = None) -> Iterator[HostileServer]:
    """A running server."""
    server = HostileServer(repository, tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def body(data: bytes, status: int = 200, *, length: int | None = None, **headers: str) -> Rule:
    """Answer with these bytes; ``length`` is what the header says, if that is not the truth."""

    def rule(handler: _Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data)

    return rule


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that says what a host is."""

    files: tuple[bytes, ...]
    generation: Generation | None


class Host:
    """One host, below one folder."""

    def __init__(self, folder: Path, anchor: bytes) -> None:
        folder.mkdir()
        self.folder = folder
        self.store = ContentStore(folder / "store")
        self.update = Update(Places.below(folder), TrustAnchor(anchor), self.store, AGENT)
        self.update.recover()

    def state(self) -> State:
        """What must not change when something is refused."""
        files = []
        for name in STATE_FILES:
            path = self.folder / name
            files.append(
                str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.exists() else b""
            )
        return State(files=tuple(files), generation=self.update.active())

    def apply(self, source: Source, now: int) -> Generation | None:
        """Update and confirm."""
        generation = self.update.apply(source, CHANNELS, now=now)
        if generation is not None:
            self.update.confirm()
        return generation

    def refuses(self, error: type[VmgateError], source: Source, now: int, match: str | None = None) -> VmgateError:
        """The update is refused with this error, and the host is as it was."""
        before = self.state()
        with pytest.raises(error, match=match) as caught:
            self.update.apply(source, CHANNELS, now=now)
        assert self.state() == before
        return caught.value


class Scene:
    """A publisher with release 1 of both channels out, its server, and a host that runs them."""

    def __init__(self, folder: Path, server: HostileServer, publisher: Publisher) -> None:
        self.publisher = publisher
        self.server = server
        self.source = HttpSource(server.url, PATIENT)
        self.host = Host(folder / "host", publisher.anchor)
        assert self.host.apply(self.source, publisher.now) is not None
        server.requests.clear()

    @property
    def now(self) -> int:
        return self.publisher.now

    def asked(self) -> list[str]:
        """Names of the files that were asked for since the scene began or since ``forget``."""
        return [name for name, _ in self.server.requests]


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """See ``Scene``."""
    folder.joinpath("publisher").mkdir()
    publisher = Publisher(folder / "publisher")
    publisher.publish_platform(1)
    publisher.publish_workload(1)
    with served(publisher.repository) as server:
        yield Scene(folder, server, publisher)
