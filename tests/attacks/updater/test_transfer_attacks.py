# SPDX-License-Identifier: Apache-2.0
"""What somebody between publisher and host can do to artifacts on their way, and how transfers go on after a break."""

from __future__ import annotations

import threading

import pytest

from content.errors import DigestMismatch
from lab.hostile import Rule, Scene, body
from updater.client.http import HttpSource, Patience
from updater.errors import MetadataRefused, NotOffered, TimedOut, Unreachable
from updater.formats import blob_name
from updater.repository.serve import _Handler

DATA = bytes(range(256)) * 4_000
"""Below the size from which on artifacts come from packs: these stories are about whole files."""
SIZE = len(DATA)


@pytest.fixture
def blob(stage: Scene) -> str:
    """The name of a large artifact of release 2, which is out."""
    artifact, _ = stage.publisher.artifact("image/desktop", "image", DATA)
    stage.publisher.publish_workload(2, DATA)
    return blob_name(artifact.fsverity)


def _broken(at: int) -> Rule:
    return body(DATA[:at], length=len(DATA))


@pytest.mark.parametrize(
    "wrong",
    [DATA[:-1] + b"\0", b"\1" + DATA[1:], bytes(len(DATA))],
    ids=["last byte", "first byte", "all bytes"],
)
def test_changed_bytes_are_refused(stage: Scene, blob: str, wrong: bytes) -> None:
    stage.server.rules[blob] = body(wrong)
    stage.host.refuses(DigestMismatch, stage.source, stage.now)
    assert stage.asked().count(blob) == 1
    stage.server.rules.clear()
    generation = stage.host.apply(stage.source, stage.now)
    assert generation is not None
    # What was thrown away does not come back: the transfer began anew.
    assert stage.server.requests[-1] == (blob, None)


