# SPDX-License-Identifier: Apache-2.0
"""A host brings its trail to its fleet, whatever that still has of it: the fleet's own intake, over a database."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import delete, func, insert, select, update

from agent.audit import AuditTrail, records
from agent.membership.errors import FleetRefused, TrailBehind
from agent.membership.link import Link
from agent.membership.witness import Witness
from agent.paths import HostPaths
from documents.audit import GENESIS, AuditHead
from documents.fleet_answers import AuditReceipt, AuditUpload
from fleet.database import Database
from fleet.intake import take_in
from fleet.migrate import migrate
from fleet.minting import Answered
from fleet.tables import alarms, host_audit, hosts
from fleet.trail import Trail

NOW = 1_800_000_000
HOST = "00000000-0000-4000-8000-000000000001"
ROW = {
    "id": HOST, "name": "desk", "ek": "1", "ak": b"", "request_key": b"", "chip": False, "manufacturer": "",
    "channel": "platform", "enrolled": 0, "contact": 0, "version": 1, "seen": b"", "level": "", "release": "",
    "cause": "", "result": "", "audit_sequence": 0, "audit_hash": GENESIS, "audit_signed": 0, "state": "active",
    "status": "", "judged": 0, "expires": 0,
}  # fmt: skip


class Line:
    """The way to a fleet, without the network and signatures between."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def signed(self, name: str, make: Callable[[bytes], bytes], _kind: Any) -> AuditReceipt:
        upload, answered = AuditUpload.parse(make(b"")), Answered(head=uuid.uuid4().bytes, expires=NOW + 300)
        trail = Trail(str(uuid.uuid4()))
        outcome = self.database.write(lambda connection: take_in(connection, HOST, upload, answered, trail, NOW))
        if outcome.refusal is not None:
            raise FleetRefused("the fleet said no", cause=outcome.refusal.cause, remedy="-")
        return outcome.receipt


class Site:
    """A host with a trail, and its fleet."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.paths, self.database = HostPaths(folder), database
        self.trail = AuditTrail(self.paths.audit, lambda: NOW, str(uuid.uuid4()))
        self.witness, self.line = Witness(self.paths), cast("Link", Line(database))

    def write(self, count: int) -> None:
        for _ in range(count):
            self.trail.append("agent-start", "done", "host", "init")

    def bring(self) -> int:
        last = list(records(self.paths.audit))[-1]
        return self.witness.bring(self.line, AuditHead(sequence=last.sequence, hash=last.hash())).sequence

    def count(self, table: Any) -> int:
        with self.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def forget_after(self, sequence: int) -> None:
        """What a restored fleet no longer has."""
        with self.database.read() as connection:
            kept = connection.execute(
                select(host_audit.c.hash).where(host_audit.c.sequence == sequence)
            ).scalar_one_or_none()
        values = {"audit_sequence": sequence, "audit_hash": kept or GENESIS}

        def job(connection: Any) -> None:
            connection.execute(delete(host_audit).where(host_audit.c.sequence > sequence))
            connection.execute(update(hosts).values(values))

        self.database.write(job)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    database = Database(f"sqlite:///{tmp_path}/fleet.db")
    migrate(database)
    database.write(lambda connection: connection.execute(insert(hosts).values(ROW)) and None)
    yield Site(tmp_path / "host", database)
    database.close()


def test_what_is_missing_is_brought_and_nothing_twice(site: Site) -> None:
    site.write(5)
    assert site.bring() == 5
    assert site.bring() == 5
    site.write(2)
    assert site.bring() == 7
    assert site.count(host_audit) == 7
    assert site.count(alarms) == 0


def test_a_fleet_that_came_back_gets_what_it_lost(site: Site) -> None:
    site.write(5)
    assert site.bring() == 5
    site.forget_after(3)
    site.write(1)
    # The host believes that the fleet has five: there is a gap, which is told once.
    with pytest.raises(FleetRefused):
        site.bring()
    assert site.count(alarms) == 1
    assert site.bring() == 6
    assert site.count(host_audit) == 6
    assert site.count(alarms) == 1


def test_a_fleet_that_has_more_gets_nothing(site: Site) -> None:
    site.write(5)
    assert site.bring() == 5
    with pytest.raises(TrailBehind):
        site.witness.bring(site.line, AuditHead(sequence=4, hash=GENESIS))
    assert site.count(host_audit) == 5
