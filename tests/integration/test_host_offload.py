# SPDX-License-Identifier: Apache-2.0
"""A whole host whose audit trail goes to a log server: while it works, while the server is away, and over restarts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from documents.audit import verify_chain
from lab.log_authority import LogAuthority
from lab.log_server import LogServer, record
from lab.publisher import Desk
from lab.world import World, folder, living, serving

GUARD = 60


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[LogServer, LogAuthority]]:
    with folder("logs") as place:
        authority = LogAuthority(place)
        file, key, _ = authority.certificate("server")
        server = LogServer(file, key)
        yield server, authority
        server.stop()


@pytest.fixture(scope="module")
def world(desk: Desk, server: tuple[LogServer, LogAuthority]) -> Iterator[World]:
    logs, authority = server
    settings = f"""\
[audit]
server = "tls://127.0.0.1:{logs.port}"
ca_file = "{authority.file}"
crl_file = "{authority.crl}"
"""
    with serving(desk.repository) as url, living("offload", desk, url, settings) as world:
        yield world


def everything_arrives(world: World, logs: LogServer) -> None:
    """Wait until the server's copy is the host's trail, once doubles are taken away."""
    deadline = time.monotonic() + GUARD
    while True:
        trail = world.trail()
        copies = list(dict.fromkeys(record(message).encode() for message in list(logs.messages)))
        if copies == [record.encode() for record in trail]:
            assert verify_chain(copies).sequence == len(trail)
            return
        assert time.monotonic() < deadline, f"{len(copies)} of {len(trail)} records"
        time.sleep(0.2)


def status(world: World, words: str) -> str:
    """The line of the status about the log server, as soon as it has certain words."""
    deadline = time.monotonic() + GUARD
    while True:
        (line,) = [line for line in world.host.vmgate("status").out.splitlines() if line.startswith("audit server")]
        if words in line or time.monotonic() > deadline:
            return line
        time.sleep(0.2)


def test_the_trail_arrives_over_every_stop(world: World, server: tuple[LogServer, LogAuthority]) -> None:
    logs, _ = server
    world.run("update", "apply")
    everything_arrives(world, logs)
    assert f"tls://127.0.0.1:{logs.port}: connected" in status(world, "connected")

    logs.stop()
    assert "Connection refused" in status(world, "Connection refused")
    world.ask("update/pause", until=str(int(time.time()) + 86_400), reason="a fair")
    logs.start()
    everything_arrives(world, logs)

    world.host.kill_agent()
    world.host.start_agent()
    world.run("update", "resume")
    everything_arrives(world, logs)

    world.host.stop_agent()
    last = [(r.event, r.outcome) for r in map(record, logs.messages)][-1]
    assert last == ("agent", "done"), "the agent's own end arrives too"
    world.host.start_agent()
    everything_arrives(world, logs)
    assert world.host.vmgate("audit", "verify").exit == 0
