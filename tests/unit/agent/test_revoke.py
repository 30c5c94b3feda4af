# SPDX-License-Identifier: Apache-2.0
"""A VM that was taken back gets its notice and its end, whatever restarts, resumes or fails on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.audit import AuditTrail, records
from agent.revocation import LOCKED, REVOKED, UNASSIGNED, Order, order
from agent.revoke import Hands, Revoker, since_boot
from content import durable
from documents.revocation import Revocation
from hypervisor.errors import HypervisorError
from lab.audit_table import require_as_promised

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
NAME = "hello"
POLICY = Revocation(act="suspend", seconds=100, message="")


class Place:
    """A host with one VM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "revoked"
        self.vm = "running"
        self.time = 1_000.0
        self.cause = REVOKED
        self.policy = POLICY
        self.broken = False
        self.did: list[str] = []
        self.said: list[str] = []
        self.trail = folder / "audit"
        self.audit = AuditTrail(self.trail, lambda: 1_800_000_000, BOOT)
        self.revoker = self.another()

    def another(self) -> Revoker:
        """As another agent would be."""
        hands = Hands(
            announce=self.said.append,
            drop=lambda name: self.did.append(f"drop {name}"),
            shred=lambda name: self.did.append(f"shred {name}"),
        )
        return Revoker(self.folder, self, self.orders, hands, self.audit, lambda: self.time)

    def orders(self) -> dict[str, tuple[str, Order]]:
        return {NAME: (self.cause, order(self.cause, NAME, self.policy))} if self.cause else {}

    def state(self, name: str) -> str:
        assert name == NAME
        return self.vm

    def suspend(self, name: str) -> None:
        self._do(f"suspend {name}", "paused")

    def kill(self, name: str) -> None:
        self._do(f"kill {name}", "off")

    def _do(self, what: str, state: str) -> None:
        if self.broken:
            raise HypervisorError("x", cause="libvirt has a job", remedy="wait")
        self.did.append(what)
        self.vm = state

    def outcomes(self) -> list[str]:
        require_as_promised(records(self.trail))
        return [record.outcome for record in records(self.trail) if record.event == "vm-revoke"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_its_user_is_told_once_and_it_ends_at_the_deadline(place: Place) -> None:
    place.revoker.look()
    place.time += 99
    place.revoker.look()
    assert (place.did, len(place.said), place.outcomes()) == ([], 1, ["started"])
    place.time += 1
    place.revoker.look()
    place.revoker.look()
    assert (place.did, len(place.said)) == ([f"suspend {NAME}"], 1)
    assert place.outcomes() == ["started", "done"]


def test_another_agent_goes_on_with_the_same_deadline(place: Place) -> None:
    place.revoker.look()
    place.time += 100
    place.another().look()
    assert (place.did, len(place.said)) == ([f"suspend {NAME}"], 1)


def test_what_was_suspended_and_is_resumed_is_suspended_again_without_a_notice(place: Place) -> None:
    place.revoker.look()
    place.time += 100
    place.revoker.look()
    place.vm = "running"
    place.revoker.look()
    assert place.did == [f"suspend {NAME}"] * 2


def test_what_its_user_paused_is_killed_all_the_same_where_policy_kills(place: Place) -> None:
    place.policy = Revocation(act="kill", seconds=0, message="")
    place.vm = "paused"
    place.revoker.look()
    assert place.did == [f"kill {NAME}"]


def test_a_lock_does_not_wait_and_drops_the_keys(place: Place) -> None:
    place.cause = LOCKED
    place.revoker.look()
    assert place.did == [f"suspend {NAME}", f"drop {NAME}"]


def test_what_is_not_assigned_any_more_is_killed_and_its_keys_are_gone(place: Place) -> None:
    place.cause = UNASSIGNED
    place.revoker.look()
    place.time += 100
    place.revoker.look()
    assert place.did == [f"kill {NAME}", f"drop {NAME}", f"shred {NAME}"]


def test_what_was_taken_back_by_mistake_goes_on_and_a_later_word_has_its_own_notice(place: Place) -> None:
    place.revoker.look()
    place.cause = ""
    place.time += 99
    place.revoker.look()
    place.cause = REVOKED
    place.time += 99
    place.revoker.look()
    assert place.did == []
    assert len(place.said) == 2


def test_a_word_that_was_taken_back_while_no_agent_ran_leaves_no_deadline_behind(place: Place) -> None:
    place.revoker.look()
    place.cause = ""
    place.another().look()
    place.cause = REVOKED
    place.time += 99
    place.another().look()
    assert place.did == []


def test_an_end_that_fails_is_told_once_and_tried_again(place: Place) -> None:
    place.revoker.look()
    place.time += 100
    place.broken = True
    for _ in range(3):
        place.revoker.look()
    assert place.outcomes() == ["started", "failed"]
    place.broken = False
    place.revoker.look()
    assert place.outcomes() == ["started", "failed", "done"]


def test_a_note_that_is_damaged_puts_nothing_off(place: Place) -> None:
    place.revoker.look()
    durable.write_file(place.folder / NAME, b"tomorrow")
    place.revoker.look()
    assert place.did == [f"suspend {NAME}"]


def test_a_full_disk_does_not_let_it_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise HypervisorError("x", cause="no room", remedy="make room")

    monkeypatch.setattr(place.audit, "append", full)
    place.cause = LOCKED
    place.revoker.look()
    assert place.did[0] == f"suspend {NAME}"


def test_one_that_is_off_already_needs_no_end_and_its_keys_go_once(place: Place) -> None:
    place.cause = LOCKED
    place.vm = "off"
    place.revoker.look()
    place.revoker.look()
    assert place.did == [f"drop {NAME}"]


def test_what_its_user_paused_before_is_held_so_and_recorded(place: Place) -> None:
    place.cause = LOCKED
    place.vm = "paused"
    place.revoker.look()
    place.revoker.look()
    assert place.did == [f"suspend {NAME}", f"drop {NAME}"]
    assert place.outcomes() == ["started", "done"]


def test_the_deadline_runs_on_a_clock_that_nobody_sets() -> None:
    first = since_boot()
    assert 0 < first <= since_boot()
