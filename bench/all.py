# SPDX-License-Identifier: Apache-2.0
"""Every benchmark beside its peers in one run, and the page of what came out. Decides nothing.

    make bench [BENCH_ARGUMENTS="--keylime VENV --images FOLDER"]
    PYTHONPATH=.:tests .venv/bin/python -P bench/all.py [--small] [--only measure,...] [--out docs/benchmarks.md]

Each benchmark is a command of its own and says what it does in its first lines. A peer that is not installed is left
out, and the page says so. ``--images`` is a folder with the images of bench/update.py; without it made-up ones of 200
MiB are used, in which 4 blocks of every 13,000 change. ``--small`` is what CI runs: it shows that all of it
still works, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab import images

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/benchmarks.md"
WORKERS = {"all", "keylime_worker"}
"""Files of this folder that are no benchmark themselves."""

PACKAGES = (
    "qemu-system-x86", "libvirt-daemon", "swtpm", "fsverity", "coreutils", "openssl", "casync", "zchunk", "xdelta3",
    "zstd", "rsync", "tpm2-tools",
)  # fmt: skip
LIBRARIES = ("tuf", "securesystemslib", "cryptography", "tpm2-pytss", "libvirt-python", "requests")
PARTS = 64
"""Of a made-up image."""

UPDATE_PEERS = {
    "casync": "casync", "zchunk": "zck", "xdelta3": "xdelta3", "zstd": "zstd", "rsync": "rsync"
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One benchmark.

    Attributes:
        name: its file in this folder.
        title: for the page.
        more: the page that explains it, with goals and what came of them.
        arguments: for a run: folder, and what was asked for.
    """

    name: str
    title: str
    more: str
    arguments: Callable[[Path, argparse.Namespace], list[str]]


def update(folder: Path, asked: argparse.Namespace) -> list[str]:
    """Images: those that were given, or made-up ones."""
    where = asked.images
    if where is None:
        where = folder
        for name, change in (("v1", bytes), ("v2a", images.edited), ("v2b", images.moved)):
            write_image(folder / f"{name}.img", change, 1 if asked.small else PARTS)
    absent = [way for way, program in UPDATE_PEERS.items() if shutil.which(program) is None]
    left_out = [*absent, *(["casync", "zchunk", "xdelta3", "zstd", "rsync", "python-tuf"] if asked.small else [])]
    return [str(where), "--runs", "1" if asked.small else str(asked.runs), "--without", ",".join(left_out)]


def write_image(path: Path, change: Callable[[bytes], bytes], parts: int) -> None:
    """Made-up parts of 3.2 MiB, one in sixteen of them changed."""
    with path.open("wb") as file:
        for number in range(parts):
            part = images.first(number + 1)
            file.write(change(part) if number % 16 == 0 else part)


def measure(folder: Path, asked: argparse.Namespace) -> list[str]:
    """An image of 4 GiB, or of little more than one stretch of a worker."""
    size, runs = ("65", "1") if asked.small else (str(asked.mebibytes), str(asked.runs))
    return [str(folder), "--runs", runs, "--mebibytes", size]


def attest(_folder: Path, asked: argparse.Namespace) -> list[str]:
    """Beside Keylime where there is one."""
    keylime = ["--keylime", str(asked.keylime)] if asked.keylime else []
    return [*keylime, "--runs", "1" if asked.small else str(asked.runs)]


def scale(folder: Path, asked: argparse.Namespace) -> list[str]:
    """A million hosts, or fifty."""
    size = ("20", "40", "50") if asked.small else ("1000", "100000", str(asked.hosts))
    return [
        *("--releases", size[0], "--artifacts", size[1], "--hosts", size[2]), "--folder", str(folder / "scale")
    ]  # fmt: skip


def gate(folder: Path, asked: argparse.Namespace) -> list[str]:
    """Ten VMs, or two; QEMU's user has to enter the folder."""
    folder.chmod(0o755)
    runs, vms = ("1", "2") if asked.small else (str(asked.runs), "10")
    return [str(folder / "hosts"), "--runs", runs, "--vms", vms]


def fleet(_folder: Path, asked: argparse.Namespace) -> list[str]:
    """SQLite, as it is without more."""
    keylime = ["--keylime", str(asked.keylime)] if asked.keylime else []
    small = ["--hosts", "4", "--seconds", "1", "--files", "20"] if asked.small else []
    return [*keylime, *small]


