# SPDX-License-Identifier: Apache-2.0
"""Breaking the glass takes days within bounds, a reason, and root; nothing of the host is touched before."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.break_glass import MAX_DAYS, MAX_REASON, BreakGlass
from agent.errors import BadRequest, BreakGlassRefused, NotPermitted
from agent.host import Host
from agent.roles import Permit
from agent.server import Call
from agent.service import Service
from documents.errors import VmgateError
from documents.local_api import Request

NOBODY = cast(Host, None)


def imported(uid: int, **arguments: str) -> None:
    """What the agent does with a request to import; there is no host that it could change."""
    named = {"bundle": "/media/stick/bundle", **arguments}
    request = Request(verb="update/import", arguments=tuple(sorted(named.items())), actor="test")
    call = Call(request, Permit(uid=uid, fresh=uid == 0))
    Service(NOBODY)._import(call)


@given(st.integers(1, MAX_DAYS), st.text("abc äß%/", min_size=1, max_size=MAX_REASON))
def test_days_and_a_reason_come_through(days: int, reason: str) -> None:
    glass = BreakGlass.parse(str(days), reason)
    assert (glass.days, glass.reason) == (days, reason)
    assert glass.details() == {"days": str(days), "reason": reason}


@given(st.text(), st.text())
def test_anything_else_is_refused(days: str, reason: str) -> None:
    with suppress(BreakGlassRefused):
        glass = BreakGlass.parse(days, reason)
        assert 1 <= glass.days <= MAX_DAYS
        assert glass.reason


@pytest.mark.parametrize("days", ["", "0", "-1", "3661", "99999999999", "1.5", "ten", "٣", " 1", "0x10", "1\n"])
def test_days_beyond_the_bounds(days: str) -> None:
    with pytest.raises(BreakGlassRefused, match="nothing was imported") as caught:
        BreakGlass.parse(days, "the line is cut")
    assert "1 to 3660" in caught.value.cause


@pytest.mark.parametrize("reason", ["", "two\nlines", "x" * (MAX_REASON + 1), "\x1b[31m", "\u202e"])
def test_no_reason_that_anybody_could_read(reason: str) -> None:
    with pytest.raises(BreakGlassRefused) as caught:
        BreakGlass.parse("30", reason)
    assert "--reason" in caught.value.remedy


@pytest.mark.parametrize(
    ("uid", "arguments", "error"),
    [
        (1000, {"allow_stale": "30", "reason": "the line is cut"}, NotPermitted),
        (0, {"allow_stale": "30"}, BreakGlassRefused),
        (0, {"reason": "the line is cut"}, BreakGlassRefused),
        (0, {"allow_stale": "0", "reason": "the line is cut"}, BreakGlassRefused),
        (0, {"allow_stale": "30", "reason": "the line is cut", "floor": "0"}, BadRequest),
        (0, {"allow_stale": "30", "reason": "the line is cut", "bundle": "stick/bundle"}, BadRequest),
    ],
    ids=["who is not root", "no reason", "no days", "no day", "another argument", "a path of nobody knows where"],
)
def test_it_is_refused_before_anything_is_looked_at(
    uid: int, arguments: dict[str, str], error: type[VmgateError]
) -> None:
    with pytest.raises(error):
        imported(uid, **arguments)
