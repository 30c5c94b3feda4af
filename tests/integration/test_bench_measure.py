# SPDX-License-Identifier: Apache-2.0
"""The benchmark of measuring still runs, on a small image and beside all its peers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_prints_a_row_for_each_way_and_what_came_of_the_goals(tmp_path: Path) -> None:
    # The packages are the installed ones.
    command = [sys.executable, "-P", str(ROOT / "bench/measure.py"), str(tmp_path), "--runs", "1", "--mebibytes", "65"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "65 MiB, medians of 1 runs" in done.stdout
    for way in ("vmgate image digest", "fsverity digest", "sha256sum", "openssl dgst -sha256"):
        assert any(line.startswith(way) for line in done.stdout.splitlines()), way
    assert done.stdout.count("goal: ") == 3
    assert not list(tmp_path.iterdir())
