# SPDX-License-Identifier: Apache-2.0
"""A verdict on a terminal says whether it still counts."""

from __future__ import annotations

import time

import pytest

from documents.verdict import VERDICT_SECONDS, Finding, Verdict
from vmgate.commands.vm import draw_verdict

PAST = "; past: it may no longer be relied on"


@pytest.mark.parametrize(
    ("made", "expires", "past"),
    [(0, 100, False), (-10, -1, True), (-VERDICT_SECONDS - 10, 0, True), (-VERDICT_SECONDS + 100, 0, False)],
)
def test_a_verdict_that_expired_is_shown_as_past(
    made: int, expires: int, past: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    now = int(time.time())
    found = Finding(check="image", subject="disk", outcome="fail", expected="a", found="b")
    verdict = Verdict(
        subject="desk", level="L0", time=now + made, findings=(found,), expires=now + expires if expires else 0
    )
    draw_verdict(verdict.members(), "")
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "desk: contraindicated, assurance level L0" + (PAST if past else "")
