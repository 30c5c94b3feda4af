# SPDX-License-Identifier: Apache-2.0
"""What a host tells of itself is told to its owner, part by part."""

from __future__ import annotations

from dataclasses import fields, replace

from agent.collection import ALWAYS, PARTS, told
from documents.evidence import Evidence
from documents.security_policy import COLLECTED
from lab.boot_logs import MACHINE
from lab.measuring import POLICY
from lab.proving import boot, evidence


def test_every_member_of_the_evidence_is_explained() -> None:
    assert {*ALWAYS, *COLLECTED, "command_line", "identity"} == set(PARTS)
    assert set(PARTS) == {field.name for field in fields(Evidence)}


def test_what_is_told_and_what_is_not_has_its_size_and_its_reason() -> None:
    sent = evidence(boot(1), MACHINE, ima=b"")
    parts = {part["part"]: part for part in told(sent, {"boot_log"})}  # type: ignore[index, call-overload]
    assert parts["boot_log"]["told"] == "by policy"
    assert parts["boot_log"]["bytes"] == len(MACHINE.boot_log())
    assert (parts["ima"]["told"], parts["ima"]["bytes"]) == ("no: the policy does not ask", 0)
    assert {parts[name]["told"] for name in ALWAYS} == {"always"}
    assert all(part["why"] and part["reveals"] for part in parts.values())


def test_a_policy_asks_for_logs_where_there_is_something_to_compare_them_with() -> None:
    for collect, with_image, without in (
        (None, {"boot_log", "ima"}, set()),
        ((), set(), set()),
        (("boot_log",), {"boot_log"}, {"boot_log"}),
        (COLLECTED, set(COLLECTED), set(COLLECTED)),
    ):
        policy = replace(POLICY, collect=collect)
        assert policy.collects(host_image=True) == with_image
        assert policy.collects(host_image=False) == without
