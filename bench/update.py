# SPDX-License-Identifier: Apache-2.0
"""What an update of one large image costs, beside its peers in the same run. Prints ratios; decides nothing.

    PYTHONPATH=.:tests .venv/bin/python -P bench/update.py FOLDER [--runs 5] [--without zchunk,...]

FOLDER holds ``v1.img``, ``v2a.img`` (changed in place) and ``v2b.img`` (built anew), and gets a work folder. Every way
ends with the new image on the disk and fsynced. A run of ours is a whole update by a process that starts anew: look-up,
fetch, verify, stage and switch. Each way runs in processes of its own; CPU time, memory and written bytes
are the kernel's account of them. Over the wire counts everything, indexes and metadata too. What publishers compute
beforehand is not timed. The page cache is warm for all of them. The peers are Debian's packages.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Role, Root, Snapshot, TargetFile, Targets, Timestamp

from content.fsverity import Measured, digest_file
from documents.release import Artifact
from lab.hostile import served
from lab.publishing import Publisher, workload
from updater.formats import pack_name
from updater.pack import HEAD
from updater.repository.packing import read_head

CHILD = """
import sys, time
from pathlib import Path
from content.store import ContentStore
from keys.anchor import TrustAnchor
from updater.client.http import HttpSource
from updater.client.places import Places
from updater.client.transaction import Update
folder, url, now = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
anchor = TrustAnchor((folder / "root.json").read_bytes())
update = Update(Places.below(folder), anchor, ContentStore(folder / "store"), "0.1.0")
update.recover()
"""
APPLY = CHILD + 'update.apply(HttpSource(url), ("platform", "desktop"), now=now)\n'
LOOK_UP = CHILD + 'update.check(HttpSource(url), ("platform", "desktop"), now=now)\n'
LAUNCH = """
import resource, subprocess, sys, time
began = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss, used.ru_oublock)
"""
TUF = """
import sys
from pathlib import Path
from tuf.ngclient import Updater
folder, url, path = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
first = (folder / "first").read_bytes()
updater = Updater(str(folder), url + "metadata/", str(folder), url + "targets/", bootstrap=first)
info = updater.get_targetinfo(path)
updater.download_target(info, str(folder / "out"))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of one way took."""

    wall: float
    cpu: float
    rss: int
    written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way for one image: bytes over the wire, and its runs."""

    way: str
    image: str
    wire: int
    runs: tuple[Run, ...]


def measured(command: list[str], **environment: str) -> Run:
    """Run a command in a process of its own; a small one starts it, or it would begin with this one's memory."""
    launch = [sys.executable, "-I", "-S", "-c", LAUNCH, *command]
    done = subprocess.run(launch, check=True, capture_output=True, text=True, env=os.environ | environment)
    wall, cpu, rss, written = done.stdout.splitlines()[-1].split()
    return Run(wall=float(wall), cpu=float(cpu), rss=int(rss) * 1024, written=int(written) * 512)


def shell(line: str) -> Run:
    """Run a line of shell that ends with the new image fsynced."""
    return measured(["sh", "-ec", line])


class Images:
    """The images and where the peers work."""

    def __init__(self, folder: Path, runs: int) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.runs = runs
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()

    def path(self, name: str) -> Path:
        """An image."""
        return self.folder / f"{name}.img"

    def repeat(self, run: Callable[[], Run]) -> tuple[Run, ...]:
        """The runs of one way, the new image removed before each."""
        done = []
        for _ in range(self.runs):
            (self.work / "out").unlink(missing_ok=True)
            done.append(run())
        return tuple(done)


def ours(images: Images, name: str) -> Iterator[Row]:
    """Updates by vmgate from the last release and from an image that the publisher never saw; a look-up alone."""
    folder = images.work / f"vmgate-{name}"
    folder.mkdir()
    publisher = Publisher(folder)
    publisher.publish_platform(1)
    for number, image in ((1, "v1"), (2, name)):
        path = images.path(image)
        digest = digest_file(path)
        artifact = Artifact(name="image/desktop", kind="image", fsverity=digest.fsverity, length=digest.length)
        publisher.publish(workload(number, artifact), path)
        if number == 1:
            seed = _seeded(folder, publisher)
    new = digest_file(images.path(name))
    with served(publisher.repository) as server:
        for way, child in WAYS.items():
            if way.endswith("base"):
                _forget_deltas(publisher, new)
            sent = _counted(server)

            runs = []
            for _ in range(images.runs):
                host = images.work / "host"
                shutil.rmtree(host, ignore_errors=True)
                subprocess.run(["cp", "-a", "--sparse=always", seed, host], check=True)
                os.sync()
                sent.clear()
                runs.append(measured([sys.executable, "-c", child, str(host), server.url, str(publisher.now)]))
            yield Row(way=way, image=name, wire=sum(sent), runs=tuple(runs))
    shutil.rmtree(folder)


