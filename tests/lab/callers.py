# SPDX-License-Identifier: Apache-2.0
"""Who calls an agent in tests: the real check over a table of the test's own, and real other users of this machine."""

from __future__ import annotations

import itertools
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from agent.access import Access
from agent.audit import AuditTrail
from agent.fresh import Polkit
from agent.role_file import RoleFile
from agent.roles import STALE
from content import durable
from documents.local_api import Request, Response
from documents.management import ADMINISTRATOR, ALL, Function

BOOT = "00000000-0000-4000-8000-000000000000"
NOW = 1_800_000_000
GUARD = 120

CALLER = """
import json, os, socket, sys
path, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lines = json.load(sys.stdin)
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
for line in lines:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        try:
            connection.sendall(line.encode() + b"\\n")
        except BrokenPipeError:
            pass  # sent away unheard; the answer says why
        answer = b""
        while not answer.endswith(b"\\n") and (part := connection.recv(65536)):
            answer += part
    sys.stdout.write(answer.decode())
"""
"""Becomes another user for good, then asks one thing after the other."""


def access_for(folder: Path, verbs: Iterable[str]) -> Access:
    """The check for verbs of a test's own, which all are for administrators; its audit trail lies below ``folder``."""
    function = Function(
        number="T", does="test", sfr="none", roles=MappingProxyType({ADMINISTRATOR: ALL}), verbs=(*verbs, STALE)
    )
    durable.make_directory(folder, 0o755)
    audit = AuditTrail(folder / "trail", itertools.count(NOW).__next__, BOOT)
    roles, prover = RoleFile(folder / "roles.toml"), Polkit(folder / "none")
    return Access(roles, audit, lambda: NOW, prover, os.getuid(), (function,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Somebody:
    """A user of this machine who is not root."""

    name: str
    uid: int
    gid: int

    def ask(self, path: Path, *requests: Request) -> list[Response]:
        """Ask an agent, as this user by the kernel's word."""
        lines = json.dumps([request.encode().decode() for request in requests])
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", CALLER, str(path), str(self.uid), str(self.gid)],
            input=lines, capture_output=True, text=True, check=True, timeout=GUARD,
        )  # fmt: skip
        return [Response.parse(line.encode()) for line in done.stdout.splitlines()]


def somebodies(count: int) -> list[Somebody]:
    """Accounts that every Unix has (``daemon``, ``bin``, ...), no two of one user id."""
    by_uid = {entry.pw_uid: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    chosen = sorted(by_uid.values(), key=lambda entry: entry.pw_uid)[:count]
    if len(chosen) < count:
        raise RuntimeError(f"this machine has fewer than {count} accounts")
    return [Somebody(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid) for entry in chosen]
