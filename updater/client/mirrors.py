# SPDX-License-Identifier: Apache-2.0
"""Several servers of one repository as one source. Metadata comes from the primary alone, content from any.

Who may say what is newest is decided by keys, but who may keep it from us is decided by whom we ask: so a mirror is
never asked for metadata, and can at worst give wrong bytes, which the reader finds out. Mirrors are asked in the order
given and the primary last. One that was unreachable, slow or without a file is asked after those that had fewer such
failures; one whose bytes were rejected is not asked again. Standing is kept for the life of this object, in memory.
Nobody is asked for anything but what is wanted. This module checks no bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain

from updater.client.source import Reply, Source
from updater.errors import NoServerLeft, NotOffered, TimedOut, Unreachable, UpdaterError

CONTENT = ("blobs/", "packs/")
"""How the names of files begin that a mirror may have."""


class _Server:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.failures = 0
        self.rejected = False


class MirroredSource:
    """See ``updater.client.source.Source``.

    A server has answered when its first bytes are there. If it fails after them, that counts against it, and the reader
    learns it as ``Unreachable``, slow or not: to open the file again is to ask the next one.

    Args:
        primary: the repository.
        mirrors: others with the same content, the most wanted first.
    """

    def __init__(self, primary: Source, mirrors: Sequence[Source]) -> None:
        self._primary = primary
        self._servers = [_Server(source) for source in (*mirrors, primary)]
        self._lock = threading.Lock()

    @property
    def offline(self) -> bool:
        """As the primary is."""
        return self._primary.offline

    @contextmanager
    def open(self, name: str, start: int = 0, length: int | None = None) -> Iterator[Reply]:
        """See ``Source.open``.

        Raises:
            NoServerLeft: the bytes of each server were rejected.
        """
        with ExitStack() as stack:
            if not name.startswith(CONTENT):
                yield stack.enter_context(self._primary.open(name, start, length))
                return
            yield self._ask(stack, name, start, length)

    def _ask(self, stack: ExitStack, name: str, start: int, length: int | None) -> Reply:
        """What the first server that answers says."""
        failure: UpdaterError = NoServerLeft(
            "a file was not fetched",
            cause=f"{name}: each server gave bytes that are not what was signed",
            remedy="try another network, or use a bundle",
        )
        for server in self._in_order():
            try:
                with ExitStack() as attempt:
                    reply = attempt.enter_context(server.source.open(name, start, length))
                    untrusted_first = next(reply.untrusted_chunks, b"")
                    stack.push(attempt.pop_all())
            except (Unreachable, TimedOut, NotOffered) as error:
                self._failed(server)
                failure = error
            else:
                chunks = chain((untrusted_first,), self._noting(server, reply.untrusted_chunks))
                return replace(reply, untrusted_chunks=chunks, reject=partial(self._reject, server), server=id(server))
        raise failure

    def _in_order(self) -> list[_Server]:
        with self._lock:
            return sorted((s for s in self._servers if not s.rejected), key=lambda server: server.failures)

    def _noting(self, server: _Server, untrusted_chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from untrusted_chunks
        except (Unreachable, TimedOut) as error:
            self._failed(server)
            broken = Unreachable(error.what, cause=error.cause, remedy=error.remedy)
            with self._lock:
                broken.another = any(not (other is server or other.rejected) for other in self._servers)
            raise broken from error

    def _failed(self, server: _Server) -> None:
        with self._lock:
            server.failures += 1

    def _reject(self, server: _Server) -> bool:
        with self._lock:
            server.rejected = True
            return not all(other.rejected for other in self._servers)
