# SPDX-License-Identifier: Apache-2.0
"""Rules for every test: one marker by folder, no silent skip, and a word about what this run could not show.

A skipped test fails the run unless ``VMGATE_ALLOW_SKIP=1`` is set: a known gap is a strict xfail with a reason.
This module offers no fixtures; those live in ``tests/lab`` and beside the tests that use them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from lab.outcomes import plugin

HERE = Path(__file__).resolve().parent
RUNNERS = ("pure", "emulated", "rig", "kvm_hw")
BY_FOLDER = {
    "architecture": "pure",
    "conformance": "pure",
    "crash": "pure",
    "fuzz": "pure",
    "unit": "pure",
    "attacks": "emulated",
    "integration": "emulated",
    "rig": "rig",
}
NOT_SHOWN = ("kvm_hw", "long", "rig")

# Tests never time anything, and a run says the same thing twice; exploring is what the fuzz environment is for.
settings.register_profile(
    "vmgate", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vmgate")


class Report:
    """What this run left out: tests that were skipped, and tests that need another machine."""

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self.not_shown: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Give each test the marker of its folder, unless it carries one of its own."""
        for item in items:
            if any(item.get_closest_marker(name) for name in RUNNERS):
                continue
            folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
            if folder not in BY_FOLDER:
                raise pytest.UsageError(f"{item.nodeid}: mark it with one of {', '.join(RUNNERS)}")
            item.add_marker(BY_FOLDER[folder])

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Remember what was left out because of the machine."""
        self.not_shown += [i.nodeid for i in items if any(i.get_closest_marker(name) for name in NOT_SHOWN)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember skips; an expected failure is reported as a skip too, but is none."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember modules that were skipped while collecting."""
        if report.skipped:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Turn a skip into a failed run."""
        if self.skipped and session.exitstatus == pytest.ExitCode.OK and not os.environ.get("VMGATE_ALLOW_SKIP"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        # A worker process of pytest-xdist: only the process that started it prints what was left out.
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["not_shown"] = self.not_shown
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over what a worker left out; each of them leaves out the same."""
        self.not_shown = getattr(node, "workeroutput", {}).get("not_shown", self.not_shown)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List both, so that nobody takes this run for more than it is."""
        if self.not_shown:
            terminalreporter.section("not shown here", sep="-")
            for nodeid in sorted(self.not_shown):
                terminalreporter.write_line(nodeid)
        if self.skipped:
            terminalreporter.section("skipped, so this run failed (VMGATE_ALLOW_SKIP=1 allows it)", sep="-")
            for nodeid in self.skipped:
                terminalreporter.write_line(nodeid)


def pytest_configure(config: pytest.Config) -> None:
    """Put the rules in force."""
    config.pluginmanager.register(Report(), "vmgate-report")
    outcomes = plugin(config)
    if outcomes is not None:
        config.pluginmanager.register(outcomes, "vmgate-outcomes")
