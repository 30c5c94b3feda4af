# SPDX-License-Identifier: Apache-2.0
"""The benchmark of updates still runs, on small images and beside the one peer that every system has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab import images

ROOT = Path(__file__).resolve().parents[3]
PEERS = "casync,zchunk,xdelta3,zstd,rsync,python-tuf"


def test_it_prints_a_row_for_each_way(tmp_path: Path) -> None:
    first = images.first()
    for name, image in (("v1", first), ("v2a", images.edited(first)), ("v2b", images.moved(first))):
        (tmp_path / f"{name}.img").write_bytes(image)
    # The packages are the installed ones: only the tests' own folder is added.
    command = [sys.executable, "-P", str(ROOT / "bench/update.py"), str(tmp_path), "--runs", "1", "--without", PEERS]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for image in ("v2a", "v2b"):
        assert f"{image}: medians of 1 runs" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith(("vmgate", "dd"))]
    ways = ["vmgate, last release", "vmgate, look-up only", "vmgate, unseen base", "dd with fsync"]
    assert [row.split("  ")[0] for row in rows] == ways * 2
    assert not (tmp_path / "work").exists()
