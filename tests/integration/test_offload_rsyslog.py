# SPDX-License-Identifier: Apache-2.0
"""A real rsyslogd takes what vmgate off-loads, understands its structured data, and its copy proves the chain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.audit import AuditTrail, records
from agent.audit_settings import AuditSettings
from agent.offload.channel import connect
from agent.offload.worker import LONGEST_PAUSE, SETTLE_SECONDS, Offload
from documents.audit import verify_chain
from lab.log_authority import LogAuthority
from lab.rsyslog import Rsyslog

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"


def test_a_real_log_server_goes_and_comes_back(tmp_path: Path) -> None:
    authority = LogAuthority(tmp_path)
    file, key, _ = authority.certificate("server")
    own, own_key, _ = authority.certificate("desk", ("desk-7",), purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    server = Rsyslog(tmp_path / "rsyslog", authority.file, file, key)
    now = [1_800_000_000]
    trail = AuditTrail(tmp_path / "audit", lambda: now[0], BOOT)
    settings = AuditSettings(
        server=f"tls://127.0.0.1:{server.port}", ca_file=str(authority.file), crl_file=str(authority.crl),
        client_cert=str(own), client_key=str(own_key),
    )  # fmt: skip

    def worker(settings: AuditSettings) -> Offload:
        return Offload(
            settings, trail, tmp_path / "audit", tmp_path / "sent", "desk-7", lambda: now[0], connect,
            lambda: float(now[0]),
        )  # fmt: skip

    offload = worker(settings)
    trail.append("vm-start", "refused", "guest", "uid 0", cause='a "quoted" ] and \\ and \u20ac', long="x" * 1_000)
    offload.step()
    first = server.lines(2)[0]
    assert first.startswith('108 desk-7 vmgate vm-start [vmgate@32473 sequence="1" event="vm-start"'), first
    now[0] += int(SETTLE_SECONDS)
    offload.step()
    server.stop()
    for number in range(100):
        trail.append("vm-start", "done", f"guest{number}", "uid 0")
    offload.step()
    server.start()
    now[0] += int(LONGEST_PAUSE)
    offload.step()
    last = trail.head.sequence
    lines = server.lines(last)
    copies = list(dict.fromkeys(line[line.index("] {") + 2 :] for line in lines))
    assert copies == [record.encode().decode() for record in records(tmp_path / "audit")]
    assert verify_chain(copy.encode() for copy in copies) == trail.head
    offload.close()
    nobody = worker(replace(settings, client_cert="", client_key=""))
    before = len(server.lines(last))
    for _ in range(5):
        nobody.step()
        now[0] += 1
    server.stop()
    fresh = server.lines(before)[before:]
    assert all("the agent stops" in line for line in fresh), "who has no certificate says nothing"
