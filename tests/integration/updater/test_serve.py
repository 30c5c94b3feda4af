# SPDX-License-Identifier: Apache-2.0
"""The static web server: files of the repository and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.publishing import Publisher
from updater.repository.errors import CannotServe
from updater.repository.serve import RepositoryServer


class Site:
    def __init__(self, folder: Path) -> None:
        (folder / "publisher").mkdir()
        self.publisher = Publisher(folder / "publisher")
        self.publisher.publish_platform(1, bytes(range(256)) * 4)
        self.repository = self.publisher.repository
        self.blob = next((self.repository / "blobs").rglob("?" * 64))
        self.told: list[tuple[str, str, int]] = []
        self.server = RepositoryServer(self.repository, report=lambda *request: self.told.append(request))

    def ask(self, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request, written as it stands: no library tidies the path up."""
        with socket.create_connection(self.server.server_address[:2], timeout=20) as connection:
            lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            answer = b""
            while part := connection.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("site"))
    thread = threading.Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join()


def test_it_serves_every_file_of_the_repository(site: Site) -> None:
    assert site.server.url.startswith("http://127.0.0.1:")
    for path in sorted(site.repository.rglob("*")):
        name = str(path.relative_to(site.repository))
        if path.is_file() and name != ".lock":
            assert site.ask(f"/{name}")[::2] == (200, path.read_bytes()), name
    assert site.told[-1][0] == "GET"
    assert site.told[-1][2] == 200


@pytest.mark.parametrize(
    "target",
    [
        "/", "/metadata", "/metadata/", "/blobs/", "/.lock", "/metadata/.lock", "/metadata/../.lock",
        "/metadata/../../keys/root-1.pem", "/../keys/root-1.pem", "//etc/passwd", "/etc/passwd",
        "/metadata/..%2f..%2fkeys%2froot-1.pem", "/metadata/%2e%2e/%2e%2e/keys/root-1.pem",
        "/metadata/timestamp.json?x", "/metadata/timestamp.json#x", "/metadata//timestamp.json",
        "/metadata/./timestamp.json", "/blobs/partial/x", "/targets/releases/platform/", "http://x/metadata/timestamp.json",
        "/metadata/timestamp.json/", "/metadata/timestamp.json%00", "/keys/root-1.pem",
    ],
)  # fmt: skip
def test_it_serves_nothing_else(site: Site, target: str) -> None:
    status, headers, body = site.ask(target)
    assert (status, body, headers["Content-Length"]) == (404, b"", "0")


def test_links_are_not_followed(site: Site) -> None:
    link = site.repository / "metadata" / "9.root.json"
    link.symlink_to(site.publisher.keys / "root-1.pem")
    try:
        assert site.ask("/metadata/9.root.json")[0] == 404
    finally:
        link.unlink()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(site: Site, method: str) -> None:
    assert site.ask("/metadata/timestamp.json", method)[0] == 501


def test_head_tells_the_length(site: Site) -> None:
    name = f"/{site.blob.relative_to(site.repository)}"
    status, headers, body = site.ask(name, "HEAD")
    assert (status, headers["Content-Length"], headers["Accept-Ranges"], body) == (200, "1024", "bytes", b"")


@pytest.mark.parametrize(
    ("wanted", "status", "told", "part"),
    [
        ("bytes=0-", 200, None, slice(0, 1024)),
        ("bytes=5-", 206, "bytes 5-1023/1024", slice(5, 1024)),
        ("bytes=5-9", 206, "bytes 5-9/1024", slice(5, 10)),
        ("bytes=1023-", 206, "bytes 1023-1023/1024", slice(1023, 1024)),
        ("bytes=5-99999", 206, "bytes 5-1023/1024", slice(5, 1024)),
        ("bytes=1024-", 416, "bytes */1024", slice(0, 0)),
        ("bytes=99999-", 416, "bytes */1024", slice(0, 0)),
        ("bytes=9-5", 200, None, slice(0, 1024)),
        ("bytes=-5", 200, None, slice(0, 1024)),
        ("bytes=1-2,4-5", 200, None, slice(0, 1024)),
        ("lines=1-2", 200, None, slice(0, 1024)),
    ],
)
def test_ranges(site: Site, wanted: str, status: int, told: str | None, part: slice) -> None:
    found, headers, body = site.ask(f"/{site.blob.relative_to(site.repository)}", Range=wanted)
    assert (found, headers.get("Content-Range"), body) == (status, told, site.blob.read_bytes()[part])


def test_a_taken_address_is_told(site: Site) -> None:
    port = site.server.server_address[1]
    with pytest.raises(CannotServe, match="Address already in use"):
        RepositoryServer(site.repository, port=int(port))
