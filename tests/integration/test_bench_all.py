# SPDX-License-Identifier: Apache-2.0
"""One command still runs every benchmark and writes the page of all; no figure is looked at."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_all", ROOT / "bench/all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_all"] = module
    spec.loader.exec_module(module)
    return module


def test_every_benchmark_is_among_all() -> None:
    listed = {one.name for one in bench().BENCHES} | bench().WORKERS
    assert {path.stem for path in (ROOT / "bench").glob("*.py")} == listed
    assert all((ROOT / "docs" / one.more).is_file() for one in bench().BENCHES)


def test_the_page_is_of_all_of_them() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text()
    for one in bench().BENCHES:
        assert f"## {one.title}\n" in text, "run it again: make bench"
        assert f"({one.more})" in text
    assert "| processor |" in text
    assert "| load before each, and at the end |" in text


def test_one_command_runs_all_and_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    # Measuring and updating have smoke tests of their own, which know what their rows are called.
    options = ["--small", "--only", "attest,scale", "--out", str(page)]
    command = [sys.executable, "-P", str(ROOT / "bench/all.py"), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "Keylime: no environment with it was given" in text
    assert "whole, IMA list of one entry" in text
    assert "20 releases, 40 artifacts" in text
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks.md"]


def test_a_benchmark_that_fails_writes_no_page(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    command = [sys.executable, "-P", str(ROOT / "bench/all.py"), "--only", "update", "--images", "/nowhere"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run([*command, "--out", str(page)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "bench/update.py exited 1" in done.stderr
    assert not page.exists()
