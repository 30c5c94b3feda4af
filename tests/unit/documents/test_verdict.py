# SPDX-License-Identifier: Apache-2.0
"""A verdict follows from its findings, and none at all is a no."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.canonical import Json, encode
from documents.errors import DocumentError
from documents.verdict import VERDICT_SECONDS, Finding, NotTrusted, Verdict
from lab.documents import VERDICTS

STATUSES = ("affirming", "warning", "contraindicated")


def finding(outcome: str, subject: str = "vmm/firmware-code") -> Finding:
    return Finding(check="component-digest", subject=subject, outcome=outcome, expected="aa", found="bb")


def verdict(*outcomes: str, level: str = "L2") -> Verdict:
    findings = tuple(finding(outcome, f"component {number}") for number, outcome in enumerate(outcomes))
    return Verdict(subject="platform", level=level, time=1_800_000_000, findings=findings)


def test_nothing_checked_is_not_trusted() -> None:
    empty = verdict()
    assert empty.status == "contraindicated"
    with pytest.raises(NotTrusted, match="nothing was checked") as caught:
        empty.require_trusted("run `vmgate update rollback`")
    assert caught.value.exit == 5
    assert caught.value.verdict is empty
    assert caught.value.line().startswith("error[DC010]: platform is not trusted; nothing was checked; run ")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (verdict("pass"), "affirming"),
        (verdict("pass", "warn"), "warning"),
        (verdict("pass", level="L1"), "warning"),
        (verdict("pass", level="L0"), "warning"),
        (verdict("pass", "fail"), "contraindicated"),
        (verdict("warn", "fail", level="L0"), "contraindicated"),
    ],
)
def test_status(found: Verdict, status: str) -> None:
    assert found.status == status


def test_first_failure_is_named_and_the_others_are_counted() -> None:
    with pytest.raises(NotTrusted) as caught:
        verdict("pass", "fail", "warn", "fail", "fail").require_trusted("remedy")
    assert caught.value.cause == "component-digest of component 1: expected aa, found bb (and 2 more)"


@given(VERDICTS)
def test_only_failures_and_nothing_stand_in_the_way(found: Verdict) -> None:
    if found.findings and not found.failures():
        found.require_trusted("remedy")
        assert (found.status == "affirming") == (
            found.level == "L2" and all(item.outcome == "pass" for item in found.findings)
        )
    else:
        with pytest.raises(NotTrusted):
            found.require_trusted("remedy")


@given(found=VERDICTS, status=st.sampled_from((*STATUSES, "", "trusted", None, True)))
def test_forged_status_is_refused(found: Verdict, status: Json) -> None:
    value: Any = json.loads(found.encode())
    if status == value["status"]:
        return
    with pytest.raises(DocumentError, match="does not follow from the findings"):
        Verdict.parse(encode({**value, "status": status}))


@pytest.mark.parametrize("level", ["L3", "", "l0", "L0 ", "none"])
def test_unknown_level(level: str) -> None:
    value: Any = json.loads(verdict("pass").encode())
    with pytest.raises(DocumentError):
        Verdict.parse(encode({**value, "level": level}))


@pytest.mark.parametrize(
    "text", ["a\nb", "a\x1b[31mb", "a\x00b", "a\u202eb", "a\u2066b", "a\u200bb", "a\ufeffb", "a\x9bb"]
)
def test_texts_cannot_deceive_a_reader(text: str) -> None:
    """Line ends, terminal codes and what reorders or hides text."""
    value: Any = json.loads(verdict("pass").encode())
    value["findings"][0]["found"] = text
    with pytest.raises(DocumentError, match="not in its form"):
        Verdict.parse(encode(value))


@given(found=VERDICTS, now=st.integers(0, 2**41))
def test_a_verdict_of_another_time_is_trusted_by_nobody(found: Verdict, now: int) -> None:
    expires = found.expires or found.time + VERDICT_SECONDS
    if found.time <= now < expires:
        assert found.is_current(now)
    else:
        with pytest.raises(NotTrusted) as caught:
            found.require_trusted("remedy", now)
        # What failed comes first: it says more.
        assert ("of another time" in caught.value.cause) == (found.status != "contraindicated")


def test_a_verdict_that_says_no_end_has_one() -> None:
    old = verdict("pass")
    assert b"expires" not in old.encode()
    old.require_trusted("remedy", old.time + VERDICT_SECONDS - 1)
    with pytest.raises(NotTrusted):
        old.require_trusted("remedy", old.time + VERDICT_SECONDS)
