# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the gate still runs, with two VMs and one run, and no watch finds anything in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.world import folder

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def test_it_prints_what_the_gate_adds_and_what_came_of_the_goals() -> None:
    with folder("bench") as below:
        place = below / "bench"
        command = [sys.executable, "-P", str(ROOT / "bench/gate.py"), str(place), "--runs", "1", "--vms", "2"]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not place.exists()
    assert done.stdout.startswith("2 VMs, medians of 1 runs, in ms\n")
    assert [line.count("|") for line in done.stdout.splitlines() if line.startswith("|")] == [6] * 5
    assert done.stdout.count("goal: ") == 2
