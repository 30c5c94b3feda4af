# SPDX-License-Identifier: Apache-2.0
"""A publication that is cut anywhere leaves the old or the new release published, and can be repeated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.crash import crash_points
from lab.publishing import NOW, PASSPHRASE, Publisher, platform
from updater.errors import ReleaseRefused
from updater.repository.release import publish
from updater.repository.verify import verify_repository


@pytest.mark.timeout(600)
def test_a_cut_during_a_publication_leaves_old_or_new(tmp_path: Path) -> None:
    (tmp_path / "publisher").mkdir()
    publisher = Publisher(tmp_path / "publisher")
    publisher.publish_platform(1)
    artifact, path = publisher.artifact("vmm/host-files", "host-files", b"of release 2")
    release = platform(2, artifact).encode()

    def prepare(root: Path) -> None:
        shutil.copytree(publisher.repository, root / "repository")

    def operation(root: Path) -> None:
        publish(root / "repository", publisher.keys, PASSPHRASE, release, [path], now=NOW)

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = set()
    for point in crash_points(scratch, prepare, operation):
        number = dict(verify_repository(point.root / "repository", now=NOW).channels)["releases-platform"]
        assert number == 2 if point.finished else number in (1, 2), point.label
        seen.add(number)
        if number == 2:
            with pytest.raises(ReleaseRefused):
                operation(point.root)
        else:
            operation(point.root)
        found = verify_repository(point.root / "repository", now=NOW)
        assert (found.releases, dict(found.channels)["releases-platform"]) == (2, 2), point.label
    assert seen == {1, 2}
