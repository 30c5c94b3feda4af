# SPDX-License-Identifier: Apache-2.0
"""The protocol of the conformance suite, against our own repository: exit codes and where files lie."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from lab.tuf_client import TufClient

TARGET = "releases/platform/current.json"


def test_init_asks_nobody(run: TufClient) -> None:
    assert run.init() == 0
    assert run.server.requests == []
    assert (run.metadata / "root.json").read_bytes() == run.publisher.anchor


def test_refresh_stores_what_was_served(run: TufClient) -> None:
    assert run.init() == 0
    assert run.refresh() == 0
    served_files = run.publisher.repository / "metadata"
    assert (run.metadata / "timestamp.json").read_bytes() == (served_files / "timestamp.json").read_bytes()
    assert (run.metadata / "snapshot.json").read_bytes() == (served_files / "2.snapshot.json").read_bytes()
    assert {p.name for p in run.metadata.glob("*.json")} == {
        "root.json", "timestamp.json", "snapshot.json", "targets.json",
    }  # fmt: skip


def test_download_stores_targets_once(run: TufClient) -> None:
    assert run.init() == 0
    assert run.download(TARGET, "releases/platform/1.json") == 0
    assert len(run.downloaded()) == 1
    run.server.requests.clear()
    assert run.download(TARGET) == 0
    assert not [name for name in run.asked() if name.startswith("targets/")]


def test_every_failure_is_1(run: TufClient) -> None:
    assert run("nonsense") == 1
    assert run() == 1
    assert run("--target-name") == 1
    assert run.bare("refresh") == 1
    assert run.refresh() == 1
    assert run.init() == 0
    assert run.download("releases/platform/9.json") == 1
    timestamp = run.publisher.repository / "metadata" / "timestamp.json"
    timestamp.write_bytes(timestamp.read_bytes().replace(b'"version": 2', b'"version": 3').replace(b'n":2', b'n":3'))
    assert run.refresh() == 1
    timestamp.unlink()
    assert run.refresh() == 1


def test_clients_at_the_same_time_do_not_break_each_other(run: TufClient) -> None:
    """One folder of metadata: python-tuf takes no lock. The agent does; whoever does not finds whole files."""
    assert run.init() == 0
    for number in (2, 3):
        run.publisher.publish_platform(number)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _: run.refresh(), range(4))) == [0] * 4
        for role in ("root", "timestamp", "snapshot", "targets"):
            json.loads((run.metadata / f"{role}.json").read_bytes())
    assert run.download(f"releases/platform/{number}.json") == 0
