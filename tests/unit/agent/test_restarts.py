# SPDX-License-Identifier: Apache-2.0
"""Which running VM is restarted when, and what a running VM is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from agent.desktop import announce, on_metered
from agent.restarts import wants_restart
from agent.running import Running, told
from agent.wave_place import wave_place
from documents.definition import RESTARTS
from documents.errors import DocumentError
from documents.unattended import RunningVm

OLD = RunningVm(
    name="hello", channel="workload", number=1, definition="a" * 64, images=(("system", "b" * 64),), platform=1,
    reference="c" * 64,
)  # fmt: skip
NEW = replace(OLD, number=2, definition="d" * 64)
SAME = replace(OLD, number=2, platform=2)
"""Of newer releases that change neither the VM nor the VMM."""
NEW_VMM = replace(OLD, platform=2, reference="e" * 64)


@pytest.mark.parametrize("installed", [NEW, NEW_VMM])
def test_what_differs_is_restarted_as_its_definition_says(installed: RunningVm) -> None:
    for policy, may in itertools.product(RESTARTS, (False, True)):
        expected = {"at-next-stop": False, "now": True, "window": may}[policy]
        assert wants_restart(policy, OLD, installed, may=may) is expected


@pytest.mark.parametrize("running", [None, OLD])
def test_what_is_off_or_would_not_change_is_left_alone(running: RunningVm | None) -> None:
    for policy, may in itertools.product(RESTARTS, (False, True)):
        assert not wants_restart(policy, running, SAME, may=may)


def test_what_a_vm_runs_is_kept_while_it_runs(tmp_path: Path) -> None:
    running = Running(tmp_path / "running")
    assert running.of("hello") is None
    running.note(OLD)
    assert Running(tmp_path / "running").of("hello") == OLD
    assert told(OLD) == {
        "channel": "workload", "number": 1, "platform": 1, "images": [{"disk": "system", "fsverity": "b" * 64}],
    }  # fmt: skip
    running.forget("hello")
    assert running.of("hello") is None


def test_a_damaged_record_of_a_running_vm_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "hello").write_bytes(b"{}")
    assert Running(tmp_path).of("hello") is None


def test_a_host_keeps_its_place_in_the_waves(tmp_path: Path) -> None:
    path = tmp_path / "wave-place"
    place = wave_place(path)
    assert 0 <= place <= 999
    assert {wave_place(path) for _ in range(5)} == {place}
    assert path.stat().st_mode & 0o077 == 0, "told to nobody"
    assert len({wave_place(tmp_path / str(n)) for n in range(20)}) > 1
    path.write_bytes(b"{}")
    with pytest.raises(DocumentError):
        wave_place(path)


@pytest.mark.parametrize(
    ("script", "metered"),
    [
        ("echo u 1", True),
        ("echo u 3", True),
        ("echo u 0", False),
        ("echo u 2", False),
        ("echo u 4", False),
        ("echo u 1; exit 1", False),
        ("echo nonsense", False),
    ],
)
def test_networkmanager_says_what_is_metered(tmp_path: Path, script: str, metered: bool) -> None:
    busctl = tmp_path / "busctl"
    busctl.write_text(f"#!/bin/sh\n{script}\n")
    busctl.chmod(0o755)
    assert on_metered(busctl) is metered
    assert not on_metered(tmp_path / "missing")


def test_a_word_before_a_restart_goes_to_wall(tmp_path: Path) -> None:
    wall = tmp_path / "wall"
    wall.write_text(f"#!/bin/sh\ncat > {tmp_path}/heard\n")
    wall.chmod(0o755)
    announce("-n hello restarts", wall)
    assert (tmp_path / "heard").read_text() == "-n hello restarts\n"
    announce("nobody hears it", tmp_path / "missing")