def test_bytes_without_end_are_cut_off(stage: Scene, blob: str) -> None:
    def endless(handler: _Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(DATA[:65536])

    stage.server.rules[blob] = endless
    stage.host.refuses(DigestMismatch, stage.source, stage.now, "found at least")
    assert stage.server.hung_up.wait(20)


def test_a_missing_artifact_is_told(stage: Scene, blob: str) -> None:
    stage.server.rules[blob] = body(b"", 404)
    stage.host.refuses(NotOffered, stage.source, stage.now)


def test_a_server_that_drips_is_left(stage: Scene, blob: str) -> None:
    """It never falls silent, so only the rate tells."""

    def drip(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        for byte in DATA:
            handler.wfile.write(bytes([byte]))
            stage.server.hung_up.wait(0.02)

    source = HttpSource(stage.server.url, Patience(connect=5, silence=5, window=0.5, rate=10_000, total=60))
    stage.server.rules[blob] = drip
    stage.host.refuses(TimedOut, source, stage.now, "fewer than 10000 bytes a second")


def test_a_silent_server_is_left(stage: Scene, blob: str) -> None:
    release = threading.Event()

    def silent(handler: _Handler) -> None:
        release.wait(30)

    source = HttpSource(stage.server.url, Patience(connect=5, silence=0.3, window=5, rate=1, total=60))
    stage.server.rules[blob] = silent
    stage.host.refuses(TimedOut, source, stage.now, "silent")
    stage.server.rules["metadata/timestamp.json"] = silent
    stage.host.refuses(TimedOut, source, stage.now, "silent")
    release.set()


def test_an_answer_that_takes_too_long_in_all_is_left(stage: Scene, blob: str) -> None:
    times = iter(range(0, 10**9, 1000))
    source = HttpSource(stage.server.url, Patience(total=1500), clock=lambda: float(next(times)))
    stage.host.refuses(TimedOut, source, stage.now, "more than 1500 seconds")


def test_a_broken_transfer_goes_on_where_it_stopped(stage: Scene, blob: str) -> None:
    def first_half(handler: _Handler) -> None:
        del stage.server.rules[blob]
        _broken(SIZE // 2)(handler)

    stage.server.rules[blob] = first_half
    assert stage.host.apply(stage.source, stage.now) is not None
    assert [r for r in stage.server.requests if r[0] == blob] == [(blob, None), (blob, f"bytes={SIZE // 2}-")]


def test_a_transfer_goes_on_in_another_process_on_another_day(stage: Scene, blob: str) -> None:
    stage.server.rules[blob] = _broken(SIZE // 3)
    stage.host.refuses(Unreachable, stage.source, stage.now)
    stage.server.rules.clear()
    stage.server.requests.clear()
    assert stage.host.apply(stage.source, stage.now) is not None
    assert (blob, f"bytes={SIZE // 3}-") in stage.server.requests


def test_a_whole_answer_to_a_range_replaces_what_was_there(stage: Scene, blob: str) -> None:
    stage.server.rules[blob] = _broken(SIZE // 2)
    stage.host.refuses(Unreachable, stage.source, stage.now)
    stage.server.rules[blob] = body(DATA)
    assert stage.host.apply(stage.source, stage.now) is not None


@pytest.mark.parametrize(
    "content_range", [f"bytes 0-{SIZE - 1}/{SIZE}", f"bytes 7-{SIZE - 1}/{SIZE}", "bytes */10", "", "lines 1-2/3"]
)
def test_a_wrong_range_is_never_appended(stage: Scene, blob: str, content_range: str) -> None:
    stage.server.rules[blob] = _broken(SIZE // 2)
    stage.host.refuses(Unreachable, stage.source, stage.now)

    def ranged(handler: _Handler) -> None:
        if handler.headers.get("Range"):
            body(DATA[: SIZE // 2], 206, Content_Range=content_range)(handler)
        else:
            body(DATA)(handler)

    stage.server.rules[blob] = ranged
    assert stage.host.apply(stage.source, stage.now) is not None
    assert stage.server.requests[-1] == (blob, None)


def test_a_bad_beginning_from_another_source_does_not_stop_the_update(stage: Scene, blob: str) -> None:
    stage.server.rules[blob] = body(bytes(SIZE // 2), length=SIZE)
    stage.host.refuses(Unreachable, stage.source, stage.now)
    stage.server.rules.clear()
    assert stage.host.apply(stage.source, stage.now) is not None


def test_a_range_that_nobody_asked_for_is_refused(stage: Scene, blob: str) -> None:
    stage.server.rules[blob] = body(DATA, 206, Content_Range=f"bytes 0-{SIZE - 1}/{SIZE}")
    stage.host.refuses(Unreachable, stage.source, stage.now, "HTTP 206")


def test_an_encoding_that_nobody_asked_for_is_refused(stage: Scene, blob: str) -> None:
    """Nothing is decompressed, so that a small answer cannot become a large one."""
    stage.server.rules[blob] = body(DATA, Content_Encoding="gzip")
    stage.host.refuses(Unreachable, stage.source, stage.now, "encoding")


def test_redirects_end(stage: Scene, blob: str) -> None:
    stage.server.rules[blob] = body(b"", 302, Location=f"/{blob}")
    stage.host.refuses(Unreachable, stage.source, stage.now, "redirected too often")
    assert stage.asked().count(blob) == 4


def test_a_damaged_file_in_the_store_is_fetched_again(stage: Scene, blob: str) -> None:
    assert stage.host.apply(stage.source, stage.now) is not None
    path = stage.host.store.path(blob.rpartition("/")[2])
    path.chmod(0o644)
    path.write_bytes(bytes(SIZE))
    stage.publisher.publish_platform(2)
    stage.server.requests.clear()
    assert stage.host.apply(stage.source, stage.now) is not None
    assert (blob, None) in stage.server.requests
    assert path.read_bytes() == DATA


def test_headers_without_end_are_cut_off(stage: Scene) -> None:
    def endless(handler: _Handler) -> None:
        handler.send_response(200)
        while True:
            handler.send_header("X-More", "x" * 1000)
            handler.flush_headers()

    stage.server.rules["metadata/timestamp.json"] = endless
    stage.host.refuses(Unreachable, stage.source, stage.now)
    assert stage.server.hung_up.wait(20)


def test_a_release_document_without_end_is_cut_off(stage: Scene, blob: str) -> None:
    def endless(handler: _Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"{" * 65536)

    stage.server.every = None
    stage.publisher.publish_platform(2)
    targets = stage.publisher.repository / "targets/releases/platform"
    for path in targets.glob("*.current.json"):
        stage.server.rules[str(path.relative_to(stage.publisher.repository))] = endless
    stage.host.refuses(MetadataRefused, stage.source, stage.now, "more than the")
