# SPDX-License-Identifier: Apache-2.0
"""A fleet's service under attack, over real TLS, with SQLite and with PostgreSQL. Hosts' keys are real, their TPMs not.

Each story: what an honest host may, then the attack; it is refused, nobody stands better for it, and it is recorded.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from documents.audit import GENESIS, AuditRecord
from documents.enrolment import Enrolled
from documents.fleet_answers import Appraised, AuditReceipt, AuditUpload, Refusal
from fleet.attestations import count
from fleet.bounds import SMALL
from keys.http_signature import SKEW
from lab.fleet_service import Caller, Service, serving
from lab.paper_host import PaperHost
from lab.postgres import postgres


@dataclass(frozen=True, slots=True)
class Site:
    """A service, the way to it, and a host that it trusts."""

    service: Service
    caller: Caller
    host: PaperHost

    def join(self, number: int, **more: str) -> PaperHost:
        host = PaperHost(number)
        self.caller.enrol(host, self.service.token(*(part for item in more.items() for part in item)))
        return host

    def target(self, host: PaperHost, name: str = "attestations") -> str:
        return f"/v1/hosts/{host.id}/{name}"

    def refused(self, host: PaperHost, body: bytes, headers: dict[str, str], name: str = "attestations") -> str:
        """Send what must be refused; nobody stands better for it, and no verdict is kept. Returns the code."""
        before = self.service.standing(host.name), self.verdicts()
        _, refusal = self.caller.refusal("POST", self.target(host, name), body, headers)
        assert (self.service.standing(host.name), self.verdicts()) == before
        return refusal.code

    def verdicts(self) -> int:
        database = self.service.database()
        try:
            with database.read() as connection:
                return count(connection)
        finally:
            database.close()

    def recorded(self, code: str) -> bool:
        return ("request-refused", "refused", code) in self.service.events()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("fleet") / "service"
    if request.param == "sqlite":
        with serving(folder) as (service, caller):
            yield _site(service, caller)
        return
    with postgres() as server, serving(folder, server.create("fleet"), "--processes", "2") as (service, caller):
        yield _site(service, caller)


def _site(service: Service, caller: Caller) -> Site:
    host = PaperHost(1)
    caller.enrol(host, service.token())
    assert caller.attest(host).status == "warning"
    assert service.standing(host.name) == "trusted"
    return Site(service, caller, host)


def test_a_token_serves_once(site: Site) -> None:
    token, first, second = site.service.token(), PaperHost(10), PaperHost(11)
    proof = first.proof(token, site.caller.offer(first, token)).encode()
    enrolled = site.caller.get(Enrolled, "POST", "/v1/enrolments/proofs", proof)
    # Who did not hear the answer asks again, and is told the same.
    assert site.caller.get(Enrolled, "POST", "/v1/enrolments/proofs", proof) == enrolled
    late = second.proof(token, site.caller.offer(second, token)).encode()
    _, refusal = site.caller.refusal("POST", "/v1/enrolments/proofs", late)
    assert refusal.code == "FL030"
    assert site.service.refused("show", second.name).code == "FL032"
    assert site.recorded("FL030")


def test_tokens_that_do_not_count(site: Site) -> None:
    host, token = PaperHost(12), site.service.token()
    offer = site.caller.offer(host, token)
    listed = site.service.run("token", "list")["tokens"]
    (usable,) = [item["id"] for item in listed if item["state"] == "usable"]
    site.service.run("token", "withdraw", usable)
    _, refusal = site.caller.refusal("POST", "/v1/enrolments/proofs", host.proof(token, offer).encode())
    assert refusal.code == "FL030"
    body = replace(host.proof(token, offer), token="00" * 32).encode()
    assert site.caller.refusal("POST", "/v1/enrolments/proofs", body)[1].code == "FL031"


def test_a_host_that_joins_again_stays_itself_and_cannot_take_a_name(site: Site) -> None:
    host = site.join(13)
    first, again = host.id, site.service.token()
    assert site.caller.enrol(host, again).host == first
    other, token = PaperHost(14), site.service.token("--name", host.name)
    proof = other.proof(token, site.caller.offer(other, token)).encode()
    assert site.caller.refusal("POST", "/v1/enrolments/proofs", proof)[1].code == "FL031"


def test_a_replayed_request_is_refused(site: Site) -> None:
    host = site.host
    nonce = site.caller.nonce(host.id)
    body = host.evidence(nonce).encode()
    headers = host.headers(site.target(host), body, nonce)
    site.caller.get(Appraised, "POST", site.target(host), body, **headers)
    assert site.refused(host, body, headers) == "FL011"
    # Nor does the nonce serve for anything else.
    fresh = host.evidence(nonce).encode()
    assert site.refused(host, fresh, host.headers(site.target(host), fresh, nonce)) == "FL011"
    empty = AuditUpload(records=(), head=b"", key=b"").encode()
    assert site.refused(host, empty, host.headers(site.target(host, "audit"), empty, nonce), "audit") == "FL011"
    assert site.recorded("FL011")


def test_nonces_are_of_one_host_and_of_this_fleet(site: Site) -> None:
    other = site.join(15)
    for nonce in (site.caller.nonce(other.id), bytes(32), b"n" * 32):
        body = site.host.evidence(nonce).encode()
        assert site.refused(site.host, body, site.host.headers(site.target(site.host), body, nonce)) == "FL011"


def test_another_hosts_key_speaks_for_nobody_else(site: Site) -> None:
    other = site.join(16)
    nonce = site.caller.nonce(site.host.id)
    body = site.host.evidence(nonce).encode()
    target = site.target(site.host)
    forged = site.host.headers(target, body, nonce, sign=other.request.raw)
    assert site.refused(site.host, body, forged) == "KY030"
    # Its own signature, on the path of another.
    assert site.refused(site.host, body, other.headers(target, body, nonce)) == "FL033"
    # The attestation key quotes; it proves no request.
    assert site.refused(site.host, body, site.host.headers(target, body, nonce, sign=site.host.ak.raw)) == "KY030"
    assert site.recorded("KY030")


def test_relayed_and_swapped_evidence_is_judged_and_fails(site: Site) -> None:
    """It is the request key's owner who lies: that is kept as a verdict, and it is a no."""
    bad, good = site.join(17), site.join(18)
    nonce = site.caller.nonce(bad.id)
    relayed = good.evidence(nonce).encode()
    found = site.caller.get(
        Appraised, "POST", site.target(bad), relayed, **bad.headers(site.target(bad), relayed, nonce)
    )
    assert found.status == "contraindicated"
    assert site.service.standing(bad.name) == "failed"
    assert "attestation-key" in site.service.run("show", bad.name)["cause"]
    # With the own name on another's quote, and with an old quote.
    for change in ({"ak": bad.ak.public}, {"attest": b"", "signature": b""}):
        nonce = site.caller.nonce(bad.id)
        body = replace(good.evidence(nonce), **change).encode()
        headers = bad.headers(site.target(bad), body, nonce)
        assert site.caller.get(Appraised, "POST", site.target(bad), body, **headers).status == "contraindicated"
    nonce = site.caller.nonce(bad.id)
    old = bad.evidence(site.caller.nonce(bad.id)).encode()
    headers = bad.headers(site.target(bad), old, nonce)
    assert site.caller.get(Appraised, "POST", site.target(bad), old, **headers).status == "contraindicated"
    assert site.service.standing(good.name) == "unknown"
    assert ("host-verdict", "refused", "") in site.service.events()
    # Honest evidence makes it good again.
    assert site.caller.attest(bad).status == "warning"
    assert site.service.standing(bad.name) == "trusted"


