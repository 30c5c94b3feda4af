# SPDX-License-Identifier: Apache-2.0
"""The audit trail reaches its log server over TLS: only the right one, whole, in order, whatever breaks meanwhile."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.audit import AuditTrail, records, trail_path, verify
from agent.audit_settings import AuditSettings
from agent.offload.channel import connect
from agent.offload.worker import LONGEST_PAUSE, MAX_AGE, SETTLE_SECONDS, Offload
from documents.audit import GENESIS, AuditHead, AuditRecord, AuditSent, verify_chain
from documents.canonical import encode
from lab.log_authority import LogAuthority
from lab.log_server import Flipper, LogServer, record

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
HOUR = 3_600


class Desk:
    """A host with an audit trail, whose clocks the test sets."""

    def __init__(self, folder: Path, settings: AuditSettings) -> None:
        self.now = 1_800_000_000
        self.directory = folder / "audit"
        self.sent = folder / "audit-sent"
        self.settings = settings
        self.begin()

    def begin(self) -> None:
        """As an agent that was just started."""
        self.trail = AuditTrail(self.directory, lambda: self.now, BOOT)
        self.worker = Offload(
            self.settings, self.trail, self.directory, self.sent, "desk-7", lambda: self.now, connect,
            lambda: float(self.now),
        )  # fmt: skip

    def act(self, count: int) -> None:
        """Things happen."""
        for number in range(count):
            self.trail.append("vm-start", "done", f"guest{number}", "uid 0", note='quote " and ] and \\')

    def step(self, seconds: float = 1) -> None:
        """Time passes, and the worker works."""
        self.now += int(seconds)
        self.worker.step()

    def found(self, event: str) -> list[AuditRecord]:
        """The records of an event."""
        return [record for record in records(self.directory) if record.event == event]

    def settled(self) -> int:
        """Up to which record nothing is sent again."""
        return AuditSent.parse(self.sent.read_bytes()).head.sequence


@pytest.fixture
def authority(tmp_path: Path) -> LogAuthority:
    return LogAuthority(tmp_path)


@pytest.fixture
def server(authority: LogAuthority) -> Iterator[LogServer]:
    file, key, _ = authority.certificate("server")
    server = LogServer(file, key)
    yield server
    server.stop()


def settings_for(server: LogServer, authority: LogAuthority) -> AuditSettings:
    return AuditSettings(
        server=f"tls://127.0.0.1:{server.port}", ca_file=str(authority.file), crl_file=str(authority.crl)
    )


@pytest.fixture
def desk(tmp_path: Path, server: LogServer, authority: LogAuthority) -> Desk:
    return Desk(tmp_path, settings_for(server, authority))


def test_every_record_arrives_as_it_is_in_the_trail(desk: Desk, server: LogServer) -> None:
    desk.act(3)
    desk.step()
    server.wait(4)
    assert [record(message) for message in server.messages] == list(records(desk.directory))
    assert verify_chain(record(message).encode() for message in server.messages) == desk.trail.head
    (opened,) = desk.found("audit-channel-open")
    assert (opened.outcome, dict(opened.details)["peer"]) == ("done", "127.0.0.1")
    assert len(dict(opened.details)["certificate"]) == 64
    assert "connected" in desk.worker.told()


def test_a_server_that_was_gone_gets_all_of_it_in_order(desk: Desk, server: LogServer) -> None:
    """What came before it fell may come twice; nothing else does, and nothing is missing."""
    desk.act(20)
    desk.step()
    server.wait(21)
    server.stop()
    desk.act(30)
    for _ in range(4):
        desk.step(LONGEST_PAUSE)
    assert "records not settled" in desk.worker.told()
    assert [r.outcome for r in desk.found("audit-channel-close")] == ["failed"]
    assert [r.outcome for r in desk.found("audit-channel-open")] == ["done", "failed"], "the same cause is told once"
    received = len(server.messages)
    server.start()
    desk.step(LONGEST_PAUSE)
    last = desk.trail.head.sequence
    server.wait(received + last)
    again = server.sequences()[received:]
    assert again == list(range(1, last + 1)), "from the last record that was settled, which was none"
    for _ in range(3):
        desk.step(SETTLE_SECONDS)
    assert desk.settled() == last
    assert len(server.sequences()) == received + last, "what is settled is not sent again"


def test_a_restarted_agent_goes_on_where_it_was(desk: Desk, server: LogServer) -> None:
    desk.act(5)
    desk.step()
    server.wait(6)
    desk.step(SETTLE_SECONDS)
    desk.worker.close()
    assert dict(desk.found("audit-channel-close")[0].details)["cause"] == "the agent stops"
    assert desk.settled() == 6
    desk.begin()
    desk.act(1)
    desk.step()
    server.wait(9)
    assert server.sequences() == list(range(1, 10))


def test_a_server_that_goes_at_once_is_not_asked_at_once(desk: Desk, server: LogServer) -> None:
    for _ in range(10):
        desk.step()
        server.stop()
        server.start()
    assert len(desk.found("audit-channel-open")) < 6


def test_a_channel_is_opened_anew_to_look_at_the_certificate(
    desk: Desk, server: LogServer, authority: LogAuthority, tmp_path: Path
) -> None:
    """Revoked while the channel is open: the server is refused within a day."""
    desk.step()
    server.wait(1)
    _, _, serial = authority.certificate("other")
    authority.revoke(serial)
    desk.step(MAX_AGE + 1)
    desk.step()
    assert [r.outcome for r in desk.found("audit-channel-open")] == ["done", "done"], "another one's certificate"
    own = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes()).serial_number
    authority.revoke(own)
    desk.step(MAX_AGE + 1)
    desk.step()
    assert [r.outcome for r in desk.found("audit-channel-open")] == ["done", "done", "refused"]


@pytest.mark.parametrize(
    ("defect", "cause"),
    [
        ("name", "its certificate is for 127.0.0.2, logs.example.org and not for 127.0.0.1"),
        ("wildcard", "and not for 127.0.0.1"),
        ("no name", "no subject alternative name"),
        ("expired", "certificate has expired"),
        ("not yet", "certificate is not yet valid"),
        ("client", "unsuitable certificate purpose"),
        ("no purpose", "no extended key usage"),
        ("stranger", "unable to get local issuer certificate"),
        ("revoked", "certificate revoked"),
        ("old list", "CRL has expired"),
        ("explicit curve", "explicit ECC parameters"),
        ("no list", "No such file"),
        ("list of another", "unable to get certificate CRL"),
    ],
)
def test_a_wrong_server_gets_nothing(tmp_path: Path, authority: LogAuthority, defect: str, cause: str) -> None:
    names = {"name": ("127.0.0.2", "logs.example.org"), "wildcard": ("*.0.0.1",), "no name": ()}
    days = {"expired": (-30, -1), "not yet": (1, 30)}
    purposes = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "no purpose": None}
    maker = LogAuthority(tmp_path, "stranger") if defect == "stranger" else authority
    file, key, serial = maker.certificate(
        "server", names.get(defect, ("127.0.0.1",)), days.get(defect, (-1, 30)),
        purposes.get(defect, ExtendedKeyUsageOID.SERVER_AUTH),
    )  # fmt: skip
    if defect == "explicit curve":
        file, key, serial = authority.explicit_curve()
    server = LogServer(file, key)
    settings = settings_for(server, authority)
    if defect == "revoked":
        authority.revoke(serial)
    if defect == "old list":
        authority.revoke(days=(-9, -1))
    if defect == "no list":
        authority.crl.unlink()
    if defect == "list of another":
        settings = replace(settings, crl_file=str(LogAuthority(tmp_path, "stranger").crl))
    desk = Desk(tmp_path, settings)
    desk.act(3)
    desk.step()
    server.stop()
    assert server.messages == []
    (refused,) = desk.found("audit-channel-open")
    assert (refused.outcome, dict(refused.details)["code"]) == ("refused", "AG111")
    assert cause in dict(refused.details)["cause"]
    assert cause in desk.worker.told()
    assert desk.settled() == 0


@pytest.mark.parametrize(
    ("defect", "cause"),
    [
        ("", ""),
        ("middle revoked", "certificate revoked"),
        ("no list of the middle's", "unable to get certificate CRL"),
        ("no list of the root's", "unable to get certificate CRL"),
        ("middle that is no authority", "invalid CA certificate"),
        ("middle without constraints", "invalid CA certificate"),
        ("middle below a root that wants none", "path length constraint exceeded"),
        ("middle that is not sent", "unable to get local issuer certificate"),
        ("damaged signature", "certificate signature failure"),
    ],
)
def test_every_certificate_of_the_path_counts(tmp_path: Path, defect: str, cause: str) -> None:
    """FIA_X509_EXT.1: each is revocable, is vouched for, and may vouch."""
    root = LogAuthority(tmp_path, "root", length=0 if "wants none" in defect else 1)
    constraints = {"middle that is no authority": False, "middle without constraints": None}
    middle = root.below("middle", ca=constraints.get(defect, True))
    file, key, _ = middle.certificate("server")
    if defect == "damaged signature":
        file.write_bytes(damaged(file.read_bytes()))
    if defect != "middle that is not sent":
        file.write_bytes(file.read_bytes() + middle.file.read_bytes())
    if defect == "middle revoked":
        root.revoke(middle.serial)
    lists = [] if "root's" in defect else [root.crl]
    lists += [] if "middle's" in defect else [middle.crl]
    crl = tmp_path / "all.crl"
    crl.write_bytes(b"".join(path.read_bytes() for path in lists))
    server = LogServer(file, key)
    desk = Desk(tmp_path, replace(settings_for(server, root), crl_file=str(crl)))
    desk.step()
    (opened,) = desk.found("audit-channel-open")
    if not cause:
        assert opened.outcome == "done"
        server.wait(1)
    else:
        assert opened.outcome == "refused"
        assert cause in dict(opened.details)["cause"]
        assert server.messages == []
    server.stop()


def damaged(certificate: bytes) -> bytes:
    """The certificate with one bit of its signature's last byte flipped."""
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    return ssl.DER_cert_to_PEM_cert(der[:-1] + bytes([der[-1] ^ 1])).encode()


