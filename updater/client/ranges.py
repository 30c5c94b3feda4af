# SPDX-License-Identifier: Apache-2.0
"""Exact ranges of a file of a source. What comes is untrusted; only its length is seen to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from updater.client.source import Source
from updater.errors import NotRanged, PackMalformed, Unreachable
from updater.pack import malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes of a file.

    Attributes:
        untrusted: exactly as many as were asked for.
        reject: to be called when they turn out to be wrong, see ``Reply.reject``.
        server: where they came from, see ``Reply.server``.
    """

    untrusted: bytes
    reject: Callable[[], bool]
    server: int


def read_range(source: Source, name: str, start: int, length: int) -> Part:
    """Read a range.

    Raises:
        NotRanged: the source begins at the beginning, whatever it is asked for; nothing more was read.
        Unreachable: it broke off.
        PackMalformed: so does a bundle, of which no more will come.
        UpdaterError: see ``Source.open``.
    """
    parts: list[bytes] = []
    got = 0
    with source.open(name, start, length) as reply:
        if reply.start != start:
            raise NotRanged(
                "a range was not fetched",
                cause=f"{name}: the server gives whole files only",
                remedy="serve the repository from a web server that knows ranges",
            )
        for untrusted_chunk in reply.untrusted_chunks:
            parts.append(untrusted_chunk[: length - got])
            got += len(parts[-1])
            if got == length:
                return Part(untrusted=b"".join(parts), reject=reply.reject, server=reply.server)
    if source.offline:
        raise malformed(f"{name} of the bundle ends before what is said to be in it")
    raise Unreachable(
        "a file was not fetched",
        cause=f"{name}: {got} of {length} bytes came",
        remedy="try again: it goes on from there",
    )


@contextmanager
def rejecting(reject: Callable[[], bool]) -> Iterator[None]:
    """Put it down to the server when what came from there turns out to be no part of a pack."""
    try:
        yield
    except PackMalformed as error:
        error.another = reject()
        raise