def test_what_was_signed_cannot_be_exchanged(site: Site) -> None:
    host = site.host
    nonce = site.caller.nonce(host.id)
    body, other = host.evidence(nonce).encode(), host.evidence(nonce).encode()
    headers = host.headers(site.target(host), body, nonce)
    assert site.refused(host, other, headers) == "KY030"
    assert site.refused(host, body, headers, "audit") == "KY030"
    assert site.refused(host, body, {}) == "KY030"
    # Nothing of it used the nonce up: the honest request still goes through.
    site.caller.get(Appraised, "POST", site.target(host), body, **headers)


@pytest.mark.parametrize("shift", [-SKEW - 60, SKEW + 60])
def test_a_clock_that_is_wrong_is_told_so(site: Site, shift: int) -> None:
    host = site.host
    nonce = site.caller.nonce(host.id)
    body = host.evidence(nonce).encode()
    headers = host.headers(site.target(host), body, nonce, time=int(time.time()) + shift)
    assert site.refused(host, body, headers) == "KY030"


def test_a_revoked_host_is_not_heard_and_does_not_come_back_by_itself(site: Site) -> None:
    host = site.join(19)
    site.caller.attest(host)
    site.service.run("host", "revoke", host.name, "--reason", "stolen")
    assert site.service.standing(host.name) == "revoked"
    nonce = site.caller.nonce(host.id)
    body = host.evidence(nonce).encode()
    assert site.refused(host, body, host.headers(site.target(host), body, nonce)) == "FL033"
    token = site.service.token()
    proof = host.proof(token, site.caller.offer(host, token)).encode()
    assert site.caller.refusal("POST", "/v1/enrolments/proofs", proof)[1].code == "FL031"
    assert site.service.refused("host", "approve", host.name).code == "FL034"
    # Readmitted, it waits; it may ask whether it waits, and no more.
    site.service.run("host", "readmit", host.name)
    nonce = site.caller.nonce(host.id)
    headers = host.headers(site.target(host, "membership"), b"", nonce)
    enrolled = site.caller.get(Enrolled, "POST", site.target(host, "membership"), b"", **headers)
    assert enrolled.state == "pending"
    nonce = site.caller.nonce(host.id)
    body = host.evidence(nonce).encode()
    assert site.refused(host, body, host.headers(site.target(host), body, nonce)) == "FL033"
    site.service.run("host", "approve", host.name)
    # Its verdict of before the theft still runs, since keys and TPM are the same; who fears more removes it.
    assert site.caller.attest(host).status == "warning"


