# SPDX-License-Identifier: Apache-2.0
"""Whoever fails, however often: each server is asked once for a file, and never after its bytes were wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from updater.client.mirrors import MirroredSource
from updater.client.source import Reply
from updater.errors import NoServerLeft, NotOffered, TimedOut, Unreachable, UpdaterError

ERRORS = {"absent": NotOffered, "away": Unreachable, "slow": TimedOut}
BEHAVIOUR = st.sampled_from(["good", "wrong", "absent", "away", "slow", "breaks at once", "breaks", "empty"])
NAMES = st.sampled_from(["blobs/ab/cd", "packs/ab/cd/e", "metadata/1.root.json", "targets/releases/x/current.json"])


def _fault(kind: type[UpdaterError]) -> UpdaterError:
    return kind("a file was not fetched", cause="so it is", remedy="wait")


class Server:
    """A source in memory that behaves as told."""

    offline = False

    def __init__(self) -> None:
        self.behaviour = "good"
        self.asked: list[str] = []

    @contextmanager
    def open(self, name: str, start: int = 0, length: int | None = None) -> Iterator[Reply]:
        self.asked.append(name)
        if self.behaviour in ERRORS:
            raise _fault(ERRORS[self.behaviour])
        yield Reply(start=start, untrusted_chunks=self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        if self.behaviour == "breaks at once":
            raise _fault(TimedOut)
        if self.behaviour == "empty":
            return
        yield b"1"
        if self.behaviour == "breaks":
            raise _fault(TimedOut)
        yield b"2" if self.behaviour == "good" else b"x"


@given(st.integers(0, 3), st.lists(st.tuples(NAMES, st.lists(BEHAVIOUR, min_size=4, max_size=4)), max_size=12))
def test_who_is_asked(mirrors: int, files: list[tuple[str, list[str]]]) -> None:
    servers = [Server() for _ in range(mirrors + 1)]
    *others, primary = servers
    source = MirroredSource(primary, others)  # type: ignore[arg-type]
    rejected: set[Server] = set()
    for name, behaviours in files:
        for server, behaviour in zip(servers, behaviours, strict=False):
            server.behaviour = behaviour
            server.asked.clear()
        anywhere = name.startswith(("blobs/", "packs/"))
        may_answer = [s for s in servers if s not in rejected] if anywhere else [primary]
        answers = [s for s in may_answer if s.behaviour in {"good", "wrong", "breaks", "empty"}]
        try:
            with source.open(name) as reply:
                data = b"".join(reply.untrusted_chunks)
                if anywhere and data != b"12":
                    wrong = next(s for s in servers if s.asked and s in answers)
                    rejected.add(wrong)
                    assert reply.reject() == (rejected != set(servers))
        except NoServerLeft:
            assert anywhere
            assert rejected == set(servers)
        except NotOffered:
            assert not answers
        except (Unreachable, TimedOut):
            assert not answers or "breaks" in {s.behaviour for s in answers}
        else:
            assert answers
        assert all(len(s.asked) <= 1 for s in servers)
        assert [s for s in servers if s.asked and s not in may_answer] == []
        assert sum(1 for s in servers if s.asked and s in answers) <= 1, "nobody is asked after an answer"


def test_who_failed_least_is_asked_first() -> None:
    first, second, primary = Server(), Server(), Server()
    source = MirroredSource(primary, [first, second])  # type: ignore[arg-type]
    order = []
    for behaviours in (("away", "good"), ("good", "slow"), ("good", "good")):
        first.behaviour, second.behaviour = behaviours
        with source.open("blobs/ab/cd") as reply:
            assert b"".join(reply.untrusted_chunks) == b"12"
        order.append([len(server.asked) for server in (first, second, primary)])
    # The second took over; when it failed the primary, which never had, came before the first one's second chance.
    assert order == [[1, 1, 0], [1, 2, 1], [1, 2, 2]]
