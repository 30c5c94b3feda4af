# SPDX-License-Identifier: Apache-2.0
"""Other users of a whole host: each has its role's part of the agent, and the gate judges their starts as any other."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from documents.errors import Exit
from documents.local_api import Request, Response
from lab.callers import Somebody, somebodies
from lab.refusal import unchanged
from lab.world import VM_NAME, World

GUARD = 60
"""Seconds after which an agent that looks every five has failed."""


@pytest.fixture
def ann(world: World) -> Iterator[Somebody]:
    """A user with the VM."""
    (ann,) = somebodies(1)
    world.run("role", "grant", "user", "--user", ann.name, "--vm", VM_NAME)
    deadline = time.monotonic() + GUARD
    while stat.S_IMODE((world.root / "run/vmgate/agent.sock").stat().st_mode) != 0o666:
        assert time.monotonic() < deadline, "the agent does not let others in"
        time.sleep(0.2)
    yield ann
    roles(world).unlink()


def roles(world: World) -> Path:
    return world.root / "etc/vmgate/roles.toml"


def asked(world: World, who: Somebody, verb: str, **arguments: str) -> Response:
    request = Request(verb=verb, arguments=tuple(sorted(arguments.items())), actor="test")
    (response,) = who.ask(world.root / "run/vmgate/agent.sock", request)
    return response


def test_a_user_starts_and_stops_the_own_vm_through_the_gate(world: World, ann: Somebody) -> None:
    response = asked(world, ann, "vm/start", name=VM_NAME)
    assert response.error == ""
    assert response.result["name"] == VM_NAME
    assert world.vm_state() == "running"
    told: Any = asked(world, ann, "vm/list").result["vms"]
    assert [vm["name"] for vm in told] == [VM_NAME]
    assert asked(world, ann, "vm/kill", name=VM_NAME).error == ""
    assert world.vm_state() == "shut off"
    mine = [(r.event, r.outcome, r.subject) for r in world.trail() if r.actor == f"test (uid {ann.uid})"]
    assert mine == [("management", "started", "vm/start"), ("management", "started", "vm/kill")]


@pytest.mark.parametrize("verb", ["update/rollback", "config/approve", "role/grant", "banner/set", "gate/prepare"])
def test_what_is_not_a_users_changes_nothing(world: World, ann: Somebody, verb: str) -> None:
    before = roles(world).read_bytes()
    with unchanged(world):
        response = asked(world, ann, verb)
        assert response.exit == Exit.NOT_PERMITTED
    assert roles(world).read_bytes() == before
    newest = world.trail()[-1]
    assert (newest.event, newest.outcome, newest.subject) == ("management", "refused", verb)
    assert newest.actor == f"test (uid {ann.uid})"


def test_without_its_grant_the_user_is_nobody(world: World, ann: Somebody) -> None:
    roles(world).write_text("# nobody\n")
    with unchanged(world):
        response = asked(world, ann, "vm/start", name=VM_NAME)
    assert response.exit == Exit.NOT_PERMITTED
    assert "has no role on this host" in response.error