def test_an_unknown_host_hears_what_a_revoked_one_hears(site: Site) -> None:
    stranger = PaperHost(20)
    stranger.id = "11111111-2222-4333-8444-555555555555"
    nonce = site.caller.nonce(stranger.id)
    body = stranger.evidence(nonce).encode()
    _, refusal = site.caller.refusal(
        "POST", site.target(stranger), body, stranger.headers(site.target(stranger), body, nonce)
    )
    assert refusal.code == "FL033"


@pytest.mark.parametrize("text", ["' OR '1'='1", "x'; DROP TABLE hosts; --", "%00", "../../etc", "a" * 3_000, "ä"])
def test_what_is_said_is_never_part_of_a_command(site: Site, text: str) -> None:
    """Names of hosts, in the path and from the administrator; the host is still there afterwards."""
    from urllib.parse import quote

    status, _ = site.caller.refusal("GET", f"/v1/hosts/{quote(text, safe='')}/nonce")
    assert status in (400, 403, 404)
    for arguments in (("show", text), ("host", "revoke", text, "--reason", text)):
        assert site.service.refused(*arguments).code == "FL032"
    site.service.run("hosts", "--label", f"{text}={text}")
    site.service.run("hosts", "--after", text)
    assert site.service.standing(site.host.name) == "trusted"


def test_bodies_that_are_too_large_are_not_read(site: Site) -> None:
    status, refusal = site.caller.refusal("POST", "/v1/enrolments", b"x" * 300_000)
    assert (status, refusal.code) == (413, "FL040")
    status, refusal = site.caller.refusal("POST", site.target(site.host, "membership"), b"x" * (SMALL + 1))
    assert status in (403, 413)
    # Without a length said, in pieces.
    connection = site.caller.connect()
    connection.request(
        "POST", "/v1/enrolments", iter([b"x" * 100_000] * 3), {"Transfer-Encoding": "chunked"}, encode_chunked=True
    )
    response = connection.getresponse()
    assert (response.status, Refusal.parse(response.read()).code) == (413, "FL040")
    connection.close()
    assert site.recorded("FL040")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"\xff", b'{"type":"vmgate.evidence","version":1}'])
