# SPDX-License-Identifier: Apache-2.0
"""A fleet that comes back from a backup, with SQLite and with PostgreSQL, and numbers for whoever may have them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from documents.enrolment import EnrolmentRequest
from documents.errors import VmgateError
from documents.management import ADMINISTRATOR
from fleet.copying import _environment, _named
from fleet.errors import DatabaseFailed, FolderExists, FolderWrong
from lab.fleet_service import Caller, Service, serving
from lab.paper_host import PaperHost
from lab.person import OWN_PASSWORD, Person, person
from lab.postgres import Postgres, postgres


@dataclass(frozen=True, slots=True)
class Site:
    """A service with a host, and where its databases are."""

    service: Service
    caller: Caller
    host: PaperHost
    server: Postgres | None

    def moved(self, backup: Path) -> None:
        """Let a backup name another, empty database, as whoever restores on another machine does."""
        if self.server is not None:
            address = self.server.create("again")
            path = backup / "fleet.toml"
            path.write_text(re.sub(r"database = .*", f'database = "{address}"', path.read_text()))


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if getattr(request, "param", "sqlite") == "sqlite":
        with serving(tmp_path / "service") as (service, caller):
            yield _site(service, caller, None)
        return
    with postgres() as server, serving(tmp_path / "service", server.create("fleet")) as (service, caller):
        yield _site(service, caller, server)


def _site(service: Service, caller: Caller, server: Postgres | None) -> Site:
    host = PaperHost(1)
    caller.enrol(host, service.token())
    assert caller.attest(host).status == "warning"
    return Site(service, caller, host, server)


@pytest.mark.parametrize("site", ["sqlite", "postgresql"], indirect=True)
def test_a_fleet_comes_back_and_what_came_after_counts_for_nothing(site: Site, tmp_path: Path) -> None:
    service, caller = site.service, site.caller
    admin = person(service, caller, "ada", ADMINISTRATOR)
    spent, unused = service.token(), service.token()
    service.run("host", "label", site.host.name, "site=berlin")
    service.run("backup", tmp_path / "backup")
    # After it a host joins, and a nonce is given out.
    late = PaperHost(2)
    caller.enrol(late, spent)
    nonce, target = caller.nonce(site.host.id), f"/v1/hosts/{site.host.id}/attestations"
    body = site.host.evidence(nonce).encode()
    headers = site.host.headers(target, body, nonce)
    caller.attest(site.host)
    service.stop()

    site.moved(tmp_path / "backup")
    with Service.at(tmp_path / "again") as again:
        again.run("restore", tmp_path / "backup")
        new = again.start()
        assert again.run("show", site.host.name)["labels"] == {"site": "berlin"}
        assert len(again.run("show", site.host.name)["verdicts"]) == 1
        assert ("fleet-restore", "done", "") in again.events()
        # A host goes on without anybody's help.
        assert new.attest(site.host).status == "warning"
        # What was given out before is worth nothing: request, tokens (one of them was used meanwhile), sessions.
        assert new.refusal("POST", target, body, headers)[1].code == "FL011"
        for token in (spent, unused):
            assert refused_token(new, token) == "FL030"
        other = Person(new, "ada")
        other.cookie = admin.cookie
        assert other.get("/").to.startswith("/login")
        assert other.log_in(OWN_PASSWORD).to == "/"
        # Who joined after it joins anew.
        new.enrol(late, again.token())
        assert new.attest(late).status == "warning"


def refused_token(caller: Caller, token: str) -> str:
    """The code by which a token is refused."""
    request = EnrolmentRequest(token=token, identity=PaperHost(3).identity().encode())
    return caller.refusal("POST", "/v1/enrolments", request.encode())[1].code


def test_what_is_no_backup_makes_no_service(site: Site, tmp_path: Path) -> None:
    service = site.service
    service.run("backup", tmp_path / "backup")
    assert isinstance(service.refused("backup", str(tmp_path / "backup")), FolderExists)
    assert isinstance(service.refused("restore", str(tmp_path / "backup")), FolderExists)
    site.moved(tmp_path / "backup")
    cases: list[tuple[str, type[VmgateError]]] = [("fleet.toml", FolderWrong), ("database.copy", FolderWrong)]
    for missing, error in cases:
        half = tmp_path / f"without-{missing}"
        subprocess.run(["cp", "-a", tmp_path / "backup", half], check=True)
        (half / missing).unlink()
        require_none(half, tmp_path / f"new-{missing}", error)
    spoilt = tmp_path / "spoilt"
    subprocess.run(["cp", "-a", tmp_path / "backup", spoilt], check=True)
    data = (spoilt / "database.copy").read_bytes()
    (spoilt / "database.copy").write_bytes(data[: len(data) // 2])
    require_none(spoilt, tmp_path / "new-spoilt", DatabaseFailed)


def require_none(backup: Path, folder: Path, error: type[VmgateError]) -> None:
    """No service comes of it."""
    assert isinstance(Service.at(folder).refused("restore", str(backup)), error)
    assert not (folder / "fleet.toml").exists()


def test_a_password_of_the_database_is_no_argument() -> None:
    url = make_url("postgresql+psycopg://u:s%40cret@db.example:5433/fleet?sslmode=require")
    assert _named(url) == "postgresql://u@db.example:5433/fleet?sslmode=require"
    assert _environment(url)["PGPASSWORD"] == "s@cret"


def test_numbers_are_for_who_has_the_token(site: Site) -> None:
    token = (site.service.folder / "keys/metrics").read_text().strip()
    for wrong in ("", "Bearer", f"bearer {token}", f"Bearer {token}x", f"Bearer {token[:-1]}", "Basic eA=="):
        status, refusal = site.caller.refusal("GET", "/metrics", headers={"authorization": wrong} if wrong else {})
        assert (status, refusal.code) == (403, "FL066")
    assert ("request-refused", "refused", "FL066") in site.service.events()
    status, body = site.caller.ask("GET", "/metrics", headers={"authorization": f"Bearer {token}"})
    assert status == 200
    told = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    assert told['vmgate_fleet_hosts{standing="trusted"}'] == "1.0"
    assert told['vmgate_fleet_hosts_release{release="platform/1"}'] == "1.0"
    assert told["vmgate_fleet_attestations_total"] == "1.0"
    assert site.host.name not in body.decode()
    site.service.stop()
    (site.service.folder / "keys/metrics").unlink()
    assert site.service.start().refusal("GET", "/metrics")[0] == 404