@pytest.mark.parametrize("untrusted", [b"", b"{}", b"x" * 5_000])
def test_a_damaged_note_of_what_was_sent_costs_nothing(desk: Desk, server: LogServer, untrusted: bytes) -> None:
    desk.act(2)
    desk.sent.write_bytes(untrusted)
    desk.begin()
    assert [record.outcome for record in desk.found("audit-sent")] == ["refused"]
    desk.step()
    server.wait(4)
    assert server.sequences() == [1, 2, 3, 4]


def test_a_server_that_wants_to_know_its_clients(tmp_path: Path, authority: LogAuthority) -> None:
    file, key, _ = authority.certificate("server")
    own, own_key, _ = authority.certificate("desk", ("desk-7",), purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    server = LogServer(file, key, clients=authority.file)
    stranger = Desk(tmp_path / "stranger", settings_for(server, authority))
    stranger.step()
    for _ in range(3):
        stranger.step(LONGEST_PAUSE)
    assert server.messages == []
    known = Desk(
        tmp_path / "known",
        replace(settings_for(server, authority), client_cert=str(own), client_key=str(own_key)),
    )
    known.step()
    server.wait(1)
    server.stop()


def test_a_byte_flipped_on_the_way_ends_the_channel_and_costs_nothing(
    tmp_path: Path, server: LogServer, authority: LogAuthority
) -> None:
    flipper = Flipper(server.port, after=6_000)
    desk = Desk(tmp_path, replace(settings_for(server, authority), server=f"tls://127.0.0.1:{flipper.port}"))
    desk.act(40)
    desk.step()
    assert flipper.flipped.wait(60)
    while not desk.found("audit-channel-close"):
        desk.step(0)
    assert len(server.messages) < 41, "the server took nothing from the flipped byte on"
    desk.step(LONGEST_PAUSE)
    while set(server.sequences()) != set(range(1, desk.trail.head.sequence + 1)):
        desk.step(0)
    seen = {r.sequence: r for r in map(record, server.messages)}
    assert list(seen.values()) == list(records(desk.directory)), "each as it was written"
    assert [r.outcome for r in desk.found("audit-channel-close")] == ["failed"]
    flipper.close()


def test_a_server_that_speaks_no_tls(tmp_path: Path, authority: LogAuthority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        desk = Desk(tmp_path, AuditSettings(server=server, ca_file=str(authority.file), crl_file=str(authority.crl)))

        def answer() -> None:
            line, _ = listener.accept()
            line.sendall(b"220 hello\r\n")
            line.close()

        thread = threading.Thread(target=answer)
        thread.start()
        desk.step()
        thread.join()
    (failed,) = desk.found("audit-channel-open")
    assert (failed.outcome, dict(failed.details)["code"]) == ("failed", "AG110")


def test_silence_becomes_one_alarm(desk: Desk, server: LogServer) -> None:
    desk.step()
    server.stop()
    desk.step(HOUR)
    assert not desk.worker.alarm()
    for _ in range(3):
        desk.step(13 * HOUR)
    assert desk.worker.alarm()
    (alarm,) = desk.found("audit-silence")
    assert dict(alarm.details)["hours"] == "24"
    server.start()
    desk.step(LONGEST_PAUSE)
    assert not desk.worker.alarm()


def test_a_trail_that_was_cut_after_it_was_sent_is_told(desk: Desk, server: LogServer) -> None:
    """Trail and head are put back together to an earlier state: the chain is whole, and what was sent says no."""
    desk.act(2)
    earlier = trail_path(desk.directory).read_bytes(), (desk.directory / "head.json").read_bytes()
    desk.act(3)
    desk.step()
    server.wait(6)
    desk.step(SETTLE_SECONDS)
    desk.worker.close()
    trail_path(desk.directory).write_bytes(earlier[0])
    (desk.directory / "head.json").write_bytes(earlier[1])
    assert verify(desk.directory).sequence == 2
    desk.begin()
    (told,) = desk.found("audit-sent")
    assert (told.outcome, dict(told.details)["sent"]) == ("refused", "6")
    received = len(server.messages)
    desk.step()
    server.wait(received + 4)
    assert server.sequences()[received:] == [1, 2, 3, 4], "the server gets the other trail beside the true one"


def test_a_trail_that_was_rewritten_after_it_was_sent_is_told(desk: Desk, server: LogServer) -> None:
    desk.act(2)
    desk.step()
    server.wait(3)
    desk.step(SETTLE_SECONDS)
    trail_path(desk.directory).unlink()
    (desk.directory / "head.json").write_bytes(encode({"sequence": 0, "hash": GENESIS}))
    AuditTrail(desk.directory, lambda: desk.now, BOOT)
    desk.trail = AuditTrail(desk.directory, lambda: desk.now, BOOT)
    desk.act(3)
    assert verify(desk.directory) != AuditHead()
    desk.begin()
    assert [r.outcome for r in desk.found("audit-sent")] == ["refused"]