def _seeded(folder: Path, publisher: Publisher) -> Path:
    """A host that runs release 1."""
    host = folder / "seed"
    host.mkdir()
    (host / "root.json").write_bytes(publisher.anchor)
    with served(publisher.repository) as server:
        subprocess.run([sys.executable, "-c", _FIRST, host, server.url, str(publisher.now)], check=True)
    return host


_FIRST = APPLY + "update.confirm()\n"
WAYS = {"vmgate, last release": APPLY, "vmgate, look-up only": LOOK_UP, "vmgate, unseen base": APPLY}


def _forget_deltas(publisher: Publisher, new: Measured) -> None:
    head = read_head(publisher.repository, new)
    (publisher.repository / pack_name(new.fsverity, HEAD)).write_bytes(replace(head, offers=()).encode())


def _counted(server) -> list[int]:  # type: ignore[no-untyped-def]
    """Bytes of each answer's body and, roughly, of its request and headers."""
    sent: list[int] = []
    handler = server.RequestHandlerClass

    class Counted(handler):  # type: ignore[misc, valid-type]
        def _head(self, status, length, content_range=None):  # type: ignore[no-untyped-def]
            sent.append(length + 500)
            super()._head(status, length, content_range)

    server.RequestHandlerClass = Counted
    return sent


def peers(images: Images, name: str, without: set[str]) -> Iterator[Row]:
    """The peers that are installed and wanted."""
    for way, peer in PEERS.items():
        if way not in without:
            yield from peer(images, name)


