# SPDX-License-Identifier: Apache-2.0
"""Which plan counts for a host, what is signed because of it, and what a real client of the repository then takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, update

from documents.assignment import Assignment, Range, read_allowed, told_allowed
from documents.errors import DocumentError
from documents.release import MAX_NUMBER
from fleet import plans, rolling
from fleet.database import Database
from fleet.errors import PlanWrong, StateWrong
from fleet.hosts import set_labels
from fleet.migrate import migrate
from fleet.plans import DAY, Facts, Plan, changes, fitting, plan_of, wanted
from fleet.publishing import Published, publish, published
from fleet.rollouts import PAUSED, RUNNING
from fleet.states import ACTIVE, PENDING, REVOKED, STATES
from fleet.tables import host_audit, hosts, rollouts
from fleet.tables import plans as table
from fleet.trail import records
from lab.fleet import Fleet
from lab.publishing import NOW, PASSPHRASE, Publisher

IDS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(4)]
EVERY = plan_of("every", position=100, label="", allow=["platform", "desktop"], days=90)
BERLIN = plan_of("berlin", position=10, label="site=berlin", allow=["platform=1-2"], days=30)


def facts(host: str = IDS[0], *labels: str, state: str = ACTIVE, locked: bool = False) -> Facts:
    return Facts(host=host, state=state, labels=frozenset(labels), locked=locked)


def test_the_lowest_position_that_fits_counts() -> None:
    assert fitting([EVERY, BERLIN], facts()) == EVERY
    assert fitting([EVERY, BERLIN], facts(IDS[0], "site=berlin")) == BERLIN
    assert fitting([replace(EVERY, position=10), BERLIN], facts(IDS[0], "site=berlin")) == BERLIN, "the first name"
    assert fitting([BERLIN], facts(IDS[0], "site=bern", "site")) is None
    assert fitting([], facts()) is None


@given(state=st.sampled_from([*STATES, "", "trusted"]), locked=st.booleans())
def test_only_active_hosts_are_assigned_anything(state: str, locked: bool) -> None:
    found = wanted([EVERY], facts(state=state, locked=locked), NOW)
    assert (found is None) == (state != ACTIVE)
    if found:
        assert (found.locked, found.channels, found.expires) == (locked, EVERY.channels, NOW + 90 * DAY)


ASSIGNMENTS = st.builds(
    Assignment,
    host=st.sampled_from(IDS),
    channels=st.just(EVERY.channels) | st.just(BERLIN.channels),
    locked=st.booleans(),
    expires=st.integers(NOW - DAY, NOW + 100 * DAY),
)


@given(st.lists(ASSIGNMENTS), st.lists(ASSIGNMENTS))
def test_after_what_is_signed_the_repository_says_what_is_wished(
    ours: list[Assignment], theirs: list[Assignment]
) -> None:
    wishes = {one.host: replace(one, expires=NOW + 90 * DAY) for one in ours}
    before = {one.host: one for one in theirs}
    found = changes(wishes, before, NOW)
    after = {host: one for host, one in before.items() if host not in found.gone}
    after |= {one.host: one for one in found.anew}
    assert {h: replace(one, expires=0) for h, one in after.items()} == {
        h: replace(one, expires=0) for h, one in wishes.items()
    }
    assert all(NOW + 45 * DAY <= one.expires <= NOW + 90 * DAY for one in after.values())
    again = changes(wishes, after, NOW)
    assert (again.anew, again.gone) == ((), ()), "what is done is not done again"


@given(st.builds(lambda low, more: Range(channel="platform", lowest=low, highest=min(low + more, MAX_NUMBER)),
                 st.integers(1, MAX_NUMBER), st.integers(0, MAX_NUMBER)))  # fmt: skip
def test_what_is_told_is_what_is_read(allowed: Range) -> None:
    assert read_allowed(told_allowed(allowed)) == allowed


@given(st.text(max_size=30))
def test_what_people_write_is_a_range_or_refused(text: str) -> None:
    try:
        assert read_allowed(text).lowest <= read_allowed(text).highest
    except DocumentError:
        pass


@pytest.mark.parametrize(
    "more",
    [
        {"name": ""}, {"name": "A"}, {"position": "-1"}, {"position": 10_000}, {"position": "x"}, {"days": "0"},
        {"days": 3_661}, {"label": "site"}, {"label": "=x"}, {"label": "site="}, {"label": "site=\u202e"},
        {"allow": []}, {"allow": ["platform", "platform=2"]}, {"allow": ["platform=2-1"]}, {"allow": ["platform=0"]},
        {"allow": ["*"]},
                {"allow": [f"c{number}" for number in range(17)]},
    ],
)  # fmt: skip
def test_plans_that_are_none(more: dict[str, object]) -> None:
    given_: dict[str, object] = {"name": "p", "position": 1, "label": "", "allow": ["platform"], "days": 1, **more}
    name = str(given_.pop("name"))
    with pytest.raises(PlanWrong):
        plan_of(name, **given_)  # type: ignore[arg-type]


class Site:
    """A fleet's database with two hosts, and a repository whose online keys are at hand."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder}/fleet.db")
        migrate(self.database)
        self.publisher = Publisher(folder / "publisher")
        Fleet(self.publisher)
        for number, host in enumerate(IDS[:2]):
            values = {**EMPTY, "id": host, "name": f"desk-{number}", "ek": str(number)}
            self.database.write(
                lambda connection, values=values: connection.execute(insert(hosts).values(values)) and None
            )

    def put(self, *all_plans: Plan) -> None:
        for plan in all_plans:
            self.database.write(lambda connection, plan=plan: plans.put(connection, plan, "ada", NOW))

    def publish(self, **more: bool) -> Published:
        publisher = self.publisher
        return publish(self.database, publisher.repository, publisher.keys, PASSPHRASE, publisher.now, **more)


