# SPDX-License-Identifier: Apache-2.0
"""Where the client gets files from: a web server or a bundle. What comes from there is untrusted. Opens nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from updater.errors import MetadataRefused


def _nobody_else() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The bytes of a file.

    Attributes:
        start: where they begin in the file; 0 if the source cannot begin where it was asked to.
        untrusted_chunks: the bytes, in pieces; may be fewer than were asked for, and without a ``length`` more than the
            file has.
        reject: to be called when they turn out to be wrong, so that the server they came from is not asked again; tells
            whether there is another one to ask.
    """

    start: int
    untrusted_chunks: Iterator[bytes]
    reject: Callable[[], bool] = _nobody_else


class Source(Protocol):
    """A repository as a client sees it. Several threads may use one at a time, each with a reply of its own."""

    @property
    def offline(self) -> bool:
        """Whether what it has cannot become newer: a bundle."""
        ...

    def open(self, name: str, start: int = 0, length: int | None = None) -> AbstractContextManager[Reply]:
        """Open a file of the repository.

        Args:
            name: such as ``metadata/timestamp.json``.
            start: where to begin, in bytes.
            length: how many bytes to ask for, at least 1; nothing for all that follow. No byte beyond them is handed
                out, also when the reply begins at 0.

        Raises:
            NotOffered: the source does not have it.
            Unreachable: the source is not there or broke off; also while reading.
            TimedOut: the source is too slow; also while reading.
        """
        ...


def read(source: Source, name: str, length: int) -> bytes:
    """Read a whole file of which at most ``length`` bytes are wanted.

    Raises:
        MetadataRefused: it has more.
        UpdaterError: see ``Source.open``.
    """
    untrusted_data = b""
    with source.open(name) as reply:
        for chunk in reply.untrusted_chunks:
            untrusted_data += chunk
            if len(untrusted_data) > length:
                raise MetadataRefused(
                    "the update was refused",
                    cause=f"{name} has more than the {length} bytes that were signed for",
                    remedy="try another network or mirror, or ask the publisher",
                )
    return untrusted_data
