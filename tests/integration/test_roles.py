# SPDX-License-Identifier: Apache-2.0
"""Every function as every role on a real socket, asked by real other users of this machine (FMT_MOF_EXT.1).

What a role has reaches its handler. All else ends with exit 4 and an audit record, and changes nothing. A script stands
in for pkcheck: polkit is not on every machine.
"""

from __future__ import annotations

import grp
import itertools
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from agent.access import EVENT, REFUSALS, Access
from agent.audit import AuditTrail, records
from agent.client import call
from agent.errors import AgentSaid, NotPermitted
from agent.fresh import Polkit
from agent.host import Host
from agent.paths import HostPaths
from agent.role_file import RoleFile, encode
from agent.roles import FUNCTIONS, LISTS_VMS, STALE, Grant
from agent.server import MAX_OF_ONE, Call, Handler, Server
from agent.service import Service
from documents.audit import AuditRecord
from documents.canonical import Json
from documents.errors import Exit
from documents.local_api import Request
from documents.management import ALL, OWN, ROLES, USER, Function
from lab.callers import BOOT, NOW, Somebody, somebodies
from vmgate import audit_source

GUARD = 60
ARGUMENTS = {
    STALE: {"bundle": "/b", "allow_stale": "30", "reason": "test"},
    "role/grant": {"role": "auditor", "kind": "group", "account": "root"},
    "role/revoke": {"role": "auditor", "kind": "group", "account": "root"},
    "banner/set": {"text": "new"},
    "audit/list": {"last": "10"},
}
"""Of verbs that are answered by the agent's own handler here, and of one that its arguments make another."""


class Agent:
    """A socket with the agent's own check, and handlers that note who reached them.

    Attributes:
        reached: verbs.
        people: by role; and somebody without any, as ``nobody``.
    """

    def __init__(self, root: Path) -> None:
        root.chmod(0o755)
        self.paths = HostPaths(root)
        self.reached: list[str] = []
        self.people: dict[str, Somebody] = dict(zip([*ROLES, "nobody"], somebodies(5), strict=True))
        self.answer = root / "answer"
        self.answer.write_text("0")
        pkcheck = root / "pkcheck"
        pkcheck.write_text(f"#!/bin/sh\nexit $(cat {self.answer})\n")
        pkcheck.chmod(0o755)
        self.audit = AuditTrail(self.paths.audit, itertools.count(NOW).__next__, BOOT)
        self.now = NOW
        access = Access(RoleFile(self.paths.roles), self.audit, lambda: self.now, Polkit(pkcheck), os.getuid())
        # Only what these handlers use of a host is there.
        service = Service(cast(Host, SimpleNamespace(outside=SimpleNamespace(paths=self.paths, audit=self.audit))))
        own: dict[str, Handler] = {
            "role/list": service._role_list,
            "role/grant": service._role_grant,
            "role/revoke": service._role_revoke,
            "banner/set": service._banner_set,
            "audit/list": service._audit_list,
        }
        verbs = {verb.partition("+")[0] for function in FUNCTIONS for verb in function.verbs}
        self.server = Server(self.paths.socket, {verb: self._noting(verb, own.get(verb)) for verb in verbs}, access)
        self._thread = threading.Thread(target=self.server.serve)
        self._thread.start()

    def _noting(self, verb: str, handler: Handler | None) -> Handler:
        def note(call: Call) -> dict[str, Json]:
            self.reached.append(verb)
            return handler(call) if handler else {}

        return note

    def close(self) -> None:
        self.server.close()
        self._thread.join(GUARD)
        assert not self._thread.is_alive()

    def grant_all(self) -> None:
        """One role for each; the user has the VM ``desk``."""
        grants = (
            Grant(role=role, kind="user", name=self.people[role].name, vms=("desk",) if role == USER else ())
            for role in ROLES
        )
        self.write(b"\n".join(encode(grant) for grant in grants))

    def write(self, roles: bytes) -> None:
        self.paths.roles.parent.mkdir(parents=True, exist_ok=True)
        self.paths.roles.write_bytes(roles)
        self.server.look()

    def state(self) -> dict[str, bytes]:
        """Every file of the host but the trail."""
        files = (path for path in self.paths.root.rglob("*") if path.is_file() and self.paths.audit not in path.parents)
        return {str(path): path.read_bytes() for path in files}

    def told(self) -> list[AuditRecord]:
        return list(records(self.paths.audit))


@pytest.fixture
def agent() -> Iterator[Agent]:
    assert os.getuid() == 0, "only root can become other users"
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        agent = Agent(Path(folder))
        yield agent
        agent.close()


def request(verb: str, vm: str = "desk") -> Request:
    arguments = dict(ARGUMENTS.get(verb, {}))
    if verb.startswith("vm/") and verb not in LISTS_VMS:
        arguments["name"] = vm
    return Request(verb=verb.partition("+")[0], arguments=tuple(sorted(arguments.items())), actor="test")


