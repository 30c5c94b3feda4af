# SPDX-License-Identifier: Apache-2.0
"""What measuring one large cached image costs, beside its peers in the same run. Prints ratios; decides nothing.

    PYTHONPATH=. .venv/bin/python -P bench/measure.py FOLDER [--runs 7] [--mebibytes 4096]

FOLDER gets an image of random bytes, which is read once before, and loses it at the end. The runs of all ways take
turns, so that what else the machine does meets all of them alike; a ratio is that of the medians, and in brackets that
of the quickest runs. Every way is a command that starts anew. Memory is the sum of what all processes of a way share
out among them (PSS), looked at in a run of its own that is not timed. The peers are Debian's packages fsverity,
coreutils and openssl. ``fsverity digest`` computes what vmgate computes; the other two hash the file as one piece.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CHUNK = 64 * 1024 * 1024
LOOK = 0.002
"""Seconds between looks at the memory."""

VMGATE = "import sys; from vmgate.main import main; sys.exit(main())"
WAYS: dict[str, list[str]] = {
    "vmgate image digest": [sys.executable, "-c", VMGATE, "image", "digest"],
    "fsverity digest": ["fsverity", "digest", "--compact"],
    "sha256sum": ["sha256sum"],
    "openssl dgst -sha256": ["openssl", "dgst", "-sha256"],
}
GOALS = {"fsverity digest": 2.0, "sha256sum": 6.0}
"""How many times longer a peer should take."""

MOST_MEMORY = 80_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Seconds that one run took: on the clock, and of all cores."""

    wall: float
    cpu: float


def timed(command: list[str]) -> Run:
    """One run; CPU time is the kernel's account of it and of what it started."""
    before, began = os.times(), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall=wall, cpu=used)


def peak(command: list[str]) -> int:
    """The most memory of a command and what it starts, in bytes."""
    most = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, sum(_share(one) for one in _family(process.pid)))
            time.sleep(LOOK)
    return most


def _family(process: int) -> list[int]:
    try:
        below = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(inner for child in below for inner in _family(int(child)))]


def _share(process: int) -> int:
    """A process's share of the memory that it uses; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def make(path: Path, size: int) -> None:
    """An image without holes, read once so that it is in the page cache."""
    with path.open("wb") as file:
        for start in range(0, size, CHUNK):
            file.write(os.urandom(min(CHUNK, size - start)))
    with path.open("rb") as file:
        while file.read(CHUNK):
            pass


def require_right(path: Path) -> None:
    """The quickest digest is no good if it is not the same one."""
    ours, tool = (
        subprocess.run([*WAYS[way], path], check=True, capture_output=True, text=True).stdout.split()[0]
        for way in ("vmgate image digest", "fsverity digest")
    )
    if ours.removeprefix("sha256:") != tool.removeprefix("sha256:"):
        raise SystemExit(f"vmgate says {ours}, and fsverity says {tool}")


def show(runs: dict[str, list[Run]], memory: dict[str, int], size: int) -> None:
    """A row for each way, and what came of the goals."""
    ours = runs["vmgate image digest"]
    print(f"{size / 2**20:.0f} MiB, medians of {len(ours)} runs in turns; in brackets the quickest")
    print(f"{'':22}{'wall s':>16}{'CPU s':>8}{'memory MB':>11}{'times vmgate':>18}")
    for way, done in runs.items():
        wall, least = _median(done), min(run.wall for run in done)
        cpu = statistics.median(run.cpu for run in done)
        ratio = f"{wall / _median(ours):.2f} ({least / min(run.wall for run in ours):.2f})"
        print(f"{way:22}{f'{wall:.2f} ({least:.2f})':>16}{cpu:>8.2f}{memory[way] / 1e6:>11.1f}{ratio:>18}")
    for way, goal in GOALS.items():
        found = _median(runs[way]) / _median(ours)
        print(f"goal: {goal:.0f} times as quick as {way}: {found:.2f}, {'met' if found >= goal else 'missed'}")
    found_memory = memory["vmgate image digest"]
    print(f"goal: below {MOST_MEMORY / 1e6:.0f} MB: {found_memory / 1e6:.1f}, "
          f"{'met' if found_memory < MOST_MEMORY else 'missed'}")  # fmt: skip


def _median(runs: list[Run]) -> float:
    return statistics.median(run.wall for run in runs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--mebibytes", type=int, default=4096)
    arguments = parser.parse_args()
    size = arguments.mebibytes * 2**20
    path = arguments.folder / "measured.img"
    try:
        make(path, size)
        require_right(path)
        print(f"load before: {os.getloadavg()[0]:.2f}, cores: {len(os.sched_getaffinity(0))}")
        runs: dict[str, list[Run]] = {way: [] for way in WAYS}
        for _ in range(arguments.runs):
            for way, command in WAYS.items():
                runs[way].append(timed([*command, str(path)]))
        print(f"load after: {os.getloadavg()[0]:.2f}")
        show(runs, {way: peak([*command, str(path)]) for way, command in WAYS.items()}, size)
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
