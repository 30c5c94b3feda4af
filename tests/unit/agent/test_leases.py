# SPDX-License-Identifier: Apache-2.0
"""Leases: over by the TPM's clock, by its boots or by the day, never the other way round, and newest first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audit import AuditTrail
from agent.leases import MOST_BOOTS, MOST_SECONDS, Lease, Leases, Moment, Terms, read_lease
from agent.paths import HostPaths
from agent.revocation import LEASE
from agent.set_errors import LeaseWrong
from measure.errors import TpmMissing

UUID = "3e2d9c1a-5b7f-4d21-8c3e-0123456789ab"
TERMS = Terms(seconds=3_600, boots=3, until=2_000)
NOW = Moment(clock=50_000, resets=7, time=1_000)


class Lent:
    """The leases of a host whose TPM and clock are set by hand."""

    def __init__(self, root: Path) -> None:
        self._paths = HostPaths(root)
        self.audit = AuditTrail(self._paths.audit, lambda: 0, "5c0ffee0-1ab0-4e57-8b3d-0123456789ab")
        self.now: Moment | None = NOW
        self.leases = self.another()

    def another(self) -> Leases:
        return Leases(self._paths, self.audit, self.moment)

    def moment(self) -> Moment:
        if self.now is None:
            raise TpmMissing("the TPM does not answer", cause="gone", remedy="mend it")
        return self.now

    def cause(self) -> str:
        """As the present agent knows it, and one that starts now."""
        found = self.leases.cause("demo")
        assert self.another().cause("demo") == found
        return found


@pytest.fixture
def lent(tmp_path: Path) -> Lent:
    return Lent(tmp_path)


def test_a_vm_that_never_had_one_needs_none(lent: Lent) -> None:
    assert lent.cause() == ""
    lent.now = None
    assert lent.cause() == ""


@pytest.mark.parametrize(
    ("now", "over"),
    [
        (NOW, False),
        (replace(NOW, clock=50_000 + 3_600_000), False),
        (replace(NOW, clock=50_001 + 3_600_000), True),
        (replace(NOW, resets=10), False),
        (replace(NOW, resets=11), True),
        (replace(NOW, time=1_999), False),
        (replace(NOW, time=2_000), True),
        (replace(NOW, clock=49_999), True),
        (replace(NOW, resets=6), True),
        (replace(NOW, time=0), False),
    ],
)
def test_it_is_over_by_whatever_is_first(lent: Lent, now: Moment, over: bool) -> None:
    lent.leases.grant("demo", UUID, TERMS, "fleet")
    lent.now = now
    assert lent.cause() == (LEASE if over else "")
    assert lent.leases.cause("other") == ""


def test_without_a_day_only_the_tpm_counts(lent: Lent) -> None:
    lent.leases.grant("demo", UUID, replace(TERMS, until=0), "fleet")
    lent.now = replace(NOW, time=2**39)
    assert lent.cause() == ""


def test_a_new_one_takes_the_place_of_the_old_also_where_it_gives_less(lent: Lent) -> None:
    lent.leases.grant("demo", UUID, TERMS, "fleet")
    lent.leases.grant("demo", UUID, Terms(seconds=0, boots=0), "fleet")
    assert lent.cause() == ""
    lent.now = replace(NOW, clock=50_001)
    assert lent.cause() == LEASE
    lent.leases.grant("demo", UUID, TERMS, "fleet")
    assert lent.cause() == ""


def test_what_cannot_be_known_is_over(lent: Lent) -> None:
    lent.leases.grant("demo", UUID, TERMS, "fleet")
    lent.now = None
    assert lent.cause() == LEASE
    lent.now = NOW
    lent.audit.append("vm-lease", "done", "demo", "fleet", uuid=UUID, seconds="many")
    assert lent.cause() == LEASE


@pytest.mark.parametrize(
    "terms",
    [
        Terms(seconds=-1, boots=0), Terms(seconds=MOST_SECONDS + 1, boots=0), Terms(seconds=0, boots=-1),
        Terms(seconds=0, boots=MOST_BOOTS + 1), Terms(seconds=0, boots=0, until=2**40),
    ],
)  # fmt: skip
def test_terms_out_of_bounds_change_nothing(lent: Lent, terms: Terms) -> None:
    lent.leases.grant("demo", UUID, TERMS, "fleet")
    with pytest.raises(LeaseWrong):
        lent.leases.grant("demo", UUID, terms, "fleet")
    assert lent.cause() == ""


def test_a_fleet_is_asked_for_each_vm_and_may_say_nothing(lent: Lent) -> None:
    class Desk:
        def terms(self, uuid: str) -> Terms | None:
            return Terms(seconds=0, boots=0, until=1) if uuid == UUID else None

    lent.leases.renew(Desk(), {"demo": UUID, "other": "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d99"}, "fleet")
    assert (lent.cause(), lent.leases.cause("other")) == (LEASE, "")


@given(st.dictionaries(st.sampled_from(("seconds", "boots", "until", "clock", "resets", "x")), st.text(max_size=20)))
def test_no_details_do_harm(details: dict[str, str]) -> None:
    found = read_lease(details)
    assert found is None or isinstance(found, Lease)