def as_user(who: Somebody, act: Callable[[], bytes]) -> bytes:
    """What an act gives when another user does it, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(who.gid)
            os.setuid(who.uid)
            os.write(writer, act())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read()
    os.waitpid(child, 0)
    return told


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_every_function_as_every_role(agent: Agent, role: str) -> None:
    agent.grant_all()
    who = agent.people[role]
    asked = [(function, verb) for function in FUNCTIONS for verb in function.verbs]
    allowed = [verb for function, verb in asked if function.roles.get(role) in (ALL, OWN)]
    refused = [(function, verb) for function, verb in asked if role not in function.roles]
    assert refused

    state = agent.state()
    responses = who.ask(agent.paths.socket, *(request(verb) for _, verb in refused))
    for (_, verb), response in zip(refused, responses, strict=True):
        assert response.exit == Exit.NOT_PERMITTED, verb
        assert response.error.startswith("error[AG016]: "), verb
        assert response.result == {}
    assert agent.reached == []
    assert agent.state() == state
    told = agent.told()
    assert [(r.event, r.outcome, r.subject) for r in told] == [(EVENT, "refused", verb) for _, verb in refused]
    assert {r.actor for r in told} == {f"test (uid {who.uid})"}
    assert [dict(r.details)["function"] for r in told] == [function.number for function, _ in refused]
    assert all(dict(r.details)["code"] == "AG016" and dict(r.details)["cause"] for r in told)

    responses = who.ask(agent.paths.socket, *(request(verb) for verb in allowed)) if allowed else []
    assert [response.error for response in responses] == [""] * len(allowed)
    assert agent.reached == [verb.partition("+")[0] for verb in allowed]
    changing = [verb for function, verb in asked if verb in allowed and function.changes]
    assert [r.subject for r in agent.told() if (r.event, r.outcome) == (EVENT, "started")] == changing


def test_root_reaches_all_of_it(agent: Agent) -> None:
    for function in FUNCTIONS:
        for verb in function.verbs:
            asked = request(verb)
            call(agent.paths.socket, asked.verb, "test", **dict(asked.arguments))
    assert len(agent.reached) == sum(len(function.verbs) for function in FUNCTIONS)
    assert not [r for r in agent.told() if r.event == EVENT], "what root changes is recorded by what changes it"


def test_a_users_other_vms_are_out_of_reach(agent: Agent) -> None:
    agent.grant_all()
    verbs = [verb for function in FUNCTIONS if function.roles.get(USER) == OWN for verb in function.verbs]
    verbs = [verb for verb in verbs if verb not in LISTS_VMS]
    for response in agent.people[USER].ask(agent.paths.socket, *(request(verb, "vault") for verb in verbs)):
        assert response.exit == Exit.NOT_PERMITTED
        assert "not assigned" in response.error
    assert agent.reached == []
    assert [(r.subject, dict(r.details)["vm"]) for r in agent.told()] == [(verb, "vault") for verb in verbs]


def trusting() -> list[tuple[Function, str]]:
    return [(function, verb) for function in FUNCTIONS if function.fresh for verb in function.verbs]


def test_an_administrator_who_does_not_authenticate_changes_no_trust(agent: Agent) -> None:
    agent.grant_all()
    agent.answer.write_text("3")
    state = agent.state()
    asked = [request(verb) for _, verb in trusting()]
    for response in agent.people["administrator"].ask(agent.paths.socket, *asked):
        assert response.exit == Exit.NOT_PERMITTED
        assert response.error.startswith("error[AG101]: ")
    assert agent.reached == []
    assert agent.state() == state
    assert [(r.outcome, r.subject, dict(r.details)["code"]) for r in agent.told()] == [
        ("refused", verb, "AG101") for _, verb in trusting()
    ]


def test_one_who_does_is_recorded_as_such(agent: Agent) -> None:
    agent.grant_all()
    who = agent.people["administrator"]
    (response,) = who.ask(agent.paths.socket, request("role/grant"))
    assert response.error == ""
    assert response.result == {"role": "auditor", "kind": "group", "name": "root", "vms": []}
    told = [(r.event, r.outcome, r.subject) for r in agent.told()]
    assert told == [
        (EVENT, "started", "role/grant"),
        ("role-grant", "started", "group root"),
        ("role-grant", "done", "group root"),
    ]
    assert dict(agent.told()[0].details)["proof"] == "fresh authentication"
    assert RoleFile(agent.paths.roles).grants()[-1] == Grant(role="auditor", kind="group", name="root")


def test_a_role_that_is_taken_back_is_gone_at_once(agent: Agent) -> None:
    agent.grant_all()
    who, boss = agent.people[USER], agent.people["administrator"]
    taken = {"role": USER, "kind": "user", "account": who.name}
    revoke = Request(verb="role/revoke", arguments=tuple(sorted(taken.items())), actor="test")
    assert [r.error for r in boss.ask(agent.paths.socket, revoke)] == [""]
    (response,) = who.ask(agent.paths.socket, request("vm/start"))
    assert response.exit == Exit.NOT_PERMITTED
    (response,) = boss.ask(agent.paths.socket, revoke)
    assert response.exit == Exit.NOT_FOUND
    told = [(r.event, r.outcome) for r in agent.told() if r.event == "role-revoke"]
    assert told == [("role-revoke", o) for o in ("started", "done", "started", "failed")]


def test_a_role_by_group_ends_with_the_group(agent: Agent) -> None:
    who = agent.people["auditor"]
    group = grp.getgrgid(who.gid).gr_name
    agent.write(encode(Grant(role="auditor", kind="group", name=group)))
    (response,) = who.ask(agent.paths.socket, request("status"))
    assert response.error == ""
    agent.write(encode(Grant(role="auditor", kind="group", name="another-group")))
    (response,) = who.ask(agent.paths.socket, request("status"))
    assert response.exit == Exit.NOT_PERMITTED


def test_a_file_that_others_could_have_written_gives_nobody_a_role(agent: Agent) -> None:
    agent.grant_all()
    agent.paths.roles.chmod(0o666)
    (response,) = agent.people["administrator"].ask(agent.paths.socket, request("status"))
    assert response.exit == Exit.NOT_PERMITTED
    assert "somebody else than root can write" in response.error
    assert [r.outcome for r in agent.told()] == ["refused"]
    assert call(agent.paths.socket, "status", "test") == {}, "root goes on"


def test_the_socket_is_open_to_others_only_while_one_has_a_role(agent: Agent) -> None:
    def mode() -> int:
        return agent.paths.socket.stat().st_mode & 0o777

    assert mode() == 0o600
    agent.grant_all()
    assert mode() == 0o666
    agent.write(b"# nobody any more\n")
    assert mode() == 0o600


def test_while_it_is_roots_alone_others_are_told_so(agent: Agent) -> None:
    """By the command, with exit 4: the kernel lets them not even ask."""

    def act() -> bytes:
        try:
            call(agent.paths.socket, "status", "test")
        except NotPermitted as error:
            return error.line().encode()
        return b"let in"

    told = as_user(agent.people["operator"], act)
    assert told.startswith(b"error[AG016]: the agent was not asked; nobody but root has a role on this host")


def test_no_grant_is_made_to_an_account_that_is_not_there(agent: Agent) -> None:
    with pytest.raises(AgentSaid, match="AG013"):
        call(agent.paths.socket, "role/grant", "test", role="operator", kind="group", account="not-there-yet")
    with pytest.raises(AgentSaid, match="AG100"):
        call(agent.paths.socket, "role/grant", "test", role="user", kind="user", account="root")
    with pytest.raises(AgentSaid, match="AG100"):
        call(agent.paths.socket, "role/grant", "test", role="user", kind="host", account="root")
    assert not agent.paths.roles.exists()


def test_an_auditor_reads_the_trail_without_its_files(agent: Agent) -> None:
    """As `vmgate audit list` does: the files are closed to all but root, and the agent tells."""
    agent.grant_all()
    for text in ("one", "two"):
        call(agent.paths.socket, "banner/set", "test", text=text)
    told = as_user(
        agent.people["auditor"],
        lambda: b"\n".join(record.encode() for record in audit_source.records(agent.paths.root)),
    )
    lines = told.splitlines()
    assert [AuditRecord.parse(line) for line in lines] == agent.told()
    assert len(lines) == 4


@pytest.mark.parametrize("last", ["0", "10001", "-1", "ten", "", "\u0663"])
def test_the_trail_is_told_in_bounds(agent: Agent, last: str) -> None:
    call(agent.paths.socket, "banner/set", "test", text="one")
    with pytest.raises(AgentSaid, match="AG015"):
        call(agent.paths.socket, "audit/list", "test", last=last)
    assert len(call(agent.paths.socket, "audit/list", "test", last="1")["lines"]) == 1  # type: ignore[arg-type]


def test_a_flood_of_refusals_does_not_fill_the_trail(agent: Agent) -> None:
    """More than so many a minute are counted; the count is in the first record after."""
    agent.grant_all()
    who = agent.people["nobody"]
    flood = who.ask(agent.paths.socket, *[request("vm/start")] * (REFUSALS + 20))
    assert {response.exit for response in flood} == {Exit.NOT_PERMITTED}
    assert len(agent.told()) == REFUSALS
    agent.now += 61
    who.ask(agent.paths.socket, request("vm/start"))
    assert dict(agent.told()[-1].details)["unrecorded"] == "20"
    assert len(agent.told()) == REFUSALS + 1


def test_one_user_does_not_take_all_the_agents_time(agent: Agent) -> None:
    """Beyond so many requests at once a user is sent away; root is not."""
    agent.grant_all()
    held = [socket.socket(socket.AF_UNIX) for _ in range(MAX_OF_ONE)]
    who = agent.people["operator"]
    as_user(who, lambda: [held_one.connect(str(agent.paths.socket)) for held_one in held] and b"")
    deadline = time.monotonic() + GUARD
    while agent.server._server._seats[who.uid] < MAX_OF_ONE:  # their threads have yet to take their places
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (response,) = who.ask(agent.paths.socket, request("status"))
    assert response.exit == Exit.NOT_READY
    assert "too many at once" in response.error
    assert call(agent.paths.socket, "status", "test") == {}
    for connection in held:
        connection.close()