EMPTY = {
    "ak": b"", "request_key": b"", "chip": False, "manufacturer": "", "channel": "platform", "enrolled": 0,
    "contact": 0, "version": 1, "seen": b"", "level": "", "release": "", "cause": "", "result": "", "audit_sequence": 0,
    "audit_hash": "0" * 64, "audit_signed": 0, "state": ACTIVE, "status": "", "judged": 0, "expires": 0,
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    found.database.close()


def test_a_difference_is_signed_and_nothing_else(site: Site) -> None:
    assert site.publish() == Published(anew=0, gone=0, bins=0, hosts=0)
    site.put(EVERY, BERLIN)
    site.database.write(lambda connection: set_labels(connection, "desk-1", [("site", "berlin")]) and None)
    assert site.publish().anew == 2
    assert site.publish() == Published(anew=0, gone=0, bins=0, hosts=2)
    with site.database.read() as connection:
        assert published(connection, IDS[1]) == (
            Assignment(host=IDS[1], channels=BERLIN.channels, locked=False, expires=NOW + 30 * DAY), NOW,
        )  # fmt: skip
        assert plans.affected(connection) == ([(BERLIN, 1), (EVERY, 1)], 0)
    site.publisher.now += 20 * DAY
    assert site.publish().anew == 1, "past half of its time"
    site.database.write(lambda connection: plans.lock(connection, "desk-0", "lost", "ada", NOW) and None)
    with pytest.raises(StateWrong):
        site.database.write(lambda connection: plans.lock(connection, "desk-0", "lost", "ada", NOW) and None)
    assert site.publish().anew == 1
    site.database.write(
        lambda connection: connection.execute(update(hosts).where(hosts.c.id == IDS[1]).values(state=REVOKED)) and None
    )
    assert site.publish() == Published(anew=0, gone=1, bins=1, hosts=1)
    with site.database.read() as connection:
        assert published(connection, IDS[1]) is None
        found = published(connection, IDS[0])
        assert found is not None
        assert found[0].locked


def test_a_plan_that_cannot_be_read_stops_all(site: Site) -> None:
    site.put(EVERY)
    site.publish()
    site.database.write(lambda connection: connection.execute(update(table).values(allow="*")) and None)
    with pytest.raises(PlanWrong):
        site.publish()
    with site.database.read() as connection:
        assert published(connection, IDS[0]) is not None


def test_assignments_of_others_go_only_when_that_is_said(site: Site) -> None:
    Fleet.assign(_of(site), "somebodys-host")
    site.put(EVERY)
    with pytest.raises(PlanWrong, match="somebodys-host"):
        site.publish()
    assert site.publish(take_over=True) == Published(anew=2, gone=1, bins=3, hosts=2)


def _of(site: Site) -> Fleet:
    found = Fleet.__new__(Fleet)
    found.publisher = site.publisher
    found._place = (site.publisher.repository, site.publisher.keys, PASSPHRASE)
    return found


def test_a_rollout_goes_on_with_each_publishing_and_stops_when_a_host_went_back(site: Site) -> None:
    site.put(EVERY)
    site.database.write(lambda connection: set_labels(connection, "desk-1", [("ring", "canary")]) and None)
    begun = rolling.made(
        "spring", channel="platform", number=2, label="ring=canary", stages=(0, 100), threshold=5, wait=60, now=NOW
    )
    site.database.write(lambda connection: rolling.start(connection, begun, "ada"))
    for again in (begun, replace(begun, name="other"), replace(begun, number=3)):
        with pytest.raises(PlanWrong):
            site.database.write(lambda connection, again=again: rolling.start(connection, again, "ada"))
    site.publish()
    assert highest(site) == [1, 2], "the canary's turn"
    site.publisher.now += 60 * 60
    assert site.publish().rollouts == 1
    assert highest(site) == [2, 2]
    # A host says in its trail that it went back: nobody else gets the release.
    row = {
        "host": IDS[0],
        "sequence": 1,
        "time": site.publisher.now,
        "event": "update-health",
        "hash": "",
        "record": b"",
    }
    site.database.write(lambda connection: connection.execute(insert(host_audit).values(row)) and None)
    assert site.publish().rollouts == 1
    with site.database.read() as connection:
        (found,) = rolling.known(connection)
        assert (found.state, found.why) == (PAUSED, "1 of 1 hosts failed or went back")
        trail = [(record.event, record.outcome) for record in records(connection, 10)]
    assert trail == [("rollout-step", "done"), ("rollout-step", "failed")]
    assert site.publish().rollouts == 0
    site.database.write(lambda connection: rolling.lead(connection, "spring", "withdraw", "bad", NOW) and None)
    site.publish()
    assert highest(site) == [1, 1]
    with pytest.raises(StateWrong):
        site.database.write(lambda connection: rolling.lead(connection, "spring", "resume", "", NOW) and None)
    site.database.write(lambda connection: rolling.remove(connection, "spring"))
    site.publish()
    assert highest(site) == [MAX_NUMBER, MAX_NUMBER]


def highest(site: Site) -> list[int]:
    """Of the platform, as published for each host."""
    with site.database.read() as connection:
        found = [published(connection, host) for host in IDS[:2]]
    return [one[0].of("platform").highest for one in found if one]  # type: ignore[union-attr]


def test_a_rollout_that_is_damaged_stops_all(site: Site) -> None:
    site.put(EVERY)
    begun = rolling.made("r", channel="platform", number=2, label="", stages=(100,), threshold=5, wait=60, now=NOW)
    site.database.write(lambda connection: rolling.start(connection, begun, "ada"))
    for values in ({"stage": 1}, {"stage": -1}, {"state": "x"}, {"stages": "50"}, {"stages": ""}, {"threshold": 101}):
        good = {"stage": 0, "state": RUNNING, "stages": "100", "threshold": 5}
        change = update(rollouts).values({**good, **values})
        site.database.write(lambda connection, change=change: connection.execute(change) and None)
        with pytest.raises(PlanWrong):
            site.publish()
    with site.database.read() as connection:
        assert published(connection, IDS[0]) is None


def test_waiting_hosts_get_nothing(site: Site) -> None:
    site.put(EVERY)
    site.database.write(lambda connection: connection.execute(update(hosts).values(state=PENDING)) and None)
    assert site.publish().hosts == 0
