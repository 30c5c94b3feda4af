# SPDX-License-Identifier: Apache-2.0
"""A change of assignments that is cut anywhere leaves all old or all new, and can be repeated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.crash import crash_points
from lab.fleet import Fleet, assignment
from lab.publishing import NOW, PASSPHRASE, Publisher
from updater.repository.assignments import all_assignments, assign
from updater.repository.assignments_role import create_assignments
from updater.repository.chain import load_chain
from updater.repository.verify import verify_repository

HOSTS = ("one", "two", "three")


@pytest.mark.timeout(600)
def test_a_cut_while_hosts_are_assigned_leaves_old_or_new(tmp_path: Path) -> None:
    (tmp_path / "publisher").mkdir()
    publisher = Publisher(tmp_path / "publisher")
    Fleet(publisher, bits=1).assign(*HOSTS, platform=(1, 1))

    def prepare(root: Path) -> None:
        shutil.copytree(publisher.repository, root / "repository")

    def operation(root: Path) -> None:
        made = [assignment(host, NOW + 1, platform=(2, 2)) for host in HOSTS]
        assign(root / "repository", publisher.keys, PASSPHRASE, made, now=NOW)

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = set()
    for point in crash_points(scratch, prepare, operation):
        repository = point.root / "repository"
        verify_repository(repository, now=NOW)
        (lowest,) = {found.channels[0].lowest for found in all_assignments(repository, load_chain(repository))}
        assert lowest == 2 if point.finished else lowest in (1, 2), point.label
        seen.add(lowest)
        operation(point.root)
        assert verify_repository(repository, now=NOW).assignments == len(HOSTS)
    assert seen == {1, 2}


@pytest.mark.timeout(600)
def test_a_cut_while_the_role_is_made_leaves_none_or_one(tmp_path: Path) -> None:
    (tmp_path / "publisher").mkdir()
    publisher = Publisher(tmp_path / "publisher")

    def prepare(root: Path) -> None:
        shutil.copytree(publisher.folder, root / "publisher")

    def operation(root: Path) -> None:
        place = root / "publisher"
        create_assignments(place / "repository", place / "keys", PASSPHRASE, now=NOW, bits=1)

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = set()
    for point in crash_points(scratch, prepare, operation):
        repository = point.root / "publisher/repository"
        verify_repository(repository, now=NOW)
        made = load_chain(repository).assignments is not None
        assert made or not point.finished, point.label
        seen.add(made)
        if not made:
            operation(point.root)
            verify_repository(repository, now=NOW)
    assert seen == {False, True}
