# SPDX-License-Identifier: Apache-2.0
"""A site's own repository on top of its vendor's: two anchors on one host, and what neither can do to the other.

Updates come from bundles here, one for each repository, as on a host without a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from content.store import ContentStore
from documents.errors import VmgateError
from keys.anchor import TrustAnchor
from lab.publishing import NOW, PASSPHRASE, Publisher, platform, workload
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.candidate import Candidate
from updater.client.floor import load_floor
from updater.client.places import Places
from updater.client.site import Site
from updater.client.source import Source
from updater.client.transaction import Update
from updater.errors import Incompatible, MetadataRefused, SiteOverreached, WrongAnchor
from updater.repository.create import create
from updater.repository.export import export_bundle

VENDORS = ("platform", "desktop")
SITES = ("lab",)


class SitePublisher(Publisher):
    """The site's own repository: one channel for its workloads, and one that it should not have."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.repository, self.keys = folder / "own", folder / "own-keys"
        self.anchor = create(self.repository, self.keys, PASSPHRASE, ("lab", "platform"), now=NOW)

    def publish_lab(self, number: int, name: str = "vm/lab", **changes: object) -> None:
        definition, path = self.artifact(name, "definition", b"%s of release %d" % (name.encode(), number))
        image, other = self.artifact("image/lab", "image", b"lab image of release %d" % number)
        self.publish(replace(workload(number, definition, image), channel="lab", **changes), path, other)  # type: ignore[arg-type]


class World:
    """A vendor, a site, and a host that follows both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("vendor", "site", "state"):
            (folder / name).mkdir()
        self.vendor, self.site = Publisher(folder / "vendor"), SitePublisher(folder / "site")
        self.store = ContentStore(folder / "store")
        self.places = Places.below(folder / "state")
        self.followed = Site(
            anchor=TrustAnchor(self.site.anchor),
            channels=SITES,
            tuf=folder / "state/site/tuf",
            floor=folder / "state/site/floor",
        )
        self.host = self.process()

    def process(self) -> Update:
        """A new process of the agent."""
        anchor = TrustAnchor(self.vendor.anchor)
        host = Update(self.places, anchor, self.store, "0.1.0", site=self.followed)
        host.recover()
        return host

    @contextmanager
    def sources(self, *, vendor: bool = True, site: bool = True) -> Iterator[tuple[Source | None, Source | None]]:
        """The bundles of both, or of one."""
        with ExitStack() as stack:
            found: list[Source | None] = [None, None]
            wanted = ((vendor, self.vendor, VENDORS), (site, self.site, SITES))
            for place, (asked, publisher, channels) in enumerate(wanted):
                if asked:
                    stick = self.folder / f"stick-{place}"
                    export_bundle(publisher.repository, channels, stick)
                    found[place] = BundleSource(stack.enter_context(BundleReader(stick)))
            yield found[0], found[1]

    def check(self, *, vendor: bool = True, site: bool = True) -> Candidate:
        with self.sources(vendor=vendor, site=site) as (source, sites):
            return self.host.check(source, VENDORS, now=NOW, site=sites)

    def update(self, *, vendor: bool = True, site: bool = True) -> dict[str, int]:
        """Update from what is asked, and confirm; gives the active releases."""
        with self.sources(vendor=vendor, site=site) as (source, sites):
            candidate = self.host.check(source, VENDORS, now=NOW, site=sites)
            self.host.fetch(candidate, source, site=sites)
            self.host.verify()
            self.host.stage()
            self.host.switch()
            self.host.confirm()
        return self.active()

    def active(self) -> dict[str, int]:
        generation = self.host.active()
        return {release.channel: release.number for release in generation.parsed()} if generation else {}

    def files(self) -> dict[str, bytes]:
        """All that an attack must leave as it was; TUF metadata may be newer."""
        state = self.folder / "state"
        return {
            str(path.relative_to(state)): path.read_bytes()
            for path in state.rglob("*")
            if path.is_file() and "tuf" not in path.parts
        }

    def require_refused(self, error: type[VmgateError], match: str) -> None:
        before = self.files()
        with pytest.raises(error, match=match):
            self.check()
        assert self.files() == before


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.vendor.publish_platform(1)
    definition, path = world.vendor.artifact("vm/desktop", "definition", b"the vendor's")
    world.vendor.publish(workload(1, definition), path)
    world.site.publish_lab(1)
    assert world.update() == {"platform": 1, "desktop": 1, "lab": 1}
    return world


def test_both_bring_what_is_theirs_into_one_generation(world: World) -> None:
    world.vendor.publish_platform(2)
    world.site.publish_lab(2)
    assert world.update() == {"platform": 2, "desktop": 1, "lab": 2}


def test_each_has_its_own_floor(world: World) -> None:
    vendors = load_floor(world.places.floor, TrustAnchor(world.vendor.anchor))
    sites = load_floor(world.followed.floor, world.followed.anchor)
    assert vendors.releases == (("desktop", 1), ("platform", 1))
    assert sites.releases == (("lab", 1),)


@pytest.mark.parametrize("asked", ["vendor", "site"])
def test_one_that_is_not_asked_keeps_what_it_brought(world: World, asked: str) -> None:
    world.vendor.publish_platform(2)
    world.site.publish_lab(2)
    expected = {"platform": 2, "desktop": 1, "lab": 1} if asked == "vendor" else {"platform": 1, "desktop": 1, "lab": 2}
    assert world.update(vendor=asked == "vendor", site=asked == "site") == expected


def test_the_sites_release_waits_for_a_platform_that_it_runs_on(world: World) -> None:
    world.site.publish_lab(2, accepts=(2, 9))
    candidate = world.check()
    assert not candidate.resolution.new
    assert candidate.resolution.held_back == ("lab 2: does not run on platform 1",)
    world.vendor.publish_platform(2)
    assert world.update() == {"platform": 2, "desktop": 1, "lab": 2}


def test_a_site_may_refuse_what_is_not_to_run_on_its_hosts(world: World) -> None:
    data, path = world.vendor.artifact("vmm/host-files", "host-files", b"a VMM that the site does not want")
    world.vendor.publish(platform(2, data), path)
    world.site.publish_lab(2, refused=(data.fsverity,))
    candidate = world.check()
    assert "platform 2: vmm/host-files is refused by its publisher" in candidate.resolution.held_back


def test_the_sites_key_publishes_no_platform(world: World) -> None:
    """Whoever holds all keys of the site says that the channel of its workloads is the platform now."""
    files, path = world.site.artifact("vmm/host-files", "host-files", b"the site's own VMM")
    world.site.publish(platform(2, files, channel="lab"), path)
    world.require_refused(SiteOverreached, "lab 2 of the site is a platform release, and the platform is the vendor's")
    assert world.active() == {"platform": 1, "desktop": 1, "lab": 1}


def test_a_platform_channel_in_the_sites_repository_is_nobodys(world: World) -> None:
    """The host asks the vendor's repository for the vendor's channels, and the site's metadata counts nothing there."""
    files, path = world.site.artifact("vmm/host-files", "host-files", b"the site's own VMM")
    world.site.publish(platform(7, files), path)
    assert not world.check().resolution.new
    assert world.active()["platform"] == 1


