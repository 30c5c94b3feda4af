# SPDX-License-Identifier: Apache-2.0
"""Verdicts as the kernel's audit takes them; what the kernel answers, or that there is none, changes nothing."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kernel_audit import HEADER, MAX_MESSAGE, VIRT_INTEGRITY_CHECK, KernelAudit, answer, encode, is_verdict
from documents.audit import GENESIS, OUTCOMES, AuditRecord

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"


def record(event: str, outcome: str, subject: str = "guest", **details: str) -> AuditRecord:
    return AuditRecord(
        sequence=7, time=1_800_000_000, boot=BOOT, event=event, outcome=outcome, subject=subject, actor="uid 0",
        details=tuple(sorted(details.items())), previous=GENESIS,
    )  # fmt: skip


def text(message: bytes) -> str:
    length, kind, flags, sequence, port = HEADER.unpack_from(message)
    assert (length, kind, flags, sequence, port) == (len(message), VIRT_INTEGRITY_CHECK, 5, 3, 0)
    assert message.endswith(b"\0")
    return message[HEADER.size : -1].decode("ascii")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            record("vm-start", "started", verdict="affirming"),
            'op=vm-start vm="guest" record=7 verdict="affirming" res=success',
        ),
        (
            record("vm-start", "refused", check="disk"),
            'op=vm-start vm="guest" record=7 verdict="refused" check="disk" res=failed',
        ),
        (
            record("platform-appraisal", "refused", "platform", verdict="contraindicated"),
            'op=platform-appraisal object="platform" record=7 verdict="contraindicated" res=failed',
        ),
        (
            record("vm-start", "refused", 'a" res=success', check="way-in"),
            'op=vm-start vm=6122207265733D73756363657373 record=7 verdict="refused" check="way-in" res=failed',
        ),
    ],
)
def test_a_verdict(told: AuditRecord, expected: str) -> None:
    assert is_verdict(told)
    assert text(encode(told, 3)) == expected


@given(subject=st.text(max_size=300), outcome=st.sampled_from(OUTCOMES), check=st.text(max_size=1_000))
def test_whatever_others_say_it_is_one_record(subject: str, outcome: str, check: str) -> None:
    subject, check = subject.encode(errors="replace").decode(), check.encode(errors="replace").decode()
    message = encode(record("vm-start", outcome, subject, check=check), 3)
    assert len(message) <= HEADER.size + MAX_MESSAGE + 1
    words = text(message).split(" ")
    assert words[0] == "op=vm-start"
    assert [word for word in words if word.startswith("res=")] == words[-1:]


@pytest.mark.parametrize(
    ("event", "outcome", "verdict"),
    [
        ("vm-start", "done", False),
        ("vm-start", "failed", False),
        ("vm-stop", "done", False),
        ("platform-appraisal", "done", True),
    ],
)
def test_what_is_a_verdict(event: str, outcome: str, verdict: bool) -> None:
    assert is_verdict(record(event, outcome)) is verdict


@pytest.mark.parametrize("number", [0, 1, 22, 111])
def test_an_answer(number: int) -> None:
    assert answer(HEADER.pack(36, 2, 0, 3, 0) + struct.pack("=i", -number) + bytes(16)) == number


@pytest.mark.parametrize("untrusted", [b"", bytes(19), HEADER.pack(20, 3, 0, 3, 0) + bytes(4)])
def test_no_answer(untrusted: bytes) -> None:
    with pytest.raises(ValueError, match="t"):
        answer(untrusted)


def test_this_machines_kernel_says_yes_or_no_and_nothing_breaks() -> None:
    """Where it takes records (CAP_AUDIT_WRITE, audit built in), it says yes to the form; else it is not asked again."""
    kernel = KernelAudit()
    kernel.tell(record("vm-start", "refused", check="a-test-of-vmgate"))
    refused = kernel.refused
    kernel.tell(record("vm-start", "refused", check="a-test-of-vmgate"))
    assert kernel.refused == refused
    assert "EINVAL" not in refused, "the form is wrong"
