# SPDX-License-Identifier: Apache-2.0
"""Whatever a server says about the range that it sends: only the one asked for is taken, and nothing beyond."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from updater.client.http import _Range

starts = st.integers(0, 10**12)
lengths = st.none() | st.integers(1, 10**12)
words = st.text("bytes 0123456789-/*=,\t", max_size=30) | st.from_regex(
    r"bytes [0-9]{1,4}-[0-9]{1,4}/([0-9]{1,4}|\*)", fullmatch=True
)


def _answer(status: int, content_range: str | None) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    if content_range is not None:
        response.headers["Content-Range"] = content_range
    return response


@given(st.integers(0, 300), st.none() | st.integers(1, 300), words)
def test_only_the_range_that_was_asked_for(start: int, length: int | None, untrusted: str) -> None:
    wanted = _Range(start=start, length=length)
    if wanted.answered_by(_answer(206, untrusted)):
        first, _, last = untrusted.removeprefix("bytes ").partition("/")[0].partition("-")
        assert int(first) == start
        assert length is None or start <= int(last) < start + length


@given(starts, lengths)
def test_the_right_range_is_taken(start: int, length: int | None) -> None:
    wanted = _Range(start=start, length=length)
    last = start + (length or 1) - 1
    assert wanted.answered_by(_answer(206, f"bytes {start}-{last}/{last + 1}"))
    assert wanted.answered_by(_answer(206, f"bytes {start}-{last}/*"))
    assert wanted.answered_by(_answer(200, None))
    assert not wanted.answered_by(_answer(206, f"bytes {start + 1}-{last + 1}/*"))
    assert not wanted.answered_by(_answer(206, None))
    assert not wanted.answered_by(_answer(416, f"bytes */{start}"))


@given(st.binary(max_size=60), st.integers(0, 30), st.none() | st.integers(1, 40), st.integers(1, 9), st.booleans())
def test_nothing_beyond_the_range_is_handed_out(
    data: bytes, start: int, length: int | None, piece: int, whole: bool
) -> None:
    begins = 0 if whole else start
    read: list[int] = []

    def arriving() -> Iterator[bytes]:
        for at in range(begins, len(data), piece):
            read.append(at)
            yield data[at : at + piece]

    cut = b"".join(_Range(start=start, length=length).cut(arriving(), begins))
    end = len(data) if length is None else start + length
    assert cut == data[begins:end]
    assert all(at < end for at in read), "nobody reads on"


@pytest.mark.parametrize(("start", "length", "header"), [(0, None, ""), (7, None, "bytes=7-"), (7, 3, "bytes=7-9")])
def test_how_a_range_is_asked_for(start: int, length: int | None, header: str) -> None:
    assert _Range(start=start, length=length).header == header
