# SPDX-License-Identifier: Apache-2.0
"""What became of each test, kept beside the tree that was tested, so that the last step of CI can compare.

A plug-in of pytest, put in force by ``tests/conftest.py``. It keeps nothing unless tox runs it, and decides nothing.
Standard library only, for ``lab.evidence`` reads what it wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CODE = (
    "vmgate", "publisher", "agent", "fleet", "updater", "measure", "hypervisor", "keys", "content", "documents", "tests"
)  # fmt: skip
WORSE = ("passed", "expected failure", "skipped", "failed")


def folder() -> Path:
    """Where outcomes lie."""
    return Path(os.environ.get("VMGATE_CACHE") or ROOT / ".cache") / "outcomes"


def fingerprint(root: Path = ROOT) -> str:
    """SHA-256 over all code and tests: outcomes of another tree count for nothing."""
    digest = hashlib.sha256()
    files = [path for name in CODE for path in (root / name).rglob("*.py")] + [root / "tests/sfr.toml"]
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


class Outcomes:
    """Collects what became of each test function; the worst of its cases counts."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[str, str] = {}

    def pytest_sessionstart(self, session: object) -> None:
        """What an earlier run said is no longer true."""
        self.file.unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Remember the call, and whatever went wrong around it."""
        if report.when != "call" and report.passed:
            return
        expected = report.skipped and hasattr(report, "wasxfail")
        outcome = "expected failure" if expected else report.outcome
        test = report.nodeid.partition("[")[0]
        self.found[test] = max(outcome, self.found.get(test, "passed"), key=WORSE.index)

    def pytest_sessionfinish(self, session: object) -> None:
        """Write it down whole, or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        content = {"environment": self.file.stem, "fingerprint": fingerprint(), "tests": self.found}
        new.write_text(json.dumps(content, indent=1, sort_keys=True))
        new.replace(self.file)


def plugin(config: Any) -> Outcomes | None:
    """The plug-in, where tox runs the tests and this is not one of several workers."""
    environment = os.environ.get("TOX_ENV_NAME")
    if not environment or hasattr(config, "workerinput"):
        return None
    return Outcomes(folder() / f"{environment}.json")


def load(where: Path, wanted: str) -> dict[str, str]:
    """All outcomes of the tree with this fingerprint; the worst of several runs counts."""
    found: dict[str, str] = {}
    for file in sorted(where.glob("*.json")):
        content = json.loads(file.read_text())
        if content["fingerprint"] != wanted:
            continue
        for test, outcome in content["tests"].items():
            found[test] = max(outcome, found.get(test, "passed"), key=WORSE.index)
    return found
