# SPDX-License-Identifier: Apache-2.0
"""What stands between host and repository: slow servers, certificates, portals, proxies, and our own environment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from documents.errors import Exit
from lab.certificates import Authority
from lab.hostile import PATIENT, Answers, HostileServer, Rule, Scene, body, served
from lab.proxy import Proxy, proxying
from lab.publishing import Publisher
from updater.client.bandwidth import Bandwidth
from updater.client.connection import Route
from updater.client.http import KEPT, HttpSource, Patience
from updater.client.source import Source
from updater.errors import CertificatesUnusable, MetadataRefused, ServerNotTrusted, TimedOut, Unreachable, UpdaterError
from updater.formats import blob_name
from updater.repository.serve import _Handler

DATA = bytes(range(256)) * 4_000
FIRST = "metadata/2.root.json"
"""What a look-up asks for first."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def blob(stage: Scene) -> str:
    """The name of a large artifact of release 2, which is out."""
    artifact, _ = stage.publisher.artifact("image/desktop", "image", DATA)
    stage.publisher.publish_workload(2, DATA)
    return blob_name(artifact.fsverity)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxying() as running:
        yield running


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "site")


# -- slow, and without end -----------------------------------------------------------------------------------------


def _dripping(server: HostileServer, piece: bytes) -> Rule:
    def drip(handler: _Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" if b":" in piece else b"")
        while not server.hung_up.wait(0.02):
            handler.wfile.write(piece)

    return drip


@pytest.mark.parametrize(
    ("piece", "where"),
    [
        (b"X-More: x\r\n", "metadata"),
        (b"X-More: x\r\n", "artifact"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "metadata"),
        (b"H", "artifact"),
    ],
    ids=["headers", "headers of an artifact", "continue", "status line"],
)
def test_headers_that_drip_are_left(stage: Scene, blob: str, piece: bytes, where: str) -> None:
    """Each piece comes soon enough: only a deadline over all of them helps."""
    name = blob if where == "artifact" else FIRST
    stage.server.rules[name] = _dripping(stage.server, piece)
    source = HttpSource(stage.server.url, Patience(connect=5, silence=5, headers=0.4, window=5, rate=1, total=60))
    stage.host.refuses(TimedOut, source, stage.now, "the answer did not get on")
    assert stage.asked()[-1] == name
    assert stage.asked().count(name) == 1
    assert stage.server.hung_up.wait(20)


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"5\r\nabcde\r\n0\r\n", b"X-More: x\r\n"),
        (b"5\r\nabcde\r\n", b"0"),
        (b"", b"1;x=" + b"x" * 1000 + b"\r\nA\r\n"),
    ],
    ids=["trailers", "size of a chunk", "extensions of chunks"],
)
def test_what_stands_around_a_body_may_not_drip_either(stage: Scene, blob: str, before: bytes, piece: bytes) -> None:
    def chunked(handler: _Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + before)
        while not stage.server.hung_up.wait(0.02):
            handler.wfile.write(piece)

    stage.server.rules[blob] = chunked
    source = HttpSource(stage.server.url, Patience(connect=5, silence=0.5, window=0.5, rate=1_000, total=60))
    stage.host.refuses(TimedOut, source, stage.now)
    assert stage.asked().count(blob) == 1
    assert stage.server.hung_up.wait(20)


@pytest.mark.parametrize("status", [404, 302, 503])
def test_nobody_reads_an_error_without_end(stage: Scene, blob: str, status: int) -> None:
    """A missing next root is the normal case, and the look-up goes on; but not on that connection."""

    sent: list[int] = []

    def endless(handler: _Handler) -> None:
        handler.send_response(status)
        handler.send_header("Location", f"/{FIRST}")
        handler.end_headers()
        while True:
            sent.append(handler.wfile.write(PORTAL * 1000))

    stage.server.rules[FIRST] = endless
    if status == 404:
        assert stage.host.apply(stage.source, stage.now) is not None
    else:
        stage.host.refuses(Unreachable, stage.source, stage.now)
    assert stage.server.hung_up.wait(20)
    # What the sockets' buffers take on the way is all that ever comes.
    assert sum(sent) < 32 * 1024 * 1024


