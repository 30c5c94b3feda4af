# SPDX-License-Identifier: Apache-2.0
"""A whole host with a mirror and a limit: what its administrator sees while it fetches, and who was asked for what."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab.hostile import HostileServer, body, served
from lab.publisher import Desk
from lab.world import World, living
from updater.repository.serve import _Handler

LIMIT = 4_000_000
LINE = re.compile(r"fetching [0-9.]+/([0-9.]+) MB (\?|[0-9.]+ [kM]B/s) [0-9:-]+")


@pytest.fixture(scope="module")
def servers(desk: Desk) -> Iterator[tuple[HostileServer, HostileServer]]:
    with served(desk.repository) as primary, served(desk.repository) as mirror:
        yield primary, mirror


@pytest.fixture(scope="module")
def world(desk: Desk, servers: tuple[HostileServer, HostileServer]) -> Iterator[World]:
    primary, mirror = servers
    settings = f'mirrors = ["{mirror.url}"]\nbandwidth = {LIMIT}\n'
    with living("transport", desk, primary.url, settings) as world:
        yield world


def scrambled(handler: _Handler) -> None:
    """The range that was asked for, with other bytes in it."""
    first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
    length = int(last) - int(first) + 1
    body(b"\x5a" * length, 206, Content_Range=f"bytes {first}-{last}/{10**9}")(handler)


def test_an_update_from_a_mirror_within_the_limit(world: World, servers: tuple[HostileServer, HostileServer]) -> None:
    primary, mirror = servers
    names = [str(path.relative_to(world.desk.repository)) for path in world.desk.repository.glob("packs/*/*/frames")]
    # The mirror gives parts of one artifact that are not what was signed; the rest then comes from the repository.
    bad = max(names, key=lambda name: (world.desk.repository / name).stat().st_size)
    mirror.rules[bad] = scrambled
    done = world.host.vmgate("update", "apply", "--progress")
    assert done.exit == 0, done.err
    assert done.out.endswith("generation 1 is confirmed\n")
    lines = done.err.splitlines()
    assert lines
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert {name.partition("/")[0] for name, _ in mirror.requests} <= {"blobs", "packs"}
    # It was left alone afterwards, but for what was under way.
    later = [name for name, _ in mirror.requests][[name for name, _ in mirror.requests].index(bad) :]
    assert set(later) == {bad}
    assert bad in [name for name, _ in primary.requests]
    assert [record.outcome for record in world.trail() if record.event == "update-apply"] == ["started", "done"]


def test_nothing_is_said_in_a_pipe(world: World) -> None:
    done = world.host.vmgate("update", "apply")
    assert (done.exit, done.err) == (0, "")
    assert world.ask("update/progress") == {"running": False, "done": 0, "total": 0}
