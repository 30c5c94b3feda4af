# SPDX-License-Identifier: Apache-2.0
"""A fleet's service for tests: the real command on loopback, with TLS of its own, and what hosts ask it.

``Service`` sets one up and starts it; ``Caller`` speaks to it as hosts do, and as they should not.
"""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from click.testing import CliRunner, Result

from documents.document import Document
from documents.enrolment import Enrolled, EnrolmentOffer, EnrolmentRequest
from documents.errors import VmgateError
from documents.fleet_answers import Appraised, NonceGrant, Refusal
from fleet.database import Database
from lab.paper_host import ANCHOR, VENDOR, PaperHost, policy, release
from lab.pem import pem
from lab.publisher import VMGATE
from vmgate.main import cli

D = TypeVar("D", bound=Document)
READY = "vmgate fleet: ready at "
GUARD = 30


class Caller:
    """Speaks to a service over one connection at a time.

    Args:
        url: of the service.
        ca: certificates in PEM that are believed.
    """

    def __init__(self, url: str, ca: Path) -> None:
        parts = urlsplit(url)
        self._where = (parts.hostname or "", parts.port or 443)
        self._context = ssl.create_default_context(cafile=ca)

    def connect(self, seconds: float = GUARD) -> HTTPSConnection:
        """A connection."""
        return HTTPSConnection(*self._where, context=self._context, timeout=seconds)

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of an answer."""
        connection = self.connect()
        try:
            connection.request(method, target, body=body or None, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, kind: type[D], method: str, target: str, body: bytes = b"", **headers: str) -> D:
        """The document that must come."""
        status, found = self.ask(method, target, body, {name.replace("_", "-"): text for name, text in headers.items()})
        assert status == 200, found
        return kind.parse(found)

    def refusal(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, Refusal]:
        """The refusal that must come."""
        status, found = self.ask(method, target, body, headers)
        assert status != 200, found
        return status, Refusal.parse(found)

    def offer(self, host: PaperHost, token: str) -> EnrolmentOffer:
        """The fleet's question to a host that wants to join."""
        request = EnrolmentRequest(token=token, identity=host.identity().encode())
        return self.get(EnrolmentOffer, "POST", "/v1/enrolments", request.encode())

    def enrol(self, host: PaperHost, token: str) -> Enrolled:
        """A host joins."""
        proof = host.proof(token, self.offer(host, token))
        enrolled = self.get(Enrolled, "POST", "/v1/enrolments/proofs", proof.encode())
        host.id = enrolled.host
        return enrolled

    def nonce(self, host: str) -> bytes:
        """Something to answer."""
        return self.get(NonceGrant, "GET", f"/v1/hosts/{host}/nonce").nonce

    def attest(self, host: PaperHost) -> Appraised:
        """A host attests."""
        nonce, target = self.nonce(host.id), f"/v1/hosts/{host.id}/attestations"
        body = host.evidence(nonce).encode()
        status, found = self.ask("POST", target, body, host.headers(target, body, nonce))
        assert status == 200, found
        return Appraised.parse(found)


class Service:
    """One service.

    Args:
        folder: of it; made.
        database: its address.
        more: options of ``fleet init``.
    """

    def __init__(self, folder: Path, database: str = "sqlite:///fleet.db", *more: str) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.run("init", "--listen", "127.0.0.1:0", "--database", database, *more)
        (folder / "roots/software/vendor.pem").write_text(pem(VENDOR.certificate))

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The service of a folder that something else makes."""
        found = cls.__new__(cls)
        found.folder, found._process = folder, None
        return found

    def run(self, *arguments: str | Path) -> dict[str, Any]:
        """A command of the administrator's that must work; returns its result."""
        done = self._invoke(*arguments, "-o", "json")
        if done.exception is not None:
            raise done.exception
        result: dict[str, Any] = json.loads(done.output)
        return result

    def _invoke(self, *arguments: str | Path) -> Result:
        """In this process, where its libraries are loaded already; the guide's test runs the command as people do."""
        return CliRunner(env={"VMGATE_FLEET": str(self.folder)}).invoke(cli, ["fleet", *map(str, arguments)])

    def refused(self, *arguments: str) -> VmgateError:
        """A command that must be refused; returns why."""
        error = self._invoke(*arguments).exception
        assert isinstance(error, VmgateError), error
        return error

    def token(self, *more: str) -> str:
        """A new token."""
        return str(self.run("token", "create", *more)["token"])

    def add_release(self, number: int = 1) -> None:
        """Compare hosts with a release."""
        (self.folder / "release.json").write_bytes(release(number).encode())
        (self.folder / "policy.json").write_bytes(policy())
        (self.folder / "root.json").write_bytes(ANCHOR)
        artifact = ("--artifact", self.folder / "policy.json")
        self.run("reference", "add", self.folder / "release.json", "--anchor", self.folder / "root.json", *artifact)

    def start(self) -> Caller:
        """Start it; returns a way to it."""
        log = (self.folder / "log").open("a")
        self._process = subprocess.Popen(
            [VMGATE, "fleet", "serve", "--folder", self.folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith(READY), (self.folder / "log").read_text()
        self.url = line.removeprefix(READY).strip()
        return Caller(self.url, self.folder / "tls/ca.pem")

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        return process.wait(GUARD)

    def database(self) -> Database:
        """Its database, for looking at."""
        from fleet.settings import FleetFolder

        place = FleetFolder(self.folder)
        return Database(place.database(place.load()))

    def standing(self, name: str) -> str:
        """How a host stands."""
        return str(self.run("show", name)["standing"])

    def events(self) -> list[tuple[str, str, str]]:
        """Event, outcome and code of the fleet's trail, after its chain was verified."""
        records = self.run("audit", "--last", "1000")["records"]
        return [
            (r["event"], r["outcome"], {d["name"]: d["text"] for d in r["details"]}.get("code", "")) for r in records
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop(signal.SIGKILL)


@contextmanager
def serving(folder: Path, database: str = "sqlite:///fleet.db", *more: str) -> Iterator[tuple[Service, Caller]]:
    """A service that runs and has a release to compare hosts with."""
    with Service(folder, database, *more) as service:
        service.add_release()
        yield service, service.start()
