# SPDX-License-Identifier: Apache-2.0
"""What mirrors can do to an update: make it slower, and be found out. Metadata they are never asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from content.errors import DigestMismatch
from lab.hostile import PATIENT, HostileServer, Rule, Scene, body, served
from updater.client.http import HttpSource, Patience
from updater.client.mirrors import MirroredSource
from updater.errors import NoServerLeft, NotOffered, Unreachable
from updater.formats import blob_name
from updater.repository.serve import _Handler

DATA = bytes(range(256)) * 4_000
OTHER = DATA[::-1]
SIZE = len(DATA)
HASTY = Patience(connect=5, silence=0.3, headers=5, window=0.3, rate=100_000, total=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """A scene with two mirrors; release 2, which is out, has two large artifacts."""

    stage: Scene
    first: HostileServer
    second: HostileServer
    blobs: tuple[str, str]

    def source(self, patience: Patience = PATIENT) -> MirroredSource:
        primary, *mirrors = (HttpSource(s.url, patience) for s in (self.stage.server, self.first, self.second))
        return MirroredSource(primary, mirrors)

    def applies(self, source: MirroredSource) -> None:
        assert self.stage.host.apply(source, self.stage.now) is not None
        for blob in self.blobs:
            self.stage.host.store.verify(blob.rpartition("/")[2], SIZE)

    def asked(self, server: HostileServer) -> list[str]:
        """Which of the two artifacts a server was asked for, by number."""
        return [str(self.blobs.index(name)) for name, _ in server.requests if name in self.blobs]


@pytest.fixture
def mirrors(stage: Scene) -> Iterator[Mirrors]:
    publisher = stage.publisher
    blobs = tuple(blob_name(publisher.artifact("image/desktop", "image", data)[0].fsverity) for data in (DATA, OTHER))
    publisher.publish_workload(2, DATA)
    publisher.publish_platform(2, OTHER)
    with served(publisher.repository) as first, served(publisher.repository) as second:
        yield Mirrors(stage=stage, first=first, second=second, blobs=(blobs[0], blobs[1]))


def _everywhere(server: HostileServer, mirrors: Mirrors, rule: Rule) -> None:
    server.rules |= dict.fromkeys(mirrors.blobs, rule)


def test_content_comes_from_the_first_mirror_and_metadata_never(mirrors: Mirrors) -> None:
    mirrors.applies(mirrors.source())
    assert {name.partition("/")[0] for name, _ in mirrors.first.requests} == {"blobs"}
    assert sorted(mirrors.asked(mirrors.first)) == ["0", "1"]
    assert mirrors.second.requests == [], "nobody is asked without need"
    assert mirrors.asked(mirrors.stage.server) == []


def test_wrong_bytes_cost_a_mirror_its_standing(mirrors: Mirrors) -> None:
    """Good metadata, wrong artifacts: the other mirror is used, and the bad one is left alone."""
    _everywhere(mirrors.first, mirrors, body(bytes(SIZE)))
    source = mirrors.source()
    mirrors.applies(source)
    assert len(mirrors.first.requests) == 1
    assert sorted(mirrors.asked(mirrors.second)) == ["0", "1"]
    assert mirrors.asked(mirrors.stage.server) == []


def test_wrong_bytes_from_everybody_are_refused(mirrors: Mirrors) -> None:
    servers = (mirrors.stage.server, mirrors.first, mirrors.second)
    for server in servers:
        _everywhere(server, mirrors, body(bytes(SIZE)))
    source = mirrors.source()
    mirrors.stage.host.refuses(DigestMismatch, source, mirrors.stage.now)
    assert [len(mirrors.asked(server)) for server in servers] == [1, 1, 1]
    mirrors.stage.host.refuses(NoServerLeft, source, mirrors.stage.now, "each server gave bytes")
    assert [len(mirrors.asked(server)) for server in servers] == [1, 1, 1], "none is asked again"


def test_a_mirror_without_end_is_left(mirrors: Mirrors) -> None:
    def endless(handler: _Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(DATA[:65536])

    _everywhere(mirrors.first, mirrors, endless)
    mirrors.applies(mirrors.source())
    assert mirrors.first.hung_up.wait(20)
    assert len(mirrors.first.requests) == 1


def test_a_mirror_that_is_down_is_asked_once(mirrors: Mirrors) -> None:
    with served(mirrors.stage.publisher.repository) as gone:
        url = gone.url
    sources = [HttpSource(u, PATIENT) for u in (mirrors.stage.server.url, url, mirrors.second.url)]
    mirrors.applies(MirroredSource(sources[0], sources[1:]))
    assert sorted(mirrors.asked(mirrors.second)) == ["0", "1"]
    assert mirrors.asked(mirrors.stage.server) == []


@pytest.mark.parametrize(
    "rule",
    [
        body(b"", 404),
        body(b"busy", 503),
        body(b"", 302, Location="http://elsewhere.example/"),
        body(DATA, Content_Encoding="gzip"),
        body(b"", length=SIZE),
    ],
    ids=["without the file", "busy", "sent elsewhere", "encoded", "nothing behind the headers"],
)
def test_a_mirror_that_cannot_give_it_is_passed_over(mirrors: Mirrors, rule: Rule) -> None:
    _everywhere(mirrors.first, mirrors, rule)
    mirrors.applies(mirrors.source())
    assert len(mirrors.first.requests) == 1, "from then on the other one comes first"
    assert sorted(mirrors.asked(mirrors.second)) == ["0", "1"]


def test_a_mirror_that_breaks_off_is_continued_by_another(mirrors: Mirrors) -> None:
    def half(handler: _Handler) -> None:
        body(DATA[: SIZE // 2], length=SIZE)(handler)

    mirrors.first.rules[mirrors.blobs[0]] = half
    mirrors.applies(mirrors.source())
    assert (mirrors.blobs[0], f"bytes={SIZE // 2}-") in mirrors.second.requests


def test_a_mirror_that_becomes_slow_is_continued_by_another(mirrors: Mirrors) -> None:
    def drip(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(SIZE))
        handler.end_headers()
        handler.wfile.write(DATA[: SIZE // 2])
        for byte in DATA[SIZE // 2 :]:
            handler.wfile.write(bytes([byte]))
            mirrors.first.hung_up.wait(0.02)

    mirrors.first.rules[mirrors.blobs[0]] = drip
    mirrors.applies(mirrors.source(HASTY))
    assert any(name == mirrors.blobs[0] and asked for name, asked in mirrors.second.requests)


def test_a_mirror_that_stays_silent_is_passed_over(mirrors: Mirrors) -> None:
    release = threading.Event()

    def silent(handler: _Handler) -> None:
        release.wait(30)

    _everywhere(mirrors.first, mirrors, silent)
    mirrors.applies(mirrors.source(HASTY))
    release.set()
    assert len(mirrors.first.requests) == 1


def test_the_failure_of_the_primary_is_what_is_told(mirrors: Mirrors) -> None:
    for server in (mirrors.stage.server, mirrors.first, mirrors.second):
        _everywhere(server, mirrors, body(b"", 404 if server is mirrors.stage.server else 503))
    mirrors.stage.host.refuses(NotOffered, mirrors.source(), mirrors.stage.now, "HTTP 404")


def test_without_the_primary_there_is_no_update(mirrors: Mirrors) -> None:
    """Mirrors have the newest metadata too, and might have older: they are not asked."""
    mirrors.stage.server.every = body(b"", 503)
    mirrors.stage.host.refuses(Unreachable, mirrors.source(), mirrors.stage.now, "HTTP 503")
    assert mirrors.first.requests == mirrors.second.requests == []


def test_ranges_go_to_mirrors_as_they_are(mirrors: Mirrors) -> None:
    name = mirrors.blobs[0]
    source = mirrors.source()
    with source.open(name, 100, 50) as reply:
        assert (reply.start, b"".join(reply.untrusted_chunks)) == (100, DATA[100:150])
        assert reply.reject(), "there are others"
    with source.open(name, 100, 50) as reply:
        assert b"".join(reply.untrusted_chunks) == DATA[100:150]
        assert reply.reject()
    with source.open(name, 100, 50) as reply:
        assert not reply.reject(), "that was the last"
    for server in (mirrors.first, mirrors.second, mirrors.stage.server):
        assert server.requests == [(name, "bytes=100-149")]
    with pytest.raises(NoServerLeft), source.open(name):
        raise AssertionError("opened")


def test_packs_come_from_mirrors_too(mirrors: Mirrors) -> None:
    for server in (mirrors.first, mirrors.second, mirrors.stage.server):
        server.every = body(b"pack")
    with mirrors.source().open("packs/ab/cd/e") as reply:
        assert b"".join(reply.untrusted_chunks) == b"pack"
    assert (len(mirrors.first.requests), mirrors.stage.server.requests) == (1, [])
