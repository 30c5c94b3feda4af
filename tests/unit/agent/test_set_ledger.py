# SPDX-License-Identifier: Apache-2.0
"""Which sets of a VM may come in: none that is older than what the host knows, by its audit trail alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.audit import AuditTrail
from agent.paths import HostPaths
from agent.set_ledger import SetLedger

UUID, OTHER = "3e2d9c1a-5b7f-4d21-8c3e-0123456789ab", "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d99"


class Ledgers:
    """One that looks on from the first record, and one that reads the trail afterwards."""

    def __init__(self, root: Path) -> None:
        self._paths = HostPaths(root)
        self.audit = AuditTrail(self._paths.audit, lambda: 0, "5c0ffee0-1ab0-4e57-8b3d-0123456789ab")
        self._live = SetLedger(self._paths, self.audit)
        self.least()

    def least(self, uuid: str = UUID) -> int:
        later = SetLedger(self._paths, self.audit)
        assert later.least(uuid) == self._live.least(uuid)
        assert later.next(uuid) == self._live.next(uuid)
        return self._live.least(uuid)

    def next(self, uuid: str = UUID) -> int:
        return self._live.next(uuid)

    def note(self, event: str, outcome: str = "done", number: int = 0, uuid: str = UUID, name: str = "demo") -> None:
        details = {"uuid": uuid, "number": str(number)} if number else {}
        self.audit.append(event, outcome, name, "test", **details)


@pytest.fixture
def ledgers(tmp_path: Path) -> Ledgers:
    return Ledgers(tmp_path)


def test_of_a_vm_that_is_not_known_any_set_may_come(ledgers: Ledgers) -> None:
    assert (ledgers.least(), ledgers.next()) == (1, 1)


def test_one_that_was_exported_may_come_back_until_the_vm_runs(ledgers: Ledgers) -> None:
    ledgers.note("vm-export", "started", 1)
    ledgers.note("vm-export", "done", 1)
    assert (ledgers.least(), ledgers.next()) == (1, 2)
    ledgers.note("vm-start", "refused")
    assert ledgers.least() == 1
    ledgers.note("vm-start", "started")
    assert (ledgers.least(), ledgers.next()) == (2, 2)


def test_an_export_that_failed_takes_a_number_and_shuts_nothing_out(ledgers: Ledgers) -> None:
    ledgers.note("vm-export", "done", 1)
    ledgers.note("vm-export", "started", 2)
    ledgers.note("vm-export", "failed", 2)
    assert (ledgers.least(), ledgers.next()) == (1, 3)


def test_one_that_was_imported_comes_once(ledgers: Ledgers) -> None:
    ledgers.note("vm-import", "started", 5)
    assert ledgers.least() == 1
    ledgers.note("vm-import", "done", 5)
    ledgers.note("vm-delete", "done")
    assert (ledgers.least(), ledgers.next()) == (6, 6)


def test_vms_do_not_count_for_each_other(ledgers: Ledgers) -> None:
    ledgers.note("vm-export", "done", 3)
    ledgers.note("vm-start", "done", name="other")
    assert (ledgers.least(), ledgers.least(OTHER)) == (3, 1)