def test_a_body_may_take_longer_than_its_headers(stage: Scene, blob: str) -> None:
    def halves(handler: _Handler) -> None:
        body(DATA[: len(DATA) // 2], length=len(DATA))(handler)
        handler.wfile.flush()
        stage.server.hung_up.wait(0.5)
        handler.wfile.write(DATA[len(DATA) // 2 :])

    stage.server.rules[blob] = halves
    source = HttpSource(stage.server.url, Patience(connect=5, silence=5, headers=0.3, window=5, rate=1, total=60))
    assert stage.host.apply(source, stage.now) is not None


def test_our_own_limit_and_our_own_slowness_do_not_count(stage: Scene, blob: str) -> None:
    """The server is quick; that hours pass between its bytes is our doing."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    limit = Bandwidth(100, lambda: now[0], sleep)
    patience = Patience(connect=5, silence=5, window=1, rate=1_000, total=60)
    source = HttpSource(stage.server.url, patience, lambda: now[0], bandwidth=limit)
    with source.open(blob) as reply:
        data = b""
        for chunk in reply.untrusted_chunks:
            data += chunk
            sleep(3600)
    assert data == DATA
    assert now[0] > len(DATA) / 100


# -- pages, and what answers for everybody -------------------------------------------------------------------------

PORTAL = b"<html><body>Welcome to our hotel. Please sign in.</body></html>"


@pytest.mark.parametrize(("kind", "where"), [("text/html", "everything"), ("Text/HTML; charset=utf-8", "artifact")])
def test_a_portal_is_told_apart_from_a_repository(stage: Scene, blob: str, kind: str, where: str) -> None:
    if where == "artifact":
        stage.server.rules[blob] = body(PORTAL, Content_Type=kind)
    else:
        stage.server.every = body(PORTAL, Content_Type=kind)
    error = stage.host.refuses(Unreachable, stage.source, stage.now, "web page")
    assert error.exit == Exit.UNREACHABLE
    assert stage.asked()[-1] == (blob if where == "artifact" else FIRST)
    # Nothing of the page was kept as the beginning of the artifact.
    stage.server.rules.clear()
    stage.server.every = None
    stage.server.requests.clear()
    assert stage.host.apply(stage.source, stage.now) is not None
    assert [r for r in stage.server.requests if r[0] == blob] == [(blob, None)]


def test_a_portal_that_hides_is_refused_by_what_it_says(stage: Scene, blob: str) -> None:
    stage.server.every = body(PORTAL)
    stage.host.refuses(MetadataRefused, stage.source, stage.now)
    assert stage.asked() == [FIRST]


def test_a_portal_page_is_never_appended_to_what_came_before(stage: Scene, blob: str) -> None:
    half = len(DATA) // 2
    stage.server.rules[blob] = body(DATA[:half], length=len(DATA))
    stage.host.refuses(Unreachable, stage.source, stage.now)
    stage.server.rules[blob] = body(PORTAL, Content_Type="text/html")
    stage.host.refuses(Unreachable, stage.source, stage.now, "web page")
    stage.server.rules.clear()
    assert stage.host.apply(stage.source, stage.now) is not None
    assert stage.server.requests[-1] == (blob, f"bytes={half}-")


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (301, "http://portal.example/"),
        (302, "//portal.example/x"),
        (303, "https://127.0.0.1/"),
        (307, "file:///etc/passwd"),
        (308, "http://127.0.0.1:1/"),
    ],
)
def test_nobody_sends_us_elsewhere(stage: Scene, blob: str, status: int, location: str) -> None:
    stage.server.rules[blob] = body(b"", status, Location=location)
    stage.host.refuses(Unreachable, stage.source, stage.now, "redirected to another server")
    assert stage.asked().count(blob) == 1


def test_a_redirect_without_an_address_ends_too(stage: Scene, blob: str) -> None:
    stage.server.rules[blob] = body(b"", 307)
    stage.host.refuses(Unreachable, stage.source, stage.now, "redirected too often")
    assert stage.asked().count(blob) == 4


# -- connections ---------------------------------------------------------------------------------------------------


def test_an_update_takes_one_connection(stage: Scene, blob: str) -> None:
    before = stage.server.connections
    source = HttpSource(stage.server.url, PATIENT)
    assert stage.host.apply(source, stage.now) is not None
    assert len(stage.server.requests) > 5
    assert stage.server.connections == before + 1


def test_threads_have_connections_of_their_own_and_keep_them(stage: Scene, blob: str) -> None:
    source = HttpSource(stage.server.url, PATIENT)
    before = stage.server.connections
    size, together = 10_000, threading.Barrier(4)

    def part(number: int) -> bool:
        if number < 4:
            together.wait(20)
        with source.open(blob, number * size, size) as reply:
            return b"".join(reply.untrusted_chunks) == DATA[number * size : (number + 1) * size]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(part, range(100)))
    assert stage.server.connections == before + 4
    assert sorted(stage.server.requests[-100:]) == sorted(
        (blob, f"bytes={n * size}-{(n + 1) * size - 1}") for n in range(100)
    )


def test_a_connection_that_lay_idle_is_not_relied_on(stage: Scene, blob: str) -> None:
    now = [0.0]
    source = HttpSource(stage.server.url, PATIENT, lambda: now[0])
    before = stage.server.connections
    for idle, connections in ((0, 1), (KEPT, 1), (KEPT + 1, 2), (1, 2)):
        now[0] += idle
        with source.open(blob, 0, 10) as reply:
            assert b"".join(reply.untrusted_chunks) == DATA[:10]
        assert stage.server.connections == before + connections


def test_no_answer_leaves_a_mark_on_the_next_request(stage: Scene, blob: str) -> None:
    """Neither cookies nor anything else that one server said reaches a server again."""
    stage.server.rules[FIRST] = body(b"", 404, Set_Cookie="host=42; Path=/")
    assert stage.host.apply(stage.source, stage.now) is not None
    allowed = {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection", "Range"}
    assert all(set(headers) <= allowed for headers in stage.server.headers)


# -- certificates --------------------------------------------------------------------------------------------------


def test_a_repository_with_a_certificate_of_our_own_authority(stage: Scene, blob: str, authority: Authority) -> None:
    with served(stage.publisher.repository, authority.server()) as server:
        assert server.url.startswith("https:")
        source = HttpSource(server.url, PATIENT, route=Route(ca_file=str(authority.file)))
        assert stage.host.apply(source, stage.now) is not None
        assert server.connections == 1


@pytest.mark.parametrize("wrong", ["other authority", "public ones", "other host", "not yet valid", "expired"])
def test_a_wrong_certificate_is_one_clear_line(
    stage: Scene, blob: str, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    tls = {
        "other host": lambda: authority.server("127.0.0.2"),
        "not yet valid": lambda: authority.server(since=5),
        "expired": lambda: authority.server(since=-40),
    }.get(wrong, authority.server)()
    believed = {"other authority": str(Authority(tmp_path, "other").file), "public ones": ""}
    with served(stage.publisher.repository, tls) as server:
        route = Route(ca_file=believed.get(wrong, str(authority.file)))
        error = stage.host.refuses(ServerNotTrusted, HttpSource(server.url, PATIENT, route=route), stage.now)
        assert server.requests == [], "not a word before the certificate was believed"
    line = error.line()
    assert line.startswith("error[UP035]: a file was not fetched; metadata/")
    assert line.endswith("check the address, this host's clock, and ca_file in vmgate.toml")
    assert "certificate was not accepted" in line
    assert "_ssl.c" not in line
    assert error.exit == Exit.UNREACHABLE


def test_a_server_that_speaks_no_tls_has_no_certificate_to_blame(stage: Scene) -> None:
    source = HttpSource(stage.server.url.replace("http:", "https:"), PATIENT)
    error = stage.host.refuses(Unreachable, source, stage.now)
    assert error.code == "UP001"
    assert "certificate" not in error.line()
    assert stage.server.requests == []


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_environment_adds_no_authority(
    stage: Scene, blob: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whom a service of root believes is measured; what its environment says is not."""
    with served(stage.publisher.repository, authority.server()) as server:
        monkeypatch.setenv(name, str(authority.file))
        stage.host.refuses(ServerNotTrusted, HttpSource(server.url, PATIENT), stage.now)
        monkeypatch.setenv(name, str(Authority(tmp_path, "other").file))
        source = HttpSource(server.url, PATIENT, route=Route(ca_file=str(authority.file)))
        assert stage.host.apply(source, stage.now) is not None, "nor does it take one away"


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_unusable_certificates_are_told_as_such(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CertificatesUnusable) as caught:
        HttpSource("https://127.0.0.1:1", route=Route(ca_file=str(file)))
    assert caught.value.exit == Exit.NOT_READY
    assert str(file) in caught.value.line()


def test_passwords_of_a_home_folder_are_not_for_a_repository(
    stage: Scene, blob: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login root password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert stage.host.apply(HttpSource(stage.server.url, PATIENT), stage.now) is not None
    assert not [headers for headers in stage.server.headers if "Authorization" in headers]


# -- proxies -------------------------------------------------------------------------------------------------------


def _by(stage: Scene, proxy: Proxy) -> Source:
    return HttpSource(stage.server.url, PATIENT, route=Route(proxy=proxy.url))


def test_all_goes_by_the_proxy_of_the_settings(
    stage: Scene, blob: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert stage.host.apply(_by(stage, proxy), stage.now) is not None
    assert [target.removeprefix(stage.server.url) for _, target in proxy.requests] == stage.asked()


def test_without_a_setting_the_environment_says_which(
    stage: Scene, blob: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//host:secret@"))
    assert stage.host.apply(stage.source, stage.now) is not None
    assert len(proxy.requests) == len(stage.server.requests)
    assert "Proxy-Authorization" in proxy.headers[0]
    proxy.requests.clear()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert stage.host.apply(stage.source, stage.now) is None
    assert proxy.requests == []


def test_a_dead_proxy_is_told_without_its_password(stage: Scene, blob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://host:secret@127.0.0.1:1")
    error = stage.host.refuses(Unreachable, stage.source, stage.now)
    assert "secret" not in error.line()
    assert stage.server.requests == [], "it is not gone around"


def test_a_proxy_does_not_see_into_tls(stage: Scene, blob: str, proxy: Proxy, authority: Authority) -> None:
    with served(stage.publisher.repository, authority.server()) as server:
        route = Route(proxy=proxy.url, ca_file=str(authority.file))
        source = HttpSource(server.url, PATIENT, route=route)
        assert stage.host.apply(source, stage.now) is not None
    assert [method for method, _ in proxy.requests] == ["CONNECT"]


def _answer(data: bytes, kind: str, status: int = 200) -> Rule:
    def rule(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return rule


@pytest.mark.parametrize(
    ("data", "kind", "error"),
    [
        (PORTAL, "text/html", Unreachable),
        (PORTAL, "application/octet-stream", MetadataRefused),
        (b"", "application/json", MetadataRefused),
        (b"{}", "application/json", MetadataRefused),
    ],
    ids=["page", "hidden page", "nothing", "empty object"],
)
def test_a_proxy_that_answers_for_everybody(
    stage: Scene, blob: str, proxy: Proxy, data: bytes, kind: str, error: type[UpdaterError]
) -> None:
    proxy.answer = _answer(data, kind)
    stage.host.refuses(error, _by(stage, proxy), stage.now)
    assert proxy.requests == [("GET", stage.server.url + FIRST)]
    assert stage.server.requests == []


def test_a_proxy_that_gives_its_own_repository_for_ours(
    stage: Scene, blob: str, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It signs everything, with keys that nobody trusts."""
    other = Publisher(tmp_path_factory.mktemp("other"))
    other.publish_platform(9)
    other.publish_workload(9)

    def forge(handler: BaseHTTPRequestHandler) -> None:
        file = other.repository / handler.path.removeprefix(stage.server.url)
        _answer(file.read_bytes() if file.is_file() else b"", "x/y", 200 if file.is_file() else 404)(handler)

    proxy.answer = forge
    stage.host.refuses(MetadataRefused, _by(stage, proxy), stage.now, "timestamp was signed by 0/1 keys")
    assert stage.server.requests == []


def test_a_proxy_that_opens_every_tunnel_into_itself(
    stage: Scene, blob: str, proxy: Proxy, authority: Authority, tmp_path: Path
) -> None:
    """TLS is inspected with the proxy's own authority: this host does not believe it unless it was told to."""
    with served(stage.publisher.repository, Authority(tmp_path, "inspector").server()) as inspector:
        source = HttpSource(inspector.url, PATIENT, route=Route(proxy=proxy.url, ca_file=str(authority.file)))
        stage.host.refuses(ServerNotTrusted, source, stage.now)
        assert inspector.requests == []
    assert [method for method, _ in proxy.requests] == ["CONNECT"]


@pytest.mark.parametrize("answer", ["refuses", "drips"])
def test_a_proxy_that_opens_no_tunnel(stage: Scene, blob: str, proxy: Proxy, answer: str) -> None:
    left = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not left.wait(0.02):
            handler.wfile.write(b"X-More: x\r\n")

    proxy.answer = drip if answer == "drips" else _answer(b"", "text/plain", 407)
    patience = Patience(connect=5, silence=5, headers=0.4, window=5, rate=1, total=60)
    source = HttpSource("https://127.0.0.1:1/", patience, route=Route(proxy=proxy.url))
    stage.host.refuses(TimedOut if answer == "drips" else Unreachable, source, stage.now)
    left.set()
    assert len(proxy.requests) == 1


def test_a_kept_connection_that_was_closed_is_made_anew(stage: Scene, blob: str) -> None:
    """A server may close one at any time, also between two requests, without a word."""
    closed: list[str] = []

    def close_first(handler: _Handler) -> None:
        if not closed:
            closed.append(handler.path)
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        stage.server.rules.clear()
        Answers.do_GET(handler)

    stage.server.rules[blob] = close_first
    assert stage.host.apply(stage.source, stage.now) is not None
    assert stage.asked().count(blob) == 2


def test_a_server_that_closes_each_connection_is_not_asked_for_ever(stage: Scene, blob: str) -> None:
    def close(handler: _Handler) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)

    stage.server.rules[blob] = close
    stage.host.refuses(Unreachable, stage.source, stage.now)
    assert stage.asked().count(blob) == 2
