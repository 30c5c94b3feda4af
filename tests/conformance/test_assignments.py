# SPDX-License-Identifier: Apache-2.0
"""Our assignments as any client with TUF TAP 15 sees them: python-tuf's own updater, fetcher and all, finds them."""

from __future__ import annotations

from pathlib import Path

from tuf.ngclient import Updater

from documents.assignment import Assignment
from documents.host_state import Floor
from keys.anchor import TrustAnchor
from lab.fleet import Fleet, assignment
from lab.hostile import CHANNELS, PATIENT, served
from lab.publishing import DAY, Publisher
from updater.assignment import listed_assignment
from updater.client.http import HttpSource
from updater.client.metadata import refresh

HOSTS = ("7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d21", "a", "desk.example.org", "x" * 63)


def _published(folder: Path) -> Publisher:
    # python-tuf takes the machine's time.
    import time

    publisher = Publisher(folder, now=int(time.time()))
    publisher.publish_platform(1)
    publisher.publish_workload(1)
    Fleet(publisher, bits=11).assign(*HOSTS, *[f"host-{n}" for n in range(30)], platform=(1, 4), desktop=(2, 2))
    return publisher


def test_a_plain_client_finds_every_assignment_through_the_bins(tmp_path: Path) -> None:
    publisher = _published(tmp_path)
    with served(publisher.repository) as server:
        (tmp_path / "plain").mkdir()
        updater = Updater(
            str(tmp_path / "plain"),
            f"{server.url}metadata/",
            bootstrap=publisher.anchor,
        )
        updater.refresh()
        for host in HOSTS:
            target = updater.get_targetinfo(f"assignments/{host}.json")
            assert target is not None
            found = listed_assignment(target)
            assert found == assignment(host, publisher.now + 90 * DAY, platform=(1, 4), desktop=(2, 2))
            # Length and digest are those of the canonical document, so anybody can hold it against them.
            target.verify_length_and_hashes(found.encode())
            assert Assignment.parse(found.encode()) == found
        assert updater.get_targetinfo("releases/platform/current.json") is not None


def test_our_reader_finds_the_same(tmp_path: Path) -> None:
    publisher = _published(tmp_path)
    floor = Floor(time=0, root=1, releases=())
    with served(publisher.repository) as server:
        for host in HOSTS:
            offer = refresh(
                tmp_path / f"state-{host[:8]}",
                TrustAnchor(publisher.anchor),
                HttpSource(server.url, PATIENT),
                ("platform",),
                now=publisher.now,
                floor=floor,
                host=host,
            )
            assert offer.assignment is not None
            assert offer.assignment.host == host
            assert offer.newest == {"platform": 1}
    assert CHANNELS == ("platform", "desktop")