def test_the_sites_repository_in_the_place_of_the_vendors_is_refused(world: World) -> None:
    files, path = world.site.artifact("vmm/host-files", "host-files", b"the site's own VMM")
    world.site.publish(platform(7, files), path)
    before = world.files()
    stick = world.folder / "stick"
    export_bundle(world.site.repository, ("platform",), stick)
    with BundleReader(stick) as reader, pytest.raises((WrongAnchor, MetadataRefused)):
        world.host.check(BundleSource(reader), ("platform",), now=NOW)
    assert world.files() == before


def test_the_vendors_name_of_a_vm_is_not_the_sites(world: World) -> None:
    world.site.publish_lab(2, name="vm/desktop")
    world.require_refused(SiteOverreached, "lab 2 of the site brings vm/desktop, which desktop 1 has")


def test_a_name_that_the_vendor_takes_later_holds_the_update_back_and_takes_no_vm_away(world: World) -> None:
    definition, path = world.vendor.artifact("vm/lab", "definition", b"the vendor's, later")
    world.vendor.publish(workload(2, definition), path)
    world.require_refused(SiteOverreached, "lab 1 of the site brings vm/lab, which desktop 2 has")
    assert world.active() == {"platform": 1, "desktop": 1, "lab": 1}


def test_without_the_vendors_there_is_no_first_generation(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.site.publish_lab(1)
    with pytest.raises(Incompatible, match="0 of the channels are platform channels"):
        world.check(vendor=False)


def test_what_was_fetched_came_from_its_own_repository(world: World) -> None:
    """The vendor's bundle has none of the site's blobs, so that nobody else could have brought them."""
    wanted = [a for release in world.host.active().parsed() for a in release.artifacts]  # type: ignore[union-attr]
    assert {"vm/lab", "image/lab", "vm/desktop"} <= {artifact.name for artifact in wanted}
    for artifact in wanted:
        world.store.verify(artifact.fsverity, artifact.length)