def test_what_is_no_document_is_refused(site: Site, body: bytes) -> None:
    assert site.caller.refusal("POST", "/v1/enrolments", body)[1].code == "DC001"
    assert site.caller.refusal("POST", "/v1/enrolments/proofs", body)[1].code == "DC001"
    # Signed, it is evidence that proves nothing.
    host = site.join(21)
    nonce = site.caller.nonce(host.id)
    headers = host.headers(site.target(host), body, nonce)
    assert site.caller.get(Appraised, "POST", site.target(host), body, **headers).status == "contraindicated"


def test_plain_http_gets_no_answer(site: Site) -> None:
    host, port = site.service.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = line.recv(100)
        except ConnectionResetError:
            answer = b""
    assert b"ok" not in answer


def _records(count: int, previous: str = GENESIS, first: int = 1, subject: str = "host") -> list[AuditRecord]:
    made: list[AuditRecord] = []
    for sequence in range(first, first + count):
        record = AuditRecord(
            sequence=sequence,
            time=1_800_000_000,
            boot="00000000-0000-4000-8000-000000000000",
            event="agent",
            outcome="done",
            subject=subject,
            actor="agent",
            details=(),
            previous=previous,
        )
        previous = record.hash()
        made.append(record)
    return made


def _bring(site: Site, host: PaperHost, records: list[AuditRecord], head: bytes = b"", key: bytes = b"") -> str:
    """Bring records; returns the code of the refusal, or nothing."""
    nonce, target = site.caller.nonce(host.id), site.target(host, "audit")
    body = AuditUpload(records=tuple(record.encode() for record in records), head=head, key=key).encode()
    status, found = site.caller.ask("POST", target, body, host.headers(target, body, nonce))
    if status == 200:
        AuditReceipt.parse(found)
        return ""
    return Refusal.parse(found).code


def test_the_fleet_is_the_witness_of_a_trail(site: Site) -> None:
    host, honest = site.join(22), _records(6)
    assert _bring(site, host, honest[:3]) == ""
    assert _bring(site, host, honest[2:4]) == ""
    attacks = {
        "gap": honest[5:],
        "fork": _records(2, previous=honest[2].hash(), first=4, subject="forged"),
        "malformed": [],
    }
    assert _bring(site, host, attacks["gap"]) == "FL050"
    assert _bring(site, host, attacks["fork"]) == "FL050"
    assert _bring(site, host, _records(1, previous="11" * 32, first=5)) == "FL050"
    assert _bring(site, host, honest[4:], head=b"{}", key=b"{}") == "FL050"
    shown = site.service.run("show", host.name)
    assert shown["audit"]["sequence"] == 4
    assert [alarm["kind"] for alarm in reversed(shown["alarms"])] == ["gap", "fork", "fork", "not-signed"]
    assert ("audit-alarm", "failed", "") in site.service.events()
    # What follows is still taken.
    assert _bring(site, host, honest[4:]) == ""
    assert site.service.run("show", host.name)["audit"]["sequence"] == 6


def test_who_reads_the_database_can_neither_enrol_nor_speak_for_a_host(site: Site) -> None:
    token = site.service.token()
    database = site.service.database()
    try:
        with database.read() as connection:
            from sqlalchemy import select

            from fleet.tables import metadata

            rows = [tuple(row) for table in metadata.sorted_tables for row in connection.execute(select(table))]
    finally:
        database.close()
    everything = repr(rows)
    assert token not in everything
    secret = (site.service.folder / "keys/secret").read_bytes()
    assert secret.hex() not in everything
    assert repr(secret) not in everything
    assert "PRIVATE KEY" not in everything
