# SPDX-License-Identifier: Apache-2.0
"""Somebody copies back an earlier state of the host's folder, and shows it the repository of then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from content.store import ContentStore
from documents.host_state import Floor, Generation
from keys.anchor import TrustAnchor
from lab.publishing import NOW, Publisher
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.floor import Witness
from updater.client.places import Places
from updater.client.transaction import Update
from updater.errors import BelowFloor
from updater.repository.export import export_bundle

CHANNELS = ("platform", "desktop")
LEAST = Floor(time=0, root=1, releases=(("platform", 3),))
"""What the host's TPM vouches for once release 3 was confirmed there."""


class Victim:
    """A host that confirmed 3, and the copies of the day on which it ran 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "publisher").mkdir()
        publisher = Publisher(folder / "publisher")
        publisher.publish_workload(1)
        self.anchor = TrustAnchor(publisher.anchor)
        self.state, self.store = folder / "state", ContentStore(folder / "store")
        for number in (1, 2, 3):
            publisher.publish_platform(number)
            export_bundle(publisher.repository, CHANNELS, folder / f"{number}.bundle")
            host = self.process()
            assert self.apply(host, number) is not None
            host.confirm()
            if number == 1:
                shutil.copytree(self.state, folder / "copy", symlinks=True)

    def process(self, witness: Witness = lambda: None) -> Update:
        """A new process of the agent."""
        self.state.mkdir(exist_ok=True)
        update = Update(Places.below(self.state), self.anchor, self.store, "0.1.0", witness=witness)
        update.recover()
        return update

    def apply(self, host: Update, number: int) -> Generation | None:
        """Import the bundle of a release."""
        with BundleReader(self.folder / f"{number}.bundle") as reader:
            return host.apply(BundleSource(reader), CHANNELS, now=NOW)

    def copy_back(self) -> None:
        """What the attacker does, offline."""
        shutil.rmtree(self.state)
        shutil.copytree(self.folder / "copy", self.state, symlinks=True)


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    found = Victim(tmp_path)
    found.copy_back()
    return found


def test_the_control_a_host_with_files_alone_believes_them(victim: Victim) -> None:
    generation = victim.apply(victim.process(), 2)
    assert generation is not None
    assert generation.platform.number == 2


def test_what_the_tpm_vouches_for_is_the_least(victim: Victim) -> None:
    host = victim.process(lambda: LEAST)
    before = sorted(path.read_bytes() for path in victim.state.rglob("*") if path.is_file() and "tuf" not in path.parts)
    for number in (1, 2):
        with pytest.raises(BelowFloor, match="has confirmed 3"):
            victim.apply(host, number)
    after = sorted(path.read_bytes() for path in victim.state.rglob("*") if path.is_file() and "tuf" not in path.parts)
    assert after == before
    generation = victim.apply(host, 3)
    assert generation is not None
    assert generation.platform.number == 3
    # From then on the file says it again, also where nobody vouches.
    assert dict(Floor.parse((victim.state / "floor").read_bytes()).releases)["platform"] == 3


def test_a_root_below_the_sealed_one_is_refused(victim: Victim) -> None:
    host = victim.process(lambda: Floor(time=0, root=2, releases=()))
    with pytest.raises(BelowFloor, match="root has version 1 and this host has seen 2"):
        victim.apply(host, 3)