BENCHES = (
    Bench(name="update", title="An update of one large image", more="benchmarks-update.md", arguments=update),
    Bench(name="measure", title="Measuring one large image", more="benchmarks-measure.md", arguments=measure),
    Bench(name="attest", title="Judging a host's evidence", more="benchmarks-attest.md", arguments=attest),
    Bench(name="gate", title="What the gate adds to a start", more="benchmarks-gate.md", arguments=gate),
    Bench(name="fleet", title="Attesting many hosts", more="benchmarks-fleet.md", arguments=fleet),
    Bench(name="scale", title="How publishing and assigning grow", more="benchmarks-scale.md", arguments=scale),
)


def ran(bench: Bench, asked: argparse.Namespace) -> str:
    """What a benchmark printed; what it said on its way to the end where it failed, which the page shows as well."""
    with tempfile.TemporaryDirectory(prefix=f"vmgate-{bench.name}-") as name:
        arguments = bench.arguments(Path(name), asked)
        command = [sys.executable, "-P", str(ROOT / f"bench/{bench.name}.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench/{bench.name}.py exited {done.returncode}:\n{done.stderr[-2000:]}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def machine() -> list[tuple[str, str]]:
    """What the figures were measured on."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return [
        ("processor", f"{len(os.sched_getaffinity(0))} cores of {processor}"),
        ("memory", f"{memory:.0f} GiB"),
        ("system", f"{release}, Linux {platform.release()}"),
        ("Python", platform.python_version()),
        ("libraries", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)),
        ("packages", ", ".join(filter(None, map(_package, PACKAGES)))),
    ]


def _package(name: str) -> str:
    asked = ["dpkg-query", "-W", "-f", "${Version}", name]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return f"{name} {done.stdout}" if done.returncode == 0 and done.stdout else ""


def page(results: dict[str, str], loads: list[float], asked: argparse.Namespace, seconds: float) -> str:
    """The whole page."""
    told = [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d")),
        *machine(),
        ("load before each, and at the end", ", ".join(f"{load:.1f}" for load in loads)),
        ("took", f"{seconds / 60:.0f} minutes"),
    ]
    if not asked.keylime:
        told.append(("left out", "Keylime: no environment with it was given"))
    rows = "\n".join(f"| {name} | {value} |" for name, value in told)
    parts = [HEAD, f"## The machine\n| | |\n|---|---|\n{rows}\n"]
    for bench in BENCHES:
        if bench.name in results:
            command = (
                f"`bench/{bench.name}.py`; what it says is explained, with goals, in [its own page]({bench.more})."
            )
            parts.append(f"## {bench.title}\n{command}\n\n```text\n{results[bench.name]}\n```\n")
    return "\n".join(parts)


HEAD = """# Benchmarks
What vmgate costs, beside others that do a part of the same, all in one run by one command: `make bench`. It prints
medians, their spread and ratios; ratios are what lasts on another machine. The pages that are linked explain each
benchmark, with its goals and with figures from a quieter machine where there are such. Tests see that all of it still
runs, and never look at a time. The load below tells how many others worked on the machine meanwhile: above the number
of its cores, figures of single rows say little.
"""


def main() -> None:
    """Run what was asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="see that it runs; the figures mean nothing")
    parser.add_argument("--only", default=",".join(bench.name for bench in BENCHES))
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=4096)
    parser.add_argument("--hosts", type=int, default=1_000_000)
    parser.add_argument("--images", type=Path, help="folder with v1.img, v2a.img and v2b.img")
    parser.add_argument("--keylime", type=Path, help="virtual environment that has Keylime")
    asked = parser.parse_args()
    wanted = asked.only.split(",")
    unknown = set(wanted) - {bench.name for bench in BENCHES}
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results: dict[str, str] = {}
    loads, began = [], time.monotonic()
    for bench in BENCHES:
        if bench.name in wanted:
            loads.append(os.getloadavg()[0])
            print(f"bench: {bench.name}", file=sys.stderr, flush=True)
            results[bench.name] = ran(bench, asked)
    loads.append(os.getloadavg()[0])
    asked.out.write_text(page(results, loads, asked, time.monotonic() - began))


if __name__ == "__main__":
    main()
