# SPDX-License-Identifier: Apache-2.0
"""Parts of a file: exactly the bytes that were asked for, whatever a server makes of the question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.hostile import PATIENT, HostileServer, body, served
from updater.client.http import HttpSource
from updater.client.source import Source
from updater.errors import NotOffered, Unreachable
from updater.repository.serve import _Handler

DATA = bytes(range(256)) * 4_000
SIZE = len(DATA)
NAME = f"blobs/ab/{'ab' * 32}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HostileServer]:
    (tmp_path / "metadata").mkdir()
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_bytes(DATA)
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def source(server: HostileServer) -> Source:
    return HttpSource(server.url, PATIENT)


def _take(source: Source, start: int, length: int | None) -> tuple[int, bytes]:
    with source.open(NAME, start, length) as reply:
        return reply.start, b"".join(reply.untrusted_chunks)


@pytest.mark.parametrize(
    ("start", "length", "asked"),
    [
        (0, 1, "bytes=0-0"),
        (0, 1000, "bytes=0-999"),
        (70_000, 300_000, "bytes=70000-369999"),
        (SIZE - 1, 1, f"bytes={SIZE - 1}-{SIZE - 1}"),
        (5, None, "bytes=5-"),
        (0, None, None),
        (0, SIZE, f"bytes=0-{SIZE - 1}"),
    ],
)
def test_exactly_the_range_is_asked_for(
    server: HostileServer, source: Source, start: int, length: int | None, asked: str | None
) -> None:
    end = SIZE if length is None else start + length
    assert _take(source, start, length) == (start, DATA[start:end])
    assert server.requests == [(NAME, asked)]


def test_a_range_over_the_end_of_the_file_ends_there(source: Source) -> None:
    assert _take(source, SIZE - 10, 100) == (SIZE - 10, DATA[-10:])


def test_a_whole_answer_is_cut_where_the_range_ends(server: HostileServer, source: Source) -> None:
    def endless(handler: _Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(DATA)

    server.rules[NAME] = endless
    assert _take(source, 70_000, 500_000) == (0, DATA[:570_000])
    assert server.hung_up.wait(20), "nobody reads on"
    assert server.requests == [(NAME, "bytes=70000-569999")]


def test_more_than_the_range_is_not_handed_out(server: HostileServer, source: Source) -> None:
    server.rules[NAME] = body(DATA, 206, Content_Range=f"bytes 10-19/{SIZE}")
    assert _take(source, 10, 10) == (10, DATA[:10])


@pytest.mark.parametrize(
    "content_range",
    [
        f"bytes 0-{SIZE - 1}/{SIZE}",
        f"bytes 9-19/{SIZE}",
        f"bytes 11-19/{SIZE}",
        f"bytes 10-20/{SIZE}",
        f"bytes 10-9/{SIZE}",
        "bytes */10",
        "bytes 10-19",
        "lines 10-19/20",
        "",
    ],
)
def test_another_range_is_refused(server: HostileServer, source: Source, content_range: str) -> None:
    server.rules[NAME] = body(DATA[10:20], 206, Content_Range=content_range)
    with pytest.raises(Unreachable, match="another range"):
        _take(source, 10, 10)
    assert server.requests == [(NAME, "bytes=10-19")]


def test_a_range_behind_the_end_is_refused(server: HostileServer, source: Source) -> None:
    with pytest.raises(Unreachable, match="another range"):
        _take(source, SIZE, 10)
    assert server.requests == [(NAME, f"bytes={SIZE}-{SIZE + 9}")]


def test_a_refused_range_is_followed_by_the_whole_file(server: HostileServer, source: Source) -> None:
    """What was kept may be longer than the file; some servers say so in a web page."""

    def refuse(handler: _Handler) -> None:
        if handler.headers.get("Range"):
            body(b"<html>", 416, Content_Type="text/html", Content_Range=f"bytes */{SIZE}")(handler)
        else:
            body(DATA)(handler)

    server.rules[NAME] = refuse
    assert _take(source, SIZE + 5, None) == (0, DATA)
    assert server.requests == [(NAME, f"bytes={SIZE + 5}-"), (NAME, None)]


@pytest.mark.parametrize(("start", "length"), [(0, 0), (5, -1), (-1, None), (-1, 5)])
def test_no_range_at_all_is_a_bug(server: HostileServer, source: Source, start: int, length: int | None) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        _take(source, start, length)
    assert server.requests == []


def test_a_range_of_a_missing_file_is_told(server: HostileServer, source: Source) -> None:
    server.rules[NAME] = body(b"", 404)
    with pytest.raises(NotOffered):
        _take(source, 10, 10)


def test_a_single_server_cannot_be_left_for_another(source: Source) -> None:
    with source.open(NAME) as reply:
        assert not reply.reject()
    assert _take(source, 0, None) == (0, DATA)