def casync(images: Images, name: str) -> Iterator[Row]:
    """Chunks of 64 KiB by content, seeded."""
    work, new, old = images.work, images.path(name), images.path("v1")
    for image, path in (("v1", old), (name, new)):
        subprocess.run(["casync", "make", f"--store={work}/{image}.castr", f"{work}/{image}.caibx", path], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    known = {chunk.name for chunk in (work / "v1.castr").rglob("*.cacnk")}
    missing = [chunk for chunk in (work / f"{name}.castr").rglob("*.cacnk") if chunk.name not in known]
    wire = sum(chunk.stat().st_size for chunk in missing) + (work / f"{name}.caibx").stat().st_size
    line = f"cd {work}; casync extract --store={name}.castr --seed={old} {name}.caibx out; sync out"
    yield Row(way="casync", image=name, wire=wire, runs=images.repeat(lambda: shell(line)))


def zchunk(images: Images, name: str) -> Iterator[Row]:
    """Chunks by content in one file; its download is not timed, since it wants servers with several ranges at once."""
    work = images.work
    for image in ("v1", name):
        if not (work / f"{image}.zck").exists():
            subprocess.run(["zck", "-o", f"{work}/{image}.zck", images.path(image)], check=True)
    told = subprocess.run(["zck_delta_size", work / "v1.zck", work / f"{name}.zck"], check=True, capture_output=True,
                          text=True)  # fmt: skip
    wire = int(told.stdout.split("Would download ")[1].split()[0]) if "Would download " in told.stdout else 0
    yield Row(way="zchunk", image=name, wire=wire, runs=())


def xdelta3(images: Images, name: str) -> Iterator[Row]:
    """A delta against the exact base."""
    delta = images.work / f"{name}.xdelta"
    subprocess.run(["xdelta3", "-e", "-1", "-f", "-s", images.path("v1"), images.path(name), delta], check=True)
    line = f"cd {images.work}; xdelta3 -d -s {images.path('v1')} {delta} out; sync out"
    yield Row(way="xdelta3", image=name, wire=delta.stat().st_size, runs=images.repeat(lambda: shell(line)))


def zstd_patch(images: Images, name: str) -> Iterator[Row]:
    """Zstd over the whole base."""
    delta = images.work / f"{name}.zst"
    subprocess.run(["zstd", "-q", "-f", "-3", "--long=31", f"--patch-from={images.path('v1')}", images.path(name),
                    "-o", delta], check=True)  # fmt: skip
    line = f"cd {images.work}; zstd -q -d --long=31 --patch-from={images.path('v1')} {delta} -o out; sync out"
    yield Row(way="zstd --patch-from", image=name, wire=delta.stat().st_size, runs=images.repeat(lambda: shell(line)))


def rsync(images: Images, name: str) -> Iterator[Row]:
    """Blocks of 4 KiB, copied and renamed; not compressed."""
    stats = images.work / "rsync.txt"
    line = (
        f"cd {images.work}; cp --sparse=always {images.path('v1')} out; "
        f"rsync --no-whole-file -B4096 --stats {images.path(name)} out > {stats}; sync out"
    )
    runs = images.repeat(lambda: shell(line))
    wire = sum(
        int(said.rpartition(": ")[2].replace(",", ""))
        for said in stats.read_text().splitlines()
        if said.startswith(("Total bytes sent", "Total bytes received"))
    )
    yield Row(way="rsync (and copy)", image=name, wire=wire, runs=runs)


def python_tuf(images: Images, name: str) -> Iterator[Row]:
    """The image as a TUF target, by ngclient's own download."""
    folder = images.work / "tuf"
    shutil.rmtree(folder, ignore_errors=True)
    first = _tuf_repository(folder / "repository", images.path(name))
    host = images.work / "tuf-host"
    with _static_server(folder / "repository") as url:

        def run() -> Run:
            shutil.rmtree(host, ignore_errors=True)
            host.mkdir()
            (host / "first").write_bytes(first)
            line = f"{sys.executable} -c '{TUF}' {host} {url} image; sync {host}/out"
            return measured(["sh", "-ec", line], TMPDIR=str(images.work))

        runs = tuple(run() for _ in range(images.runs))
    yield Row(way="python-tuf", image=name, wire=images.path(name).stat().st_size, runs=runs)
    shutil.rmtree(host)


def _tuf_repository(folder: Path, image: Path) -> bytes:
    """A repository with one key and one target."""
    signer = CryptoSigner.generate_ecdsa()
    keyid = signer.public_key.keyid
    expires = datetime.now(UTC) + timedelta(days=1)
    roles = {role: Role([keyid], 1) for role in ("root", "timestamp", "snapshot", "targets")}
    root = Root(expires=expires, keys={keyid: signer.public_key}, roles=roles, consistent_snapshot=False)
    target = TargetFile.from_file("image", str(image), ["sha256"])
    signed = {
        "1.root": root,
        "timestamp": Timestamp(expires=expires),
        "snapshot": Snapshot(expires=expires),
        "targets": Targets(expires=expires, targets={"image": target}),
    }
    (folder / "metadata").mkdir(parents=True)
    (folder / "targets").mkdir()
    (folder / "targets" / "image").hardlink_to(image)
    for role, metadata in signed.items():
        whole = Metadata(metadata)
        whole.sign(signer)
        whole.to_file(str(folder / "metadata" / f"{role}.json"))
    return (folder / "metadata" / "1.root.json").read_bytes()


@contextmanager
def _static_server(folder: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """Says nothing of each request."""

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


def dd(images: Images, name: str) -> Iterator[Row]:
    """A plain copy: what the disk can do."""
    line = f"cd {images.work}; dd if={images.path(name)} of=out bs=1M conv=fsync"
    yield Row(way="dd with fsync", image=name, wire=0, runs=images.repeat(lambda: shell(line)))


PEERS: dict[str, Callable[[Images, str], Iterator[Row]]] = {
    "dd": dd,
    "casync": casync,
    "zchunk": zchunk,
    "xdelta3": xdelta3,
    "zstd": zstd_patch,
    "rsync": rsync,
    "python-tuf": python_tuf,
}


def show(rows: list[Row], image: str) -> None:
    """One image's rows: medians, and ratios to vmgate from the last release."""
    rows = [row for row in rows if row.image == image]
    first = rows[0]
    ours_wall = _median(first, "wall")
    print(f"\n{image}: medians of {len(first.runs)} runs; in brackets how many times vmgate's from the last release")
    print(f"{'':22}{'wire MB':>16}{'wall s':>14}{'least-most':>14}{'CPU s':>14}{'RSS MB':>8}{'written MB':>12}")
    for row in rows:
        cells = [f"{row.wire / 1e6:9.2f} ({row.wire / first.wire:4.1f})"]
        if row.runs:
            wall, cpu = _median(row, "wall"), _median(row, "cpu")
            walls = [run.wall for run in row.runs]
            cells += [f"{wall:6.2f} ({wall / ours_wall:4.1f})", f"{min(walls):.2f}-{max(walls):.2f}"]
            cells += [f"{cpu:6.2f} ({cpu / _median(first, 'cpu'):4.1f})"]
            cells += [f"{_median(row, 'rss') / 1e6:6.0f}", f"{_median(row, 'written') / 1e6:8.0f}"]
        print(
            f"{row.way:22}{cells[0]:>16}"
            + "".join(f"{cell:>{w}}" for cell, w in zip(cells[1:], (14, 14, 14, 8, 12), strict=False))
        )


def _median(row: Row, name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in row.runs))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", default="v2a,v2b")
    parser.add_argument("--without", default="")
    arguments = parser.parse_args()
    images = Images(arguments.folder, arguments.runs)
    rows: list[Row] = []
    for name in arguments.images.split(","):
        rows += ours(images, name)
        rows += peers(images, name, set(arguments.without.split(",")))
        show(rows, name)
    shutil.rmtree(images.work)


if __name__ == "__main__":
    main()
