# SPDX-License-Identifier: Apache-2.0
"""How publishing, assigning and refreshing depend on the size of a repository. Prints figures; decides nothing.

    PYTHONPATH=.:tests .venv/bin/python -P bench/scale.py [--releases N] [--artifacts N] [--hosts N] [--folder DIR]

The repository is made with plain writes, the steps that are measured are the real ones. Tests run it tiny.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tuf.api.metadata import TargetFile

from content.fsverity import digest_bytes
from documents.assignment import Assignment, Range
from documents.host_state import Floor
from documents.release import Artifact
from keys.anchor import TrustAnchor
from keys.signers import open_role
from lab.counting import CountedSource, stamps, touched
from lab.publishing import DAY, NOW, PASSPHRASE, Publisher, workload
from publisher.shelf import Shelf
from updater.client.metadata import refresh
from updater.formats import blob_name, metadata_name, release_target, target_name
from updater.repository.assignments import assign
from updater.repository.assignments_role import create_assignments
from updater.repository.chain import load_chain, meta_of, sign, write
from updater.repository.periods import PERIODS
from updater.repository.refresh import Refresher

ROLE = "releases-desktop"
EARLIER = 2
"""So many earlier releases the desk reads."""


def measure_publication(folder: Path, releases: int, artifacts: int) -> dict[str, float]:
    """Publish one more release; then a new host looks everything up."""
    publisher = Publisher(folder)
    publisher.publish_platform(1)
    _fill(publisher, releases, artifacts // releases)
    release, paths = _release(publisher, releases + 1, artifacts // releases, new=3)
    before = stamps(publisher.repository)

    def publication() -> None:
        shelf = Shelf(publisher.repository)
        for number in shelf.numbers("desktop")[:EARLIER]:
            shelf.release("desktop", number)
        publisher.publish(release, *paths)

    times = _timed("one more", publication)
    files = touched(before, stamps(publisher.repository))
    return {**times, "files touched": len(files), **_refresh("first look-up", publisher, folder / "host")}


def measure_assignments(folder: Path, hosts: int) -> dict[str, float]:
    """Assign all hosts at once, then one anew; then a new host looks up what it may take, and does so again."""
    publisher = Publisher(folder)
    publisher.publish_platform(1)
    publisher.publish_workload(1)
    place = (publisher.repository, publisher.keys, PASSPHRASE)
    create_assignments(*place, now=NOW)
    everybody = (_assignment(number, 2) for number in range(hosts))
    all_times = _timed("all", lambda: assign(*place, everybody, now=NOW))
    before = stamps(publisher.repository)
    one_times = _timed("one", lambda: assign(*place, [_assignment(hosts // 2, 3)], now=NOW))
    files = touched(before, stamps(publisher.repository))
    host = _name(hosts // 2)
    first = _refresh("first look-up", publisher, folder / "host", host)
    # The worst case of every day: the list of bins and this host's own bin have changed since.
    assign(*place, [_assignment(hosts // 2, 4)], now=NOW)
    again = _refresh("next look-up", publisher, folder / "host", host)
    return {**all_times, **one_times, "files touched": len(files), **first, **again}


def _name(number: int) -> str:
    """A host's name in the form of a UUID, since those are the long ones."""
    return str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))


def _assignment(number: int, highest: int) -> Assignment:
    channels = (Range(channel="desktop"), Range(channel="platform", highest=highest))
    return Assignment(host=_name(number), channels=channels, locked=False, expires=NOW + 30 * DAY)


def _fill(publisher: Publisher, count: int, each: int) -> None:
    """Releases 1 to ``count`` with artifacts of their own, as earlier publications would have left them."""
    chain = load_chain(publisher.repository)
    held = chain.releases[ROLE]
    for number in range(1, count + 1):
        release, _ = _release(publisher, number, each, new=each, store=True)
        data = release.encode()
        target = TargetFile.from_data(release_target("desktop", number), data, ["sha256"])
        target.unrecognized_fields["custom"] = {"published": NOW}
        path = publisher.repository / target_name(target.path, target.hashes["sha256"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        held.signed.targets[target.path] = target
    held.signed.version += 1
    data = sign(held.metadata, open_role(ROLE, publisher.keys, PASSPHRASE))
    write(publisher.repository, metadata_name(ROLE, held.signed.version), data)
    Refresher(publisher.keys, PASSPHRASE, chain).write(
        publisher.repository, {f"{ROLE}.json": meta_of(held.signed, data)}, NOW, PERIODS
    )


def _release(publisher: Publisher, number: int, each: int, *, new: int, store: bool = False):
    """A release of which ``new`` artifacts are its own and the rest the release's before it."""
    found, paths = [], []
    for index in range(each):
        data = b"artifact %d of release %d" % (index, number if index < new else number - 1)
        digest = digest_bytes(data)
        found.append(Artifact(name=f"image/{index}", kind="image", fsverity=digest, length=len(data)))
        path = publisher.repository / blob_name(digest) if store else publisher.folder / f"new-{index}"
        if store or index < new:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            paths.append(path)
    return workload(number, *found), paths


def _refresh(what: str, publisher: Publisher, state: Path, host: str = "") -> dict[str, float]:
    source = CountedSource(publisher.repository)
    anchor = TrustAnchor(publisher.anchor)
    floor = Floor(time=0, root=1, releases=())
    channels = ("platform", "desktop")
    times = _timed(what, lambda: refresh(state, anchor, source, channels, now=NOW, floor=floor, host=host))
    return {**times, f"{what} files": len(source.fetched), f"{what} bytes": source.length}


def _timed(what: str, step: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return {f"{what} seconds": time.perf_counter() - wall, f"{what} CPU seconds": time.process_time() - cpu}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=int, default=1_000)
    parser.add_argument("--artifacts", type=int, default=100_000)
    parser.add_argument("--hosts", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vmgate-scale")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder, ignore_errors=True)
    for releases in (10, options.releases):
        artifacts = releases * options.artifacts // options.releases
        found = measure_publication(_place(options.folder, f"{releases} releases"), releases, artifacts)
        _print(f"{releases} releases, {artifacts} artifacts", found)
    for hosts in (1_000, options.hosts):
        _print(f"{hosts} hosts", measure_assignments(_place(options.folder, f"{hosts} hosts"), hosts))
    shutil.rmtree(options.folder)


def _place(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    return place


def _print(what: str, found: dict[str, float]) -> None:
    print(what)
    for name, value in found.items():
        print(f"  {name}: {value:,.3f}" if isinstance(value, float) else f"  {name}: {value:,}")


if __name__ == "__main__":
    main()
