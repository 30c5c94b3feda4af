# SPDX-License-Identifier: Apache-2.0
"""What may be removed from a repository, and what never is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from documents.errors import Exit
from lab.counting import stamps
from lab.crash import crash_points
from lab.fleet import Fleet
from lab.hostile import CHANNELS, Host, served
from lab.publishing import DAY, NOW, PASSPHRASE, Publisher, workload
from updater.client.http import HttpSource
from updater.repository.chain import load_chain
from updater.repository.collect import Collected, collect
from updater.repository.errors import RepositoryDamaged
from updater.repository.release import LISTED, publish
from updater.repository.verify import verify_repository
from vmgate.main import run

LATER = NOW + 8 * DAY


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Many releases of one artifact each, and one artifact that all have."""
    publisher = Publisher(tmp_path)
    publisher.publish_platform(1)
    shared, path = publisher.artifact("image/shared", "image", b"in every release")
    for number in range(1, LISTED + 4):
        own, own_path = publisher.artifact("image/own", "image", b"of release %d" % number)
        publisher.publish(workload(number, shared, own), path, own_path)
    _write_at(publisher.repository, NOW)
    return publisher


def _write_at(repository: Path, now: int) -> None:
    """As if all of it had been written then."""
    for path in repository.rglob("*"):
        os.utime(path, (now, now))


def test_only_what_is_listed_no_longer_is_removed(publisher: Publisher) -> None:
    repository = publisher.repository
    before = set(stamps(repository))
    verified = verify_repository(repository, now=NOW)
    (repository / "blobs/ab").mkdir(exist_ok=True)
    (repository / "blobs/ab" / "ab.something-else").write_bytes(b"not ours")
    found = collect(repository, now=LATER)
    gone = before - set(stamps(repository))
    assert (found.releases, found.blobs) == (3 + LISTED + 2, 3)  # numbers 1 to 3, and all earlier `current`
    assert len(gone) == found.metadata + found.releases + found.blobs
    assert verify_repository(repository, now=NOW) == verified
    chain = load_chain(repository)
    left = sorted(path.name for path in (repository / "metadata").iterdir())
    current = (chain.root, chain.targets, chain.snapshot, chain.timestamp, *chain.releases.values())
    assert left == sorted(held.name.rpartition("/")[2] for held in current)
    assert (repository / "blobs/ab/ab.something-else").exists()
    assert collect(repository, now=LATER) == Collected(metadata=0, releases=0, blobs=0, length=0)
    # Publishing goes on, with the artifact that stayed.
    publisher.publish_workload(LISTED + 4)


def test_what_is_young_stays(publisher: Publisher) -> None:
    before = stamps(publisher.repository)
    assert collect(publisher.repository, now=NOW + 6 * DAY) == Collected(metadata=0, releases=0, blobs=0, length=0)
    assert stamps(publisher.repository) == before


def test_what_was_replaced_lately_stays_however_old_it_is(publisher: Publisher) -> None:
    """A host may still hold the timestamp of a moment ago: all that it leads to stays for a week."""
    repository = publisher.repository
    collect(repository, now=LATER)
    verified = verify_repository(repository, now=NOW)
    before = set(stamps(repository))
    publisher.now = LATER
    publisher.publish_workload(LISTED + 4)
    for path in set(repository.rglob("*")):
        if str(path.relative_to(repository)) not in before:
            os.utime(path, (LATER, LATER))
    assert collect(repository, now=LATER + 6 * DAY) == Collected(metadata=0, releases=0, blobs=0, length=0)
    assert before - {"metadata/timestamp.json"} <= set(stamps(repository))
    found = collect(repository, now=LATER + 7 * DAY)
    # Snapshot and role; the release that fell off the list and the former `current`; its own artifact.
    assert (found.metadata, found.releases, found.blobs) == (2, 2, 1)
    assert verify_repository(repository, now=LATER).releases == verified.releases


def test_hosts_new_and_old_find_all_they_need(publisher: Publisher, tmp_path: Path) -> None:
    Fleet(publisher).assign("h")
    with served(publisher.repository) as server:
        source = HttpSource(server.url)
        old = Host(tmp_path / "old", publisher.anchor)
        assert old.apply(source, NOW) is not None
        publisher.publish_workload(LISTED + 4)
        _write_at(publisher.repository, NOW)
        collect(publisher.repository, now=LATER)
        assert old.apply(source, NOW) is not None
        assert Host(tmp_path / "new", publisher.anchor).apply(source, NOW) is not None
    assert CHANNELS == ("platform", "desktop")


def test_nothing_is_removed_from_a_damaged_repository(publisher: Publisher) -> None:
    (publisher.repository / "metadata/1.targets.json").write_bytes(b"{}")
    before = stamps(publisher.repository)
    with pytest.raises(RepositoryDamaged):
        collect(publisher.repository, now=LATER)
    assert stamps(publisher.repository) == before


def test_the_command_tells_what_it_removed(publisher: Publisher, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repo", "gc", str(publisher.repository), "--days", "0", "-o", "json"]) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    assert (told["blobs"], told["releases"]) == (3, 3 + LISTED + 2)
    assert run(["repo", "gc", str(publisher.repository)]) == Exit.DONE
    assert capsys.readouterr().out.startswith("0 files of metadata, 0 release documents and 0 artifacts removed")


@pytest.mark.timeout(600)
def test_a_cut_leaves_a_whole_repository_and_the_next_run_removes_the_rest(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    for number in (1, 2):
        publisher.publish_workload(number)
    own, path = publisher.artifact("image/own", "image", b"the third")
    place = (publisher.repository, publisher.keys, PASSPHRASE)
    publish(*place, workload(3, own).encode(), [path], now=NOW, listed=1)

    def prepare(root: Path) -> None:
        shutil.copytree(publisher.repository, root / "repository")
        _write_at(root / "repository", NOW)

    def operation(root: Path) -> None:
        collect(root / "repository", now=LATER)

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for point in crash_points(scratch, prepare, operation):
        repository = point.root / "repository"
        assert verify_repository(repository, now=NOW).releases == 1, point.label
        _write_at(repository, NOW)
        operation(point.root)
        assert sum(path.is_file() for path in (repository / "blobs").rglob("*")) == 1, point.label
