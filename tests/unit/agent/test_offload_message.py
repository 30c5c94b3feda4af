# SPDX-License-Identifier: Apache-2.0
"""Records as syslog messages: what a collector reads back is what was recorded, whatever others put into it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.offload.message import SEVERITIES, encode, frame
from documents.audit import GENESIS, OUTCOMES, AuditRecord
from lab.documents import DOCUMENTS

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
ELEMENT = re.compile(r'\[([!#-<>-\\^-~]{1,32})((?: [!#-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*)\]')
PARAM = re.compile(r' ([!#-<>-\\^-~]{1,32})="((?:[^"\\\]]|\\["\\\]])*)"')


def read(message: bytes) -> tuple[list[str], dict[str, dict[str, str]], bytes]:
    """Header fields, structured data by SD-ID, and MSG, by the grammar of RFC 5424 section 6."""
    text = message.decode()
    *head, rest = text.split(" ", 6)
    data: dict[str, dict[str, str]] = {}
    while found := ELEMENT.match(rest):
        data[found[1]] = {name: re.sub(r"\\(.)", r"\1", value) for name, value in PARAM.findall(found[2])}
        rest = rest[found.end() :]
    assert rest.startswith(" ")
    return head, data, rest[1:].encode()


RECORD = AuditRecord(
    sequence=7, time=1_800_000_000, boot=BOOT, event="vm-start", outcome="refused", subject="guest", actor="uid 0",
    details=(("cause", 'a "b" ] \\ c'), ("check", "disk")), previous=GENESIS,
)  # fmt: skip


def test_a_message() -> None:
    head, data, message = read(encode(RECORD, "desk-7"))
    assert head == ["<108>1", "2027-01-15T08:00:00Z", "desk-7", "vmgate", "-", "vm-start"]
    assert data["vmgate@32473"] == {
        "sequence": "7", "event": "vm-start", "outcome": "refused", "subject": "guest", "actor": "uid 0", "boot": BOOT,
        "previous": GENESIS, "hash": RECORD.hash(),
    }  # fmt: skip
    assert data["detail@32473"] == {"cause": 'a "b" ] \\ c', "check": "disk"}
    assert AuditRecord.parse(message) == RECORD


@given(record=DOCUMENTS[AuditRecord], hostname=st.text(max_size=300))
def test_what_is_read_back_is_what_was_recorded(record: AuditRecord, hostname: str) -> None:
    message = encode(record, hostname)
    assert b"\n" not in message
    head, data, body = read(message)
    assert body == record.encode()
    assert data["vmgate@32473"]["subject"] == record.subject
    assert data["vmgate@32473"]["outcome"] == record.outcome
    if all(len(name) <= 32 for name, _ in record.details):
        assert data.get("detail@32473", {}) == dict(record.details)
    assert 1 <= len(head[2]) <= 255
    assert head[2].isascii()


@given(data=st.binary(max_size=2_000))
def test_a_frame(data: bytes) -> None:
    length, _, rest = frame(data).partition(b" ")
    assert (int(length), rest) == (len(data), data)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_a_severity(outcome: str) -> None:
    assert SEVERITIES[outcome] in range(8)
