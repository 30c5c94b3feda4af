# SPDX-License-Identifier: Apache-2.0
"""The protocol of the conformance suite, against our own repository: exit codes and where files lie."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.hostile import HostileServer, served
from lab.publishing import Publisher

CLIENT = Path(__file__).with_name("tuf-client")
TARGET = "releases/platform/current.json"


class Run:
    def __init__(self, folder: Path, server: HostileServer, publisher: Publisher) -> None:
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        self.server, self.publisher = server, publisher
        self.root = folder / "root.json"
        self.root.write_bytes(publisher.anchor)

    def __call__(self, *arguments: str) -> int:
        command = [sys.executable, str(CLIENT), "--metadata-dir", str(self.metadata), *arguments]
        return subprocess.run(command, check=False, timeout=60).returncode

    def init(self) -> int:
        return self("init", str(self.root))

    def refresh(self) -> int:
        return self("--metadata-url", f"{self.server.url}metadata/", "refresh")

    def download(self, *names: str) -> int:
        wanted = [argument for name in names for argument in ("--target-name", name)]
        return self(
            "--metadata-url", f"{self.server.url}metadata/", *wanted,
            "--target-dir", str(self.targets), "--target-base-url", f"{self.server.url}targets/", "download",
        )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    import time

    (tmp_path / "publisher").mkdir()
    publisher = Publisher(tmp_path / "publisher", now=int(time.time()))
    publisher.publish_platform(1)
    with served(publisher.repository) as server:
        yield Run(tmp_path, server, publisher)


def test_init_asks_nobody(run: Run) -> None:
    assert run.init() == 0
    assert run.server.requests == []
    assert (run.metadata / "root.json").read_bytes() == run.publisher.anchor


def test_refresh_stores_what_was_served(run: Run) -> None:
    assert run.init() == 0
    assert run.refresh() == 0
    served_files = run.publisher.repository / "metadata"
    assert (run.metadata / "timestamp.json").read_bytes() == (served_files / "timestamp.json").read_bytes()
    assert (run.metadata / "snapshot.json").read_bytes() == (served_files / "2.snapshot.json").read_bytes()
    assert {p.name for p in run.metadata.glob("*.json")} == {
        "root.json", "timestamp.json", "snapshot.json", "targets.json",
    }  # fmt: skip


def test_download_stores_targets_once(run: Run) -> None:
    assert run.init() == 0
    assert run.download(TARGET, "releases/platform/1.json") == 0
    digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in run.targets.rglob("*") if p.is_file()}
    assert len(digests) == 1
    run.server.requests.clear()
    assert run.download(TARGET) == 0
    assert not [name for name, _ in run.server.requests if name.startswith("targets/")]


def test_every_failure_is_1(run: Run) -> None:
    assert run("nonsense") == 1
    assert run.refresh() == 1
    assert run.init() == 0
    assert run.download("releases/platform/9.json") == 1
    timestamp = run.publisher.repository / "metadata" / "timestamp.json"
    timestamp.write_bytes(timestamp.read_bytes().replace(b'"version": 2', b'"version": 3').replace(b'n":2', b'n":3'))
    assert run.refresh() == 1
    timestamp.unlink()
    assert run.refresh() == 1
