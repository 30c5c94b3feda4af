# SPDX-License-Identifier: Apache-2.0
"""A start that makes or opens a VM's disks, and the stop that closes them, cut anywhere or without room.

Whatever is left: nothing that a guest wrote is lost, a sealed disk is never taken for one that was closed, and an
administrator can go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.crash import crash_points
from lab.disk_vms import DiskHost
from lab.faults import fault_points

WRITTEN = b"written by the guest".ljust(4096, b"\0")


@pytest.fixture(autouse=True)
def small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key area of one block: what stands in it is no matter here, and every point would copy 2 MiB."""
    drawn = random.Random(7)
    monkeypatch.setattr("agent.disks.encode_key_area", lambda *_: drawn.randbytes(4096))


def _host(root: Path) -> DiskHost:
    """An agent that has just been started. States are made in several folders, with one image below the overlays."""
    return DiskHost(root, base=root.parent / "base.img")


def _ran(root: Path) -> None:
    """A VM that ran, wrote and stopped."""
    _running(root)
    _stop(root)


def _running(root: Path) -> None:
    """A VM that runs and wrote."""
    host = _host(root)
    host.start()
    for disk in ("setup", "data"):
        host.path(disk).write_bytes(host.path(disk).read_bytes() + WRITTEN)


def _stop(root: Path) -> None:
    """Its stop, seen by an agent that took over."""
    host = _host(root)
    host.disks.adopt(host.vm, host.secret)
    host.stop()


def _start(root: Path) -> None:
    _host(root).start()


OPERATIONS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "first start": (_host, _start),
    "start": (_ran, _start),
    "stop": (_running, _stop),
}


def _go_on(root: Path, label: str, *, wrote: bool) -> None:
    """What every next start must find, whatever was cut."""
    host = _host(root)
    found = host.look()
    assert found["setup"] in ("pass", "fail"), label
    if found["setup"] == "pass" and wrote:
        assert host.record("setup").state == "closed", label
    host.accept()
    assert host.look() in ({"setup": "pass", "data": "pass"}, {"setup": "pass", "data": "warn"}), label
    if wrote:
        assert host.path("data").read_bytes().endswith(WRITTEN), label
        assert host.path("setup").read_bytes().endswith(WRITTEN), label
    host.start()
    host.stop()
    assert host.look() == {"setup": "pass", "data": "pass"}, label


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_cut_anywhere_loses_nothing_and_closes_nothing(tmp_path: Path, name: str) -> None:
    prepare, operation = OPERATIONS[name]
    points = 0
    for point in crash_points(tmp_path, prepare, operation):
        _go_on(point.root, point.label, wrote=name != "first start")
        points += 1
    assert points > 20


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_refused_effect_loses_nothing_and_closes_nothing(tmp_path: Path, name: str) -> None:
    prepare, operation = OPERATIONS[name]
    for point in fault_points(tmp_path, prepare, operation):
        _go_on(point.root, point.label, wrote=name != "first start")
