# SPDX-License-Identifier: Apache-2.0
"""From a plan to what a host takes: a real repository on loopback, real clients, and somebody who has the whole fleet.

Whoever has the fleet's database and its online keys chooses among what the channels' offline role lists, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import plans
from fleet.database import Database
from fleet.errors import PlanWrong
from fleet.plans import plan_of
from fleet.publishing import publish
from lab.fleet import Fleet, FleetHost
from lab.fleet_service import Service
from lab.hostile import CHANNELS, Scene, scene
from lab.paper_host import PaperHost
from lab.publishing import PASSPHRASE, Publisher
from updater.errors import Incompatible, NotAssigned
from updater.repository.errors import SignersMissing


class Site:
    """A fleet with one host that follows its assignment, and the repository."""

    def __init__(self, running: Scene, service: Service, folder: Path) -> None:
        self.scene, self.publisher = running, running.publisher
        Fleet(self.publisher)
        self.service = service
        caller = service.start()
        joined = PaperHost(1)
        caller.enrol(joined, self.service.token())
        self.id = joined.id
        self.host = FleetHost(folder / "member", self.publisher.anchor, joined.id)

    def plan(self, *allow: str) -> None:
        """Set the one plan there is, and publish it at the repository's time."""
        self.service.run("assign", "set", "all", *(part for text in allow for part in ("--allow", text)))
        self.publish()

    def publish(self) -> None:
        database: Database = self.service.database()
        try:
            publish(database, self.publisher.repository, self.publisher.keys, PASSPHRASE, self.publisher.now)
        finally:
            database.close()

    def take(self) -> dict[str, int]:
        self.host.apply(self.scene.source, self.publisher.now)
        return self.host.numbers()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with scene(tmp_path) as running, Service(tmp_path / "service") as service:
        yield Site(running, service, tmp_path)


def test_a_host_takes_what_both_the_release_role_and_its_plan_allow(site: Site) -> None:
    site.host.refuses(NotAssigned, site.scene.source, site.publisher.now)
    for number in (2, 3, 4):
        site.publisher.publish_platform(number)
    site.plan("platform=1-3", "desktop")
    assert site.take() == {"platform": 3, "desktop": 1}
    # The rest of the list is not for it, whatever it finds there.
    assert not site.host.update.check(site.scene.source, CHANNELS, now=site.publisher.now).resolution.new
    # A lock holds it where it is, though the plan lets it go on.
    site.service.run("lock", "paper-1", "--reason", "lost")
    site.plan("platform", "desktop")
    assert not site.host.update.check(site.scene.source, CHANNELS, now=site.publisher.now).resolution.new
    site.service.run("unlock", "paper-1")
    site.publish()
    assert site.take() == {"platform": 4, "desktop": 1}
    # Who was revoked takes nothing more.
    site.service.run("host", "revoke", "paper-1", "--reason", "stolen")
    site.publish()
    site.publisher.publish_platform(5)
    site.host.refuses(NotAssigned, site.scene.source, site.publisher.now)
    assert site.host.numbers() == {"platform": 4, "desktop": 1}


def test_a_release_comes_to_a_host_when_it_is_its_turn(site: Site) -> None:
    site.publisher.publish_platform(2)
    which = ("--channel", "platform", "--release", "2", "--stages", "0,100", "--label", "ring=first")
    site.service.run("rollout", "start", "spring", *which)
    site.plan("platform", "desktop")
    assert site.take() == {"platform": 1, "desktop": 1}
    site.service.run("host", "label", "paper-1", "ring=first")
    site.service.run("rollout", "pause", "spring", "--reason", "lunch")
    site.publish()
    assert site.take() == {"platform": 2, "desktop": 1}
    site.service.run("rollout", "withdraw", "spring", "--reason", "bad")
    site.publish()
    # Who has it keeps it: nothing leads back.
    assert not site.host.update.check(site.scene.source, CHANNELS, now=site.publisher.now).resolution.new
    assert site.host.numbers() == {"platform": 2, "desktop": 1}
    (found,) = site.service.run("rollout", "list")["rollouts"]
    assert (found["state"], found["why"]) == ("withdrawn", "bad")
    assert site.service.refused("rollout", "resume", "spring").code == "FL034"


def test_who_has_the_whole_fleet_brings_no_release_and_leads_no_host_back(site: Site) -> None:
    site.publisher.publish_platform(2)
    site.plan("platform", "desktop")
    assert site.take() == {"platform": 2, "desktop": 1}
    site.publisher.publish_platform(3)
    for evil in ("platform=1", "platform=9", "platform=9-2147483647"):
        site.plan(evil, "desktop")
        site.host.refuses(Incompatible, site.scene.source, site.publisher.now)
        assert site.host.numbers() == {"platform": 2, "desktop": 1}
    # Nor does another channel come to a host that follows it not.
    site.plan("platform", "desktop", "backdoor")
    assert site.take() == {"platform": 3, "desktop": 1}


def test_who_has_the_database_alone_publishes_nothing(site: Site, tmp_path: Path) -> None:
    site.publisher.publish_platform(2)
    site.plan("platform=1", "desktop")
    thief = Publisher(tmp_path / "thief")
    Fleet(thief)
    database = site.service.database()
    try:
        evil = plan_of("all", position=0, label="", allow=["platform=2"], days=90)
        database.write(lambda connection: plans.put(connection, evil, "thief", 1))
        with pytest.raises(SignersMissing):
            publish(database, site.publisher.repository, thief.keys, PASSPHRASE, site.publisher.now)
    finally:
        database.close()
    assert site.take() == {"platform": 1, "desktop": 1}


def test_plans_are_refused_and_recorded_as_they_should_be(site: Site) -> None:
    before = site.service.run("assign", "list")
    for words in (("set", "x", "--allow", "*"), ("set", "X", "--allow", "platform"), ("remove", "nothing")):
        assert isinstance(site.service.refused("assign", *words), PlanWrong)
    assert site.service.run("assign", "list") == before
    site.service.run("assign", "set", "all", "--allow", "platform=1")
    secret = site.service.folder / "passphrase"
    secret.write_bytes(PASSPHRASE)
    place = ("publish", site.publisher.repository, "--keys", site.publisher.keys, "--passphrase-file", secret)
    done = {"api_version": 1, "anew": 1, "gone": 0, "bins": 1, "hosts": 1, "rollouts": 0}
    assert site.service.run("assign", *place) == done
    assert site.service.run("assign", *place) == {**done, "anew": 0, "bins": 0}
    site.service.run("assign", "remove", "all")
    kinds = [event for event, _, _ in site.service.events()]
    assert [kind for kind in kinds if kind.startswith("assignment")] == [
        "assignment-set", "assignment-publish", "assignment-remove",
    ]  # fmt: skip
