# SPDX-License-Identifier: Apache-2.0
"""What grows with a repository and what does not, in files and bytes. Times are for ``bench/scale.py``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from documents.host_state import Floor
from keys.anchor import TrustAnchor
from lab.counting import CountedSource, stamps, touched
from lab.fleet import Fleet
from lab.hostile import CHANNELS
from lab.publishing import Publisher
from updater.client.metadata import refresh
from updater.repository.release import LISTED

BENCH = Path(__file__).resolve().parents[3] / "bench/scale.py"


def _look_up(publisher: Publisher, state: Path, host: str = "") -> CountedSource:
    source = CountedSource(publisher.repository)
    floor = Floor(time=0, root=1, releases=())
    refresh(state, TrustAnchor(publisher.anchor), source, CHANNELS, now=publisher.now, floor=floor, host=host)
    return source


def test_neither_publishing_nor_looking_up_grows_with_the_releases(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish_workload(1)
    publisher.publish_workload(2)
    files, lengths = {}, {}
    for number in range(1, 2 * LISTED + 1):
        before = stamps(publisher.repository)
        publisher.publish_platform(number)
        # One blob, a release under two names, and metadata of channel, snapshot and timestamp.
        files[number] = len(touched(before, stamps(publisher.repository)))
        source = _look_up(publisher, tmp_path / f"host-{number}")
        lengths[number] = (len(source.fetched), source.length)
    assert set(files.values()) == {6}
    assert {count for count, _ in lengths.values()} == {7}
    # Digits of the numbers are all that may still change.
    assert abs(lengths[2 * LISTED][1] - lengths[LISTED][1]) < 100
    assert lengths[LISTED][1] < 40_000


def test_a_host_that_has_seen_it_asks_for_what_is_new(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish_platform(1)
    publisher.publish_workload(1)
    _look_up(publisher, tmp_path / "host")
    assert [name for name, _ in _look_up(publisher, tmp_path / "host").fetched if name.startswith("metadata")] == [
        "metadata/timestamp.json"
    ]


def test_a_fleet_costs_a_host_its_bin_and_the_list_of_bins(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish_platform(1)
    publisher.publish_workload(1)
    fleet = Fleet(publisher, bits=5)
    fleet.assign("this")
    alone = _look_up(publisher, tmp_path / "alone", "this")
    fleet.assign(*[f"host-{number}" for number in range(1_000)])
    before = stamps(publisher.repository)
    assert fleet.assign("this", platform=(1, 5), desktop=(1, 5)) == 1
    assert len(touched(before, stamps(publisher.repository))) == 3
    among = _look_up(publisher, tmp_path / "among", "this")
    assert len(among.fetched) == len(alone.fetched)
    (own,) = [length for name, length in among.fetched if "assignments-" in name]
    (snapshot,) = [length for name, length in among.fetched if "snapshot" in name]
    bins = [path.stat().st_size for path in (publisher.repository / "metadata").glob("*.assignments-*.json")]
    assert own < sum(bins) / 10
    # A million hosts in 2,048 bins are 488 in each: both parts, from what they cost here, stay under the bound.
    a_host, a_bin = sum(bins) / 1_000, (snapshot - 900) / 32
    assert (a_host + 60) * 600 + a_bin * 2_048 + among.length - own - snapshot < 300_000


def _bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_still_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tiny; what it times is not looked at."""
    arguments = ["--releases", "20", "--artifacts", "40", "--hosts", "50", "--folder", str(tmp_path / "scale")]
    bench: Any = _bench()
    bench.main(arguments)
    told = capsys.readouterr().out
    assert "20 releases, 40 artifacts" in told
    assert "50 hosts" in told
    assert "files touched: 3" in told
    assert not (tmp_path / "scale").exists()
