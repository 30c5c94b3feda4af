# SPDX-License-Identifier: Apache-2.0
"""Attacks on the update of a whole host: refused with an exit code and one line, recorded, and nothing else changed.

What is refused and why is shown for the updater alone, in ``tests/attacks/updater``. Here the host tells of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.carriers import pack
from lab.publisher import Desk
from lab.publishing import Publisher
from lab.refusal import unchanged
from lab.world import World, copied, living, serving

TIMESTAMP = "metadata/timestamp.json"


@pytest.fixture(scope="module")
def old(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it was with the first releases."""
    path = tmp_path_factory.mktemp("old") / "repository"
    shutil.copytree(desk.repository, path)
    return path


@pytest.fixture(scope="module")
def world(desk: Desk, old: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host that runs platform 2."""
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    with serving(publisher.repository) as url, living("refused", publisher, url) as world:
        world.run("update", "apply")
        publisher.release(publisher.write_platform(firmware_vars="vars-1.fd", max_memory_mib=2048))
        world.run("update", "apply")
        assert world.generation() == {"platform": 2, "workload": 1}
        yield world


def _refused(world: World, event: str, *command: str | Path) -> str:
    """A command of the host is refused; returns what its record says of the cause."""
    count = len(world.trail())
    with unchanged(world):
        done = world.host.vmgate(*command)
    assert done.exit == 5, done.err
    started, refused = world.trail()[count:]
    assert (started.event, started.outcome) == (event, "started")
    assert (refused.event, refused.outcome) == (event, "refused")
    details = dict(refused.details)
    assert f"error[{details['code']}]: " in done.err
    assert details["cause"] in done.err
    return details["cause"]


def test_an_old_bundle_is_refused_and_recorded(world: World, old: Path, tmp_path: Path) -> None:
    pack(old, tmp_path / "old.bundle")
    assert "BadVersionNumberError" in _refused(world, "update-import", "update", "import", tmp_path / "old.bundle")


def test_a_bundle_of_somebody_else_is_refused_and_recorded(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    pack(other.repository, tmp_path / "other.bundle")
    assert "0/1 keys" in _refused(world, "update-import", "update", "import", tmp_path / "other.bundle")


def test_a_bundle_that_is_cut_off_is_refused_and_recorded(world: World, old: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.bundle"
    pack(old, path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "bytes and has" in _refused(world, "update-import", "update", "import", path)


def test_a_repository_that_goes_back_is_refused_and_recorded(world: World, old: Path) -> None:
    timestamp = world.desk.repository / TIMESTAMP
    good = timestamp.read_bytes()
    timestamp.write_bytes((old / TIMESTAMP).read_bytes())
    try:
        assert "BadVersionNumberError" in _refused(world, "update-apply", "update", "apply")
    finally:
        timestamp.write_bytes(good)


def test_the_host_goes_on_after_all_of_it(world: World) -> None:
    assert world.run("update", "apply").startswith("up to date\n")
    assert world.generation() == {"platform": 2, "workload": 1}
